"""The catalogue says what the publishers say, and models come in whole, checked, or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers.file_server import FileServer, file_response, file_server, status_response
from helpers.image_swin import image_state, save_checkpoint
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.assets import asset, kinetics400_labels
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import DownloadError, ModelError
from vtag.engine.models.catalog import read_catalog
from vtag.engine.models.registry import (
    STARTER,
    import_model,
    installed_folder,
    installed_models,
    is_installed,
    load_model,
    locate_model,
    pull_model,
    remove_model,
    verify_model,
)
from vtag.engine.paths import models_dir

GOLDEN = Path(__file__).parents[1] / "data" / "golden"
TORCH, PADDLE = GOLDEN / "control_ok.pth", GOLDEN / "control_ok.pdparams"
CLASSES = len(load_checkpoint(TORCH).spec.labels)

PUBLISHED = {
    "swin3d-t": ("https://download.pytorch.org/models/swin3d_t-7615ae03.pth", 121.5, 77.715),
    "swin3d-s": ("https://download.pytorch.org/models/swin3d_s-da41c237.pth", 218.3, 79.521),
    "swin3d-b": ("https://download.pytorch.org/models/swin3d_b_1k-24f7c7c6.pth", 364.1, 79.427),
    "swin3d-b-22k": ("https://download.pytorch.org/models/swin3d_b_22k-7c6ae6fa.pth", 364.1, 81.643),
    "paddle-small": ("VideoSwin_small_k400.pdparams", None, 80.18),
    "paddle-base": ("VideoSwin_base_k400.pdparams", None, 82.40),
    "official-tiny": ("swin_tiny_patch244_window877_kinetics400_1k.pth", None, 78.8),
    "official-small": ("swin_small_patch244_window877_kinetics400_1k.pth", None, 80.6),
    "official-base": ("swin_base_patch244_window877_kinetics400_1k.pth", None, 80.6),
    "official-base-22k": ("swin_base_patch244_window877_kinetics400_22k.pth", None, 82.7),
    "official-base-k600": ("swin_base_patch244_window877_kinetics600_22k.pth", None, 84.0),
    "official-base-sthv2": ("swin_base_patch244_window1677_sthv2.pth", None, 69.6),
    "image-small": ("swin_small_patch4_window7_224.pdparams", None, None),
    "image-base": ("swin_base_patch4_window7_224.pdparams", None, None),
}


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def publish(server: FileServer, vtag_home: Path) -> Callable[..., str]:
    """Makes a catalogue entry of one's own, whose file the local server has; returns its name."""

    def add(body: bytes, name: str = "published", path: str = "/model.pth", **values: object) -> str:
        server.serve(file_response(body), path)
        fields = {"title": "a small model", "licence": "CC0-1.0", "url": server.url(path), **values}
        lines = [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
        (vtag_home / "models.toml").write_text("\n".join(lines) + "\n")
        return name

    return add


def installed_names() -> list[str]:
    return [model.name for model in installed_models() if model.name != STARTER]


def stray_files() -> list[str]:
    """Everything below the models' folder but what is installed and the record of downloads."""
    root = models_dir()
    names = (str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir())
    return sorted(n for n in names if n.split(os.sep)[0] not in installed_names() and n != "downloads.json")


def refused(call: Callable[..., object], *arguments: object, **kwargs: object) -> str:
    with pytest.raises(ModelError) as caught:
        call(*arguments, **kwargs)
    assert str(caught.value).isprintable()
    return str(caught.value)


# --- the catalogue


def test_the_catalogue_holds_what_was_published() -> None:
    entries = read_catalog()
    assert list(entries) == list(PUBLISHED)
    for name, (url, size, top1) in PUBLISHED.items():
        entry = entries[name]
        assert entry.url.endswith(url)
        assert (entry.size_mb, entry.top1) == (size, top1)


def test_every_address_is_https_and_its_hash_is_the_one_in_the_name() -> None:
    for entry in read_catalog().values():
        assert urlsplit(entry.url).scheme == "https"
        assert entry.kind == ("image" if entry.name.startswith("image-") else "video")
        if entry.host == "download.pytorch.org":
            assert entry.url.endswith(f"-{entry.sha256}.pth")
            assert len(entry.sha256) == 8
        else:
            assert entry.sha256 == ""


def test_the_labels_that_the_catalogue_names_are_there() -> None:
    for entry in read_catalog().values():
        if entry.labels:
            names = asset("labels", entry.labels).read_text(encoding="utf-8").splitlines()
            assert len(set(names)) == entry.classes
        elif entry.kind == "video":
            assert "--labels" in entry.note


def test_entries_of_ones_own_win(publish: Callable[..., str]) -> None:
    publish(b"", name="swin3d-t")
    assert read_catalog()["swin3d-t"].host == "127.0.0.1"
    assert len(read_catalog()) == len(PUBLISHED)


@pytest.mark.parametrize(
    "text",
    [
        "[x",
        "x = 3",
        "[x]\ntitle = 'a'",
        "[x]\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 'l'\nextra = 1",
        "[x]\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 3",
        "[x]\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 'l'\nsize_mb = true",
        "[x]\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 'l'\nkind = 'audio'",
        "[x]\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 'l'\nsha256 = 'ABC'",
        "['../x']\ntitle = 'a'\nurl = 'https://h/f'\nlicence = 'l'",
        "['\\u001b']\ntitle = 'a'",
        "[x]\ntitle = 'a'\n\x00",
    ],
)
def test_a_catalogue_of_ones_own_that_is_not_sound_is_named(vtag_home: Path, text: str) -> None:
    (vtag_home / "models.toml").write_text(text)
    assert "models.toml" in refused(read_catalog)


# --- in by hand


@pytest.mark.parametrize("file", [TORCH, PADDLE])
def test_an_imported_file_is_the_same_model(file: Path) -> None:
    assert import_model(file) == "control_ok"
    ours, theirs = load_model("control_ok"), load_checkpoint(file)
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(np.array_equal(ours.tensors[name], theirs.tensors[name]) for name in ours.tensors)
    assert (ours.spec.backbone_hash, ours.spec.head_hash) == (
        theirs.spec.backbone_hash,
        theirs.spec.head_hash,
    )
    assert ours.spec.name == "control_ok"
    assert ours.spec.source == file.name
    assert stray_files() == []
    verify_model("control_ok")


def test_a_model_folder_is_imported_with_its_own_words(tmp_path: Path) -> None:
    import_model(TORCH, "first", [f"act {i}" for i in range(CLASSES)])
    assert import_model(installed_folder("first"), "second") == "second"
    assert load_model("second").spec.labels == load_model("first").spec.labels
    assert load_model("second").spec.source == "control_ok.pth"
    assert load_model("second").spec.name == "second"


def test_labels_come_from_the_one_who_imports() -> None:
    labels = [f"act {i}" for i in range(CLASSES)]
    import_model(TORCH, "mine", labels)
    assert load_model("mine").spec.labels == tuple(labels)
    assert "labels" in refused(import_model, TORCH, "other", labels[1:])
    assert installed_names() == ["mine"]
    assert stray_files() == []


def test_a_name_that_is_taken_is_refused_and_nothing_changes() -> None:
    import_model(TORCH, "mine")
    sha256 = load_model("mine").spec.sha256
    for name in ("mine", STARTER):
        assert "here already" in refused(import_model, PADDLE, name)
    assert load_model("mine").spec.sha256 == sha256


@pytest.mark.parametrize(
    "name", ["", "..", ".hidden", "a/b", "a\\b", "A", "é", "-a", "a" * 65, "a\n", "a.", "/tmp/x"]
)
def test_a_name_is_no_path(name: str, tmp_path: Path) -> None:
    if name:
        assert "name" in refused(import_model, TORCH, name)
    for call in (installed_folder, verify_model, remove_model, pull_model):
        refused(call, name)
    assert not is_installed(name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20))
def test_no_name_leads_out_of_the_models_folder(vtag_home: Path, name: str) -> None:
    for call in (installed_folder, remove_model, verify_model, pull_model):
        try:
            call(name)
        except ModelError as error:
            assert str(error).isprintable()
        else:
            assert name == STARTER


def test_what_is_no_checkpoint_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "page.pth").write_text("<html>")
    assert "web page" in refused(import_model, tmp_path / "page.pth")
    assert "no such file" in refused(import_model, tmp_path / "missing.pth")
    os.mkfifo(tmp_path / "pipe.pth")
    refused(import_model, tmp_path / "pipe.pth")
    assert installed_names() == []
    assert stray_files() == []


def test_a_file_that_takes_a_catalogue_name_has_to_be_that_file(publish: Callable[..., str]) -> None:
    digest = hashlib.sha256(TORCH.read_bytes()).hexdigest()
    assert "not the published" in refused(import_model, TORCH, "swin3d-t")
    publish(b"", sha256=digest[:8], classes=CLASSES, rate=8)
    assert "not the published" in refused(import_model, PADDLE, "published")
    import_model(TORCH, "published")
    spec = load_model("published").spec
    assert (spec.licence, spec.rate) == ("CC0-1.0", 8.0)
    assert spec.source.endswith("/model.pth")
    assert pull_model("published") == installed_folder("published")


def test_a_published_model_with_other_classes_is_another_model(publish: Callable[..., str]) -> None:
    publish(b"", classes=CLASSES + 1)
    assert "classes" in refused(import_model, TORCH, "published")


# --- downloads


def test_a_pulled_model_is_converted_described_and_its_download_is_gone(
    publish: Callable[..., str], server: FileServer
) -> None:
    body = TORCH.read_bytes()
    publish(body, sha256=hashlib.sha256(body).hexdigest()[:8], classes=CLASSES)
    calls: list[int] = []
    folder = pull_model("published", on_progress=lambda have, _: calls.append(have))
    assert sorted(p.name for p in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert calls[-1] == len(body)
    assert installed_names() == ["published"]
    assert stray_files() == []
    assert load_model("published").spec.source == server.url()
    verify_model("published")
    pull_model("published")
    assert len(server.requests) == 1


def test_nothing_is_downloaded_unasked(publish: Callable[..., str], server: FileServer) -> None:
    publish(TORCH.read_bytes(), size_mb=121.5)
    message = refused(load_model, "published")
    assert "`vtag models pull published`" in message
    assert "121.5 MB" in message
    assert "127.0.0.1" in message
    assert "CC0-1.0" in message
    assert "`vtag models import FILE --name published`" in message
    read_catalog()
    installed_models()
    assert server.requests == []


def test_where_no_hash_is_published_the_first_download_is_held_to(
    publish: Callable[..., str], server: FileServer
) -> None:
    publish(TORCH.read_bytes())
    pull_model("published")
    recorded = json.loads((models_dir() / "downloads.json").read_text())
    assert recorded[server.url()]["sha256"] == hashlib.sha256(TORCH.read_bytes()).hexdigest()
    remove_model("published")
    publish(PADDLE.read_bytes())
    assert "another file" in refused(pull_model, "published")
    assert "not the published" in refused(import_model, PADDLE, "published")
    assert installed_names() == []
    publish(TORCH.read_bytes())
    pull_model("published")


def test_what_is_no_model_is_not_recorded_as_the_first_download(
    publish: Callable[..., str], server: FileServer
) -> None:
    publish(b"\x80\x02rubbish")
    message = refused(pull_model, "published")
    assert "127.0.0.1" in message
    assert "by hand" in message
    assert installed_names() == []
    assert stray_files() == []
    publish(TORCH.read_bytes())
    pull_model("published")


def test_a_damaged_record_of_downloads_is_named(publish: Callable[..., str]) -> None:
    publish(TORCH.read_bytes())
    models_dir().mkdir()
    for text in ("{", "[]", '{"x": 3}', "[" * 100_000):
        (models_dir() / "downloads.json").write_text(text)
        assert "downloads.json" in refused(pull_model, "published")


def test_wrong_labels_are_known_before_the_download(publish: Callable[..., str], server: FileServer) -> None:
    publish(TORCH.read_bytes(), classes=CLASSES)
    assert "labels" in refused(pull_model, "published", ["only one"])
    assert server.requests == []
    pull_model("published", [f"act {i}" for i in range(CLASSES)])
    assert load_model("published").spec.labels[0] == "act 0"


def test_a_model_that_is_not_in_the_catalogue_is_not_pulled() -> None:
    message = refused(pull_model, "swin3d-x")
    assert "did you mean" in message
    assert "swin3d-t" in message


def test_a_broken_download_goes_on_with_the_next_pull(
    publish: Callable[..., str], server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = TORCH.read_bytes()
    publish(body)

    def interrupt(have: int, _total: int | None) -> None:
        raise KeyboardInterrupt

    server.serve(file_response(body, breaks=[20_000]))
    with pytest.raises(KeyboardInterrupt):
        pull_model("published", on_progress=lambda have, _: interrupt(have, _) if have else None)
    pull_model("published")
    assert server.ranges()[-1] is not None
    assert stray_files() == []


# --- image models


def test_an_image_model_is_kept_as_it_came(publish: Callable[..., str], tmp_path: Path) -> None:
    file = save_checkpoint(tmp_path / "image.pth", image_state())
    publish(file.read_bytes(), kind="image")
    folder = pull_model("published")
    assert locate_model("published") == folder / "published.pth"
    assert locate_model("published").read_bytes() == file.read_bytes()
    assert "image Swin" in refused(load_model, "published")
    assert [(m.kind, m.problem) for m in installed_models() if m.name == "published"] == [("image", "")]
    verify_model("published")
    remove_model("published")
    assert import_model(file, "by-hand") == "by-hand"
    assert locate_model("by-hand").read_bytes() == file.read_bytes()
    assert stray_files() == []


def test_a_video_model_is_no_image_model_and_neither_is_half_of_one(
    publish: Callable[..., str], tmp_path: Path
) -> None:
    publish(TORCH.read_bytes(), kind="image")
    assert "video model" in refused(pull_model, "published")
    state = image_state()
    del state["norm.bias"]
    publish(save_checkpoint(tmp_path / "half.pth", state).read_bytes(), kind="image")
    assert "norm.bias" in refused(pull_model, "published")
    assert installed_names() == []


@pytest.mark.parametrize(
    "change", [{"file": "../x"}, {"file": ""}, {"file": 3}, {"sha256": "0" * 64}, {"file": "none.pth"}]
)
def test_an_image_model_whose_words_were_changed_is_broken(tmp_path: Path, change: dict[str, object]) -> None:
    import_model(save_checkpoint(tmp_path / "image.pth", image_state()), "mine")
    words = models_dir() / "mine" / "image.json"
    words.write_text(json.dumps(json.loads(words.read_text()) | change))
    refused(verify_model, "mine")


# --- what is here


def test_a_changed_weight_is_found(tmp_path: Path) -> None:
    import_model(TORCH, "mine")
    weights = installed_folder("mine") / "model.safetensors"
    body = bytearray(weights.read_bytes())
    body[-5] ^= 1
    weights.write_bytes(body)
    assert "SHA-256" in refused(verify_model, "mine")
    weights.write_bytes(body[:-4])
    refused(verify_model, "mine")
    weights.unlink()
    refused(verify_model, "mine")
    assert [m.problem != "" for m in installed_models() if m.name == "mine"] == [True]
    remove_model("mine")
    assert installed_names() == []


def test_a_model_without_a_recorded_hash_cannot_be_verified() -> None:
    import_model(TORCH, "mine")
    spec = installed_folder("mine") / "model.json"
    spec.write_text(json.dumps(json.loads(spec.read_text()) | {"sha256": ""}))
    assert "no hash" in refused(verify_model, "mine")


def test_the_list_reads_no_weights_and_names_what_is_broken() -> None:
    import_model(TORCH, "mine")
    (models_dir() / "broken").mkdir()
    (models_dir() / "broken" / "model.json").write_text("{")
    (models_dir() / "empty").mkdir()
    (models_dir() / ".hidden").mkdir()
    (models_dir() / "notes.txt").write_text("not a model")
    models = {model.name: model for model in installed_models() if model.name != STARTER}
    assert sorted(models) == ["broken", "empty", "mine"]
    assert models["mine"].spec
    assert models["mine"].spec.source == "control_ok.pth"
    assert models["mine"].size_bytes > 20_000
    assert "model.json" in models["broken"].problem
    for name in ("broken", "empty"):
        remove_model(name)
    assert installed_names() == ["mine"]


def test_a_path_wins_where_it_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_model(TORCH, "mine")
    monkeypatch.chdir(tmp_path)
    assert locate_model("mine") == models_dir() / "mine"
    (tmp_path / "mine").mkdir()  # an ordinary folder is no model
    assert locate_model("mine") == models_dir() / "mine"
    for name in ("model.json", "model.safetensors"):
        (tmp_path / "mine" / name).write_bytes((models_dir() / "mine" / name).read_bytes())
    assert locate_model("mine") == Path("mine")
    (tmp_path / "swin3d-t").write_bytes(TORCH.read_bytes())
    assert locate_model("swin3d-t") == Path("swin3d-t")
    for missing in ("./mine2", "sub/mine", "mine.pth", "~/nothing-here", tmp_path / "x"):
        assert "there is no checkpoint at" in refused(locate_model, missing)


def test_kinetics_labels_are_given_to_the_models_that_were_trained_on_it() -> None:
    assert len(kinetics400_labels()) == read_catalog()["swin3d-t"].classes


def test_a_link_to_a_model_is_removed_and_the_model_stays(tmp_path: Path) -> None:
    import_model(TORCH, "mine")
    original = installed_folder("mine").rename(tmp_path / "kept")
    (models_dir() / "mine").symlink_to(original)
    assert is_installed("mine")
    remove_model("mine")
    assert not is_installed("mine")
    assert (original / "model.safetensors").is_file()


def test_the_starter_stays() -> None:
    if not is_installed(STARTER):
        pytest.skip("no starter in this tree")
    assert "stays" in refused(remove_model, STARTER)
    assert locate_model(STARTER) == installed_folder(STARTER)
    assert pull_of_the_starter() != ""


def pull_of_the_starter() -> str:
    return refused(pull_model, STARTER)


def test_neither_torch_nor_av_is_needed_to_know_what_is_here() -> None:
    program = (
        "import sys; from vtag.engine.models import catalog, registry;"
        "registry.installed_models(); catalog.read_catalog();"
        "print([m for m in ('torch', 'av', 'onnxruntime', 'gradio', 'sqlite_utils') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin3d-t", "paddle-small", "official-tiny", "image-small"])
def test_the_real_addresses_have_the_real_files(name: str) -> None:
    try:
        pull_model(name)
    except DownloadError as error:
        pytest.fail(str(error))
    verify_model(name)


def test_a_page_at_the_address_is_no_model(publish: Callable[..., str], server: FileServer) -> None:
    publish(b"")
    server.serve(status_response(200, b"<html>welcome</html>"))
    assert "web page" in refused(pull_model, "published")
    assert installed_names() == []
