"""`--backend auto` uses another runtime than Torch only if it was measured as faster, and never delays a scan."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from helpers.footage import make_video
from helpers.reference import formula
from helpers.small_model import make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.app.commands.doctor import doctor
from vtag.engine.backends import autotune, onnx_cache
from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.onnx_backend import OnnxBackend
from vtag.engine.backends.protocol import Output
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.doctor import run_checks
from vtag.engine.errors import ModelError
from vtag.engine.system.locks import lock_file

CLIP = (8, 32, 32)  # the sample model's clip size
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_checkpoint(make_model(tmp_path_factory.mktemp("model") / "sample"))


@pytest.fixture(scope="module")
def used_home(model: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the model has run with `--backend onnx` once."""
    home = tmp_path_factory.mktemp("used")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VTAG_HOME", str(home))
        open_backend(model, backend="onnx", device="cpu")
    return home


@pytest.fixture
def used(used_home: Path, vtag_home: Path) -> Path:
    """A copy of that home for one test."""
    shutil.copytree(used_home, vtag_home, dirs_exist_ok=True)
    return vtag_home


@pytest.fixture
def no_export(monkeypatch: pytest.MonkeyPatch) -> None:
    def exporting(*_: object) -> None:
        raise AssertionError("nothing is to be exported")

    monkeypatch.setattr(onnx_cache, "require_exporter", exporting)


def read_cache(home: Path) -> dict[str, dict[str, object]]:
    entries: dict[str, dict[str, object]] = json.loads((home / "cache" / "backends.json").read_text())
    return entries


def change_cache(home: Path, **changes: object) -> None:
    """Change the stored measurement."""
    ((key, entry),) = read_cache(home).items()
    (home / "cache" / "backends.json").write_text(json.dumps({key: {**entry, **changes}}))


def clips() -> np.ndarray:
    return np.stack(wave_clips(CLIP, 3))


def user_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Messages for the user. torch's exporter also logs, for its developers."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("vtag")]


def backends_in_doctor() -> list[str]:
    return [finding.message for finding in run_checks() if finding.subject == "backend"]


# --- measurements -----------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 10), st.floats(1e-3, 10)), min_size=1, max_size=15))
def test_the_faster_one_is_faster_in_most_pairs_whatever_their_order(
    pairs: list[tuple[float, float]],
) -> None:
    clearly = autotune.clearly_faster(pairs)
    assert clearly == autotune.clearly_faster(pairs[::-1])
    assert not (clearly and autotune.clearly_faster([(second, first) for first, second in pairs]))
    if all(second > first for first, second in pairs):
        assert not clearly
    if all(second < first / 2 for first, second in pairs):
        assert clearly


def test_one_lucky_pair_decides_nothing() -> None:
    assert not autotune.clearly_faster([(9.0, 1.0), (1.0, 1.0), (1.0, 0.95)])
    assert autotune.clearly_faster([(1.0, 3.0), (1.0, 0.8), (1.0, 0.8)])


def test_answers_are_the_same_within_float32s_rounding_and_never_where_there_are_none() -> None:
    features, logits = np.ones((2, 4), np.float32), np.full((2, 3), 20, np.float32)
    one = Output(features, logits)
    assert autotune.same_answers(one, Output(features + np.float32(5e-5), logits + np.float32(1e-3)))
    assert not autotune.same_answers(one, Output(features + np.float32(2e-4), logits))
    assert not autotune.same_answers(one, Output(features, logits + np.float32(3e-3)))
    lost = features.copy()
    lost[0, 0] = np.nan
    assert not autotune.same_answers(one, Output(lost, logits))
    assert not autotune.same_answers(Output(lost, logits), one)


def test_the_first_use_of_onnx_exports_and_measures_and_the_second_does_neither(
    model: Checkpoint, used: Path, no_export: None, caplog: pytest.LogCaptureFixture
) -> None:
    (entry,) = read_cache(used).values()
    assert entry["model"] == "sample" and entry["clip"] == "8x32x32" and entry["backend"] in ("torch", "onnx")
    assert all(isinstance(entry[key], float) and entry[key] > 0 for key in ("torch_s", "onnx_s"))  # type: ignore[operator]
    content = (used / "cache" / "backends.json").read_bytes()
    assert open_backend(model, backend="onnx", device="cpu").name == "onnx"
    assert (used / "cache" / "backends.json").read_bytes() == content and not user_messages(caplog)
    (line,) = backends_in_doctor()
    assert line.startswith(f"sample 8x32x32: {entry['backend']} (torch ")


def test_auto_without_an_export_is_torch_and_leaves_nothing_behind(
    model: Checkpoint, vtag_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    assert not list(vtag_home.iterdir()) and not user_messages(caplog)


def test_auto_is_onnx_where_that_was_faster_and_torch_would_compute_the_same(
    model: Checkpoint, used: Path, no_export: None
) -> None:
    change_cache(used, backend="onnx")
    torchs = open_backend(model, backend="torch", device="cpu", precision="fp32")
    for precision in ("fp32", None):
        chosen = open_backend(model, device="cpu", precision=precision)
        assert (chosen.name, chosen.device, chosen.precision) == ("onnx", "cpu", "fp32")
    assert autotune.same_answers(torchs.run(clips()), chosen.run(clips()))
    automatic = open_backend(model, device="cpu")
    assert automatic.precision == ("fp32" if automatic.name == "onnx" else "bf16")
    assert open_backend(model, device="cpu", precision="fp32", sizes_vary=True).name == "torch"
    change_cache(used, backend="torch")
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"


def test_another_head_on_the_backbone_is_the_models_own(model: Checkpoint, used: Path) -> None:
    change_cache(used, backend="onnx")
    tensors = {**model.tensors, "head.bias": model.tensors["head.bias"] + np.arange(3, dtype=np.float32)}
    taught = Checkpoint(model.spec, tensors)
    chosen = open_backend(taught, device="cpu", precision="fp32")
    assert chosen.name == "onnx"
    torchs = open_backend(taught, backend="torch", device="cpu", precision="fp32")
    assert autotune.same_answers(torchs.run(clips()), chosen.run(clips()))


def test_a_measurement_with_other_versions_is_not_used(model: Checkpoint, used: Path) -> None:
    change_cache(used, backend="onnx")
    ((key, entry),) = read_cache(used).items()
    old = key.replace(" torch ", " torch 1.0.")
    (used / "cache" / "backends.json").write_text(json.dumps({old: entry}))
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    assert not backends_in_doctor()
    open_backend(model, backend="onnx", device="cpu")
    assert set(read_cache(used)) == {old, key}, "and is measured anew by --backend onnx, beside the others"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "[" * 100_000,
        '{"KEY": []}',
        '{"KEY": {"backend": "onnx"}}',
        '{"KEY": {"model": "x", "clip": "y", "backend": "evil", "torch_s": 1.0, "onnx_s": 0.5}}',
        '{"KEY": {"model": "x", "clip": "y", "backend": "onnx", "torch_s": "1", "onnx_s": 0.5}}',
        None,
    ],
)
def test_a_file_that_is_not_sound_is_as_good_as_none(
    model: Checkpoint, used: Path, content: str | None
) -> None:
    file = used / "cache" / "backends.json"
    ((key, _),) = read_cache(used).items()
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_text(content.replace("KEY", key))
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    assert not backends_in_doctor()
    assert open_backend(model, backend="onnx", device="cpu").name == "onnx", "it runs, kept or not"
    assert content is None or read_cache(used)[key]["backend"] in ("torch", "onnx")


def test_a_name_that_would_draw_on_the_terminal_is_shown_as_text(
    used: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change_cache(used, model="\x1b[2Jx")
    with contextlib.suppress(typer.Exit):
        doctor()
    output = capsys.readouterr().out
    assert "\x1b" not in output and "x 8x32x32: " in output


def test_a_home_that_cannot_be_written_costs_auto_nothing_and_is_said_of_onnx(
    model: Checkpoint, vtag_home: Path
) -> None:
    (vtag_home / "cache").write_text("in the way")
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    with pytest.raises(ModelError, match="it cannot be used: "):
        open_backend(model, backend="onnx")


# --- clips of other sizes, as `--view full` has them ------------------------------------------------------------


def test_a_size_is_exported_once_when_it_first_comes_and_gives_torchvisions_stored_logits(
    vtag_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """`small_swin.pth` and its logits were made with torchvision 0.28."""
    golden = Path(__file__).parents[1] / "data" / "golden"
    small = load_checkpoint(golden / "small_swin.pth")
    backend = open_backend(small, backend="onnx", device="cpu", sizes_vary=True)
    assert not list(vtag_home.iterdir()), "nobody knows the size yet"
    pixels = formula((1, 3, 5, 9, 12)).transpose(0, 2, 3, 4, 1)
    backend.run(pixels[:0])
    assert user_messages(caplog) == ["exporting the model to ONNX for clips of 5x9x12, once"]
    expected = np.load(golden / "small_swin_logits.npz")["1x3x5x9x12"]
    np.testing.assert_allclose(backend.run(pixels).logits, expected, rtol=0, atol=1e-5)
    again = open_backend(small, backend="onnx", device="cpu", sizes_vary=True)
    assert np.array_equal(again.run(pixels).features, backend.run(pixels).features)
    assert len(user_messages(caplog)) == 1


@pytest.mark.slow  # exports six graphs
def test_a_scan_of_whole_frames_runs_a_graph_for_each_shape_and_keeps_few_ready(
    vtag: Run, vtag_home: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "sample")
    (tmp_path / "videos").mkdir()
    for number, (width, height) in enumerate([(160, 90), (162, 90), (90, 160), (100, 100), (40, 160)]):
        make_video(tmp_path / "videos" / f"{number}.mp4", seconds=2, width=width, height=height)
    command = ("scan", tmp_path / "videos", "--model", folder, "--view", "full", "--precision", "fp32")
    scanned = vtag(*command, "--backend", "onnx", "--json")
    assert json.loads(scanned.stdout)["scanned"] == 5, scanned.stderr
    shapes = len(list((vtag_home / "cache" / "onnx").iterdir()))
    assert 3 <= shapes < 5 and scanned.stderr.count("exporting the model") == shapes, scanned.stderr
    again = vtag(*command, "--backend", "onnx", "--force")
    assert again.returncode == 0 and "exporting" not in again.stderr
    assert "with torch" in vtag(*command, "--force").stderr, "auto exports nothing"
    checkpoint = load_checkpoint(folder)
    backend = open_backend(checkpoint, backend="onnx", device="cpu", sizes_vary=True)
    torchs = open_backend(checkpoint, backend="torch", device="cpu", precision="fp32")
    sizes = [tuple(map(int, p.name.split("-")[1].split("x"))) for p in (vtag_home / "cache/onnx").iterdir()]
    for t, h, w in [*sizes, (8, 32, 32), (8, 32, 40), *sizes]:
        pixels = np.stack(wave_clips((t, h, w), 2))
        assert autotune.same_answers(torchs.run(pixels), backend.run(pixels))
        assert isinstance(backend, OnnxBackend) and len(backend._sessions) <= 4


# --- damaged exports --------------------------------------------------------------------------------------------


def spoil(folder: Path) -> None:
    with open(folder / "model" / "model.onnx", "ab") as file:
        file.write(b"x")
    (folder / ".model.left").mkdir()  # by a process that was killed


def test_auto_leaves_a_broken_export_alone(model: Checkpoint, used: Path, no_export: None) -> None:
    change_cache(used, backend="onnx")
    (folder,) = (used / "cache" / "onnx").iterdir()
    spoil(folder)
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    for entry in folder.iterdir():
        shutil.rmtree(entry)
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"


@pytest.mark.slow  # exports
def test_onnx_mends_a_broken_export(model: Checkpoint, used: Path) -> None:
    change_cache(used, backend="onnx")
    (folder,) = (used / "cache" / "onnx").iterdir()
    spoil(folder)
    assert open_backend(model, backend="onnx", device="cpu").name == "onnx"
    assert [entry.name for entry in folder.iterdir()] == ["model"]
    assert open_backend(model, device="cpu", precision="fp32").name == "onnx"


def test_an_export_that_answers_otherwise_is_never_chosen(model: Checkpoint, used: Path) -> None:
    (folder,) = (used / "cache" / "onnx").iterdir()
    stored = onnx.load(folder / "model" / "model.onnx")
    mean = next(w for w in stored.graph.initializer if w.name == "mean")
    mean.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(mean) + 1, "mean"))
    onnx.save(stored, folder / "model" / "model.onnx")
    entry = json.loads((folder / "model" / "model.json").read_text())
    (folder / "model" / "model.json").write_text(json.dumps({**entry, "sha256": ""}))
    (used / "cache" / "backends.json").unlink()
    open_backend(model, backend="onnx", device="cpu")
    (choice,) = read_cache(used).values()
    assert choice["backend"] == "torch" and choice["onnx_s"] is None
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    (line,) = backends_in_doctor()
    assert "onnx gives other answers" in line


def test_a_process_waits_for_another_export_and_uses_it(
    model: Checkpoint, used: Path, no_export: None, caplog: pytest.LogCaptureFixture
) -> None:
    (folder,) = (used / "cache" / "onnx").iterdir()
    (folder / "model").rename(folder / "aside")
    graphs: list[object] = []

    def wait() -> None:
        graphs.append(onnx_cache.export_once(model, CLIP))

    waiting = threading.Thread(target=wait)
    with pytest.MonkeyPatch.context() as patch, lock_file(folder.with_name(folder.name + ".lock")):
        patch.setattr(onnx_cache, "require_exporter", lambda: None)
        waiting.start()
        deadline = time.monotonic() + 180
        while "waiting for it" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not graphs
        (folder / "aside").rename(folder / "model")
    waiting.join(180)
    assert graphs == [onnx_cache.cached_graph(model, CLIP)] and graphs[0]
    (message,) = user_messages(caplog)
    assert message == f"another process ({os.getpid()}) is exporting this model to ONNX: waiting for it"


# --- pinned -----------------------------------------------------------------------------------------------------


def test_the_users_setting_overrides_the_measurement(
    model: Checkpoint, used: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_cache(used, backend="torch")
    monkeypatch.setenv("VTAG_BACKEND", "onnx")
    assert open_backend(model, device="cpu").name == "onnx"
    assert "auto is onnx: VTAG_BACKEND says so" in backends_in_doctor()
    assert open_backend(model, backend="torch", device="cpu").name == "torch", "what is asked for goes first"
    change_cache(used, backend="onnx")
    monkeypatch.setenv("VTAG_BACKEND", "torch")
    assert open_backend(model, device="cpu", precision="fp32").name == "torch"
    (folder,) = (used / "cache" / "onnx").iterdir()
    assert open_backend(folder / "model", device="cpu", precision="fp32").name == "torch"
    monkeypatch.setenv("VTAG_BACKEND", "tpu")
    with pytest.raises(ModelError, match="set it to torch or onnx, or unset it"):
        open_backend(model)
    assert next(f.state for f in run_checks() if f.subject == "backend") == "wrong"


# --- from the command line----------------------------------------------------------------------------------------


def test_without_the_onnx_packages_all_else_works(used: Path, tmp_path: Path) -> None:
    change_cache(used, backend="onnx")
    folder = make_model(tmp_path / "sample")
    video = make_video(tmp_path / "a.mp4", seconds=1)

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        without = "import sys; sys.modules.update(onnx=None, onnxruntime=None, onnxscript=None)\n"
        code = f"{without}from vtag.app.cli import main; main()"
        command = [sys.executable, "-c", code, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=240)

    done = run("predict", video, "--model", folder)
    assert done.returncode == 0 and not done.stderr, done.stderr
    refused = run("predict", video, "--model", folder, "--backend", "onnx")
    assert refused.returncode == 1 and "pip install onnx" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.slow  # half a minute: three processes that export
def test_a_killed_export_and_two_at_once_leave_one_sound_export(
    vtag: Run, vtag_home: Path, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "sample")
    (tmp_path / "videos").mkdir()
    video = make_video(tmp_path / "videos" / "a.mp4", seconds=4)
    command = [sys.executable, "-m", "vtag.app", "predict", video, "--model", folder, "--backend", "onnx"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    killed = subprocess.Popen(command, **quiet)
    deadline = time.monotonic() + 180
    while not list((vtag_home / "cache" / "onnx").glob("*/.model.*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [subprocess.Popen(command, **quiet) for _ in range(2)]
    messages = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], messages
    assert sum("exporting the model" in text for text in messages) == 1, messages
    (folder,) = (vtag_home / "cache" / "onnx").iterdir()
    assert [entry.name for entry in folder.iterdir()] == ["model"]
    scanned = vtag("scan", tmp_path / "videos", "--model", folder, "--precision", "fp32")
    (choice,) = read_cache(vtag_home).values()
    assert f"with {choice['backend']}, fp32" in scanned.stderr
    assert f"sample 8x32x32: {choice['backend']} (torch" in vtag("doctor").stdout
