"""Training the network for a person's tags: the model and what lies beside it, breaks, resuming, full disks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.small_model import make_model
from helpers.striped_clips import make_clips
from typer.testing import CliRunner

from vtag.app.cli import app
from vtag.engine.errors import ModelError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store.runs import recent_runs
from vtag.engine.models.registry import load_model
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.trainer.data.dataset import DatasetError, read_dataset
from vtag.trainer.evaluation.head_metrics import FinetuneResult
from vtag.trainer.heads.finetune import FinetuneBase, FinetuneSettings, finetune
from vtag.trainer.heads.finetune_network import NetworkSettings
from vtag.trainer.loop.loop import EpochDone
from vtag.trainer.loop.network import random_checkpoint
from vtag.trainer.loop.state_paths import STATE_FILE, state_folder

NETWORK = NetworkSettings(epochs=3, batch_size=8)
SETTINGS = FinetuneSettings(seed=4, device="cpu", network=NETWORK)


@pytest.fixture(autouse=True)
def _fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Found once, not once a home."""
    monkeypatch.setenv("MPLCONFIGDIR", str(Path(tempfile.gettempdir()) / "vtag-test-fonts"))


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of four clips, a base, and a library of other things that was scanned with it."""
    folder = tmp_path_factory.mktemp("network")
    make_model(folder / "base", seed=3)
    make_clips(folder / "labelled" / "red_stripes", "red", 4, seconds=1)
    make_clips(folder / "labelled" / "green stripes", "green", 4, seconds=1)
    make_clips(folder / "videos", "noise", 3, seconds=8)
    base = load_model(folder / "base")
    with LibraryWriter.open(folder / "library" / "library.db") as library:
        register_model(library, base, str(folder / "base"))
        list(scan(library, [os.fsencode(folder / "videos")], base, ScanOptions(device="cpu")))
    return folder


@pytest.fixture
def scanned(material: Path) -> Iterator[LibraryWriter]:
    with LibraryWriter.open(material / "library" / "library.db") as library:
        yield library


def begin(
    material: Path,
    library: LibraryWriter,
    out: Path,
    settings: FinetuneSettings = SETTINGS,
    base: FinetuneBase | None = None,
):  # type: ignore[no-untyped-def]
    base = base or FinetuneBase(load_model(material / "base"), str(material / "base"))
    return finetune(read_dataset(material / "labelled"), base, out, settings, library=library)


def teach(*arguments: object, **kwargs: object) -> FinetuneResult:
    *_, taught = begin(*arguments, **kwargs)
    assert isinstance(taught, FinetuneResult)
    return taught


def history(folder: Path) -> bytes:
    return (folder / "history.csv").read_bytes()


def test_a_trained_network_is_a_whole_model_that_knows_what_was_measured(
    material: Path, scanned: LibraryWriter, tmp_path: Path
) -> None:
    taught = teach(material, scanned, tmp_path / "model")
    assert set(taught.labels) == {"red stripes", "green stripes"}
    assert taught.negative_hours > 0 and taught.false_per_hour is not None
    assert {f.name for f in tmp_path.iterdir()} == {"model"}  # nothing of the training is left
    names = {f.name for f in (tmp_path / "model").iterdir()}
    assert names == {"model.json", "model.safetensors", "history.csv", "curves.png", "confusion.png"}
    assert (tmp_path / "model" / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert len(history(tmp_path / "model").splitlines()) == 4
    spec, base = load_model(tmp_path / "model").spec, load_model(material / "base").spec
    assert spec.labels == ("green stripes", "red stripes", "none of these")
    assert spec.backbone_hash != base.backbone_hash
    assert set(spec.label_thresholds) == {"green stripes", "red stripes"}
    run = recent_runs(scanned.connection)[0]
    assert (run.kind, run.state) == ("finetune", "done")
    columns = run.progress["history"]  # what the page draws while it runs
    assert columns["epoch"] == [1, 2, 3] and len(columns["val_loss"]) == len(columns["accuracy"]) == 3
    assert (run.progress["epoch"], run.progress["of"], run.progress["share"]) == (3, 3, 1.0)
    part = replace(SETTINGS, network=replace(NETWORK, part=1, epochs=1))
    teach(material, scanned, tmp_path / "part", part)
    base_tensors, part_tensors = load_model(material / "base").tensors, load_model(tmp_path / "part").tensors
    changed = {
        n for n in base_tensors if not n.startswith("head") and not (base_tensors[n] == part_tensors[n]).all()
    }
    assert changed and all(n.startswith(("stages.1.", "norm.")) for n in changed)


@pytest.mark.parametrize("leave_after", [1, 4])
def test_left_and_resumed_it_ends_as_if_nothing_had_happened(
    material: Path, scanned: LibraryWriter, tmp_path: Path, leave_after: int
) -> None:
    teach(material, scanned, tmp_path / "whole")
    steps, count = begin(material, scanned, tmp_path / "part"), 0
    for event in steps:
        count += type(event).__name__ in ("StepDone", "EpochDone")
        if count == leave_after:
            break
    steps.close()
    assert not (tmp_path / "part").exists()
    assert recent_runs(scanned.connection)[0].state == "interrupted"
    with pytest.raises(ModelError, match="unfinished training"):
        teach(material, scanned, tmp_path / "part")
    other_settings = replace(SETTINGS, resume=True, network=replace(NETWORK, epochs=4))
    with pytest.raises(ModelError, match="other settings"):
        teach(material, scanned, tmp_path / "part", other_settings)
    teach(material, scanned, tmp_path / "part", replace(SETTINGS, resume=True))
    assert recent_runs(scanned.connection)[0].progress["history"]["epoch"] == [
        1,
        2,
        3,
    ]  # what was before, too
    assert history(tmp_path / "part") == history(tmp_path / "whole")
    one, two = (load_model(tmp_path / name).spec for name in ("part", "whole"))
    assert (one.backbone_hash, one.head_hash) == (two.backbone_hash, two.head_hash)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_keeps_the_state_and_a_kill_leaves_nothing_half_written(
    material: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    process = start(material, out)
    process.send_signal(signal.SIGINT)
    _, output = process.communicate(timeout=200)
    assert process.returncode == 130, output
    assert "--resume goes on" in output and "Traceback" not in output
    state = (state_folder(out) / STATE_FILE).read_bytes()
    process = start(material, out, "--resume")
    process.kill()
    process.communicate()
    assert {f.name for f in tmp_path.iterdir()} == {state_folder(out).name}
    assert {f.name for f in state_folder(out).iterdir()} == {STATE_FILE, "others.json"}
    assert (state_folder(out) / STATE_FILE).read_bytes() == state


def start(material: Path, out: Path, *more: str) -> subprocess.Popen[str]:
    """A training in a process of its own that would go on for long, once its first epoch is over."""
    command = [sys.executable, "-m", "vtag.app", "finetune", str(material / "labelled"), "-o", str(out)]
    command += [
        "--train",
        "all",
        "--epochs",
        "400",
        "--device",
        "cpu",
        "--base",
        str(material / "base"),
        *more,
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("epoch ") and " of " in line:
            return process
    raise AssertionError("".join(lines))


def test_a_full_disk_ends_it_with_one_sentence(
    material: Path, scanned: LibraryWriter, tmp_path: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(small)]
    if sys.platform != "linux" or os.geteuid() or subprocess.run(mount).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        with pytest.raises(ModelError, match="No space left"):
            teach(material, scanned, small / "model")
        assert not (small / "model").exists()
        assert not list(small.rglob("*.part"))
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_random_weights_can_be_stood_on(material: Path, scanned: LibraryWriter, tmp_path: Path) -> None:
    base = FinetuneBase(random_checkpoint(load_model(material / "base").spec, seed=1), None)
    taught = teach(material, scanned, tmp_path / "model", FinetuneSettings(device="cpu"), base=base)
    assert taught.negative_hours > 0  # the library's videos were decoded for it
    spec = load_model(tmp_path / "model").spec
    assert spec.backbone_hash == base.checkpoint.spec.backbone_hash
    assert random_checkpoint(spec, seed=1).spec.backbone_hash == spec.backbone_hash


def test_too_few_sources_for_a_validation_are_said(
    material: Path, scanned: LibraryWriter, tmp_path: Path
) -> None:
    make_clips(tmp_path / "few" / "red", "red", 2, seconds=1)
    base = FinetuneBase(load_model(material / "base"), str(material / "base"))
    settings = replace(SETTINGS, network=replace(NETWORK, epochs=1))
    *events, taught = finetune(
        read_dataset(tmp_path / "few"), base, tmp_path / "model", settings, library=scanned
    )
    assert isinstance(taught, FinetuneResult) and taught.accuracy is None
    assert any("too few sources for a validation" in remark for remark in taught.remarks)
    assert [e.row.val_loss for e in events if isinstance(e, EpochDone)] == [None]


def test_there_is_no_such_stage(material: Path, scanned: LibraryWriter, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="2 stages"):
        teach(material, scanned, tmp_path / "m", replace(SETTINGS, network=replace(NETWORK, part=9)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x", "--train", "some"], "stages=N or all"),
        (["x", "--resume"], "nothing to resume"),
        ([], "--from-library"),
    ],
)
def test_wrong_arguments_are_told(arguments: list[str], message: str) -> None:
    run = CliRunner().invoke(app, ["finetune", *arguments])
    assert run.exit_code == 2
    assert message in " ".join(run.output.replace("│", " ").split())
