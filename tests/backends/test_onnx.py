"""ONNX models give the answers of Torch, run without torch, and are refused if anything is wrong with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from helpers.footage import make_video
from helpers.reference import random_tensors
from helpers.small_model import LABELS, make_model

from vtag.engine.backends.export.graph import Graph
from vtag.engine.backends.export.onnx_writer import ExportOptions, compare_with_torch, export_onnx
from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.onnx_session import cuda_cards
from vtag.engine.backends.protocol import Backend
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.checkpoints.load import Checkpoint, load_checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.models.registry import import_model, verify_model
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec, SwinSizes
from vtag.engine.swin.weight_names import parameter_shapes

CLIP = (8, 32, 32)  # the sample model's clip size


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model's folder."""
    return make_model(tmp_path_factory.mktemp("model") / "sample")


@pytest.fixture(scope="module")
def exported(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample model as an ONNX folder."""
    folder = tmp_path_factory.mktemp("exported") / "sample"
    export_onnx(load_checkpoint(model), folder, ExportOptions(), [])
    return folder


def clips(count: int, size: tuple[int, int, int] = CLIP) -> np.ndarray:
    """uint8 [N, T, H, W, 3], no two alike."""
    return np.stack(wave_clips(size, count)) if count else np.zeros((0, *size, 3), np.uint8)


def assert_equal(ours: Backend, torchs: Backend, pixels: np.ndarray, *, within: float = 1e-4) -> None:
    a, b = ours.run(pixels), torchs.run(pixels)
    np.testing.assert_allclose(a.features, b.features, rtol=0, atol=within)
    np.testing.assert_allclose(a.logits, b.logits, rtol=0, atol=within)


def test_clips_that_are_normalised_already_are_taken_where_they_are_pixels(exported: Path) -> None:
    backend = open_backend(exported)
    mean, std = np.array(backend.spec.mean, np.float32), np.array(backend.spec.std, np.float32)
    normal = ((clips(2).astype(np.float32) - mean) / std).transpose(0, 4, 1, 2, 3)
    np.testing.assert_allclose(backend.logits(normal), backend.run(clips(2)).logits, rtol=0, atol=1e-6)
    with pytest.raises(ModelError, match="takes pixels"):
        backend.logits(normal + np.float32(0.005))


@pytest.mark.parametrize(
    ("window", "clip"),
    [((2, 4, 4), (7, 34, 50)), ((8, 7, 7), (8, 64, 96)), ((8, 7, 7), (20, 60, 40)), ((2, 5, 5), (1, 9, 12))],
)
def test_the_graph_pads_rolls_and_cuts_as_the_network_does(
    window: tuple[int, int, int], clip: tuple[int, int, int]
) -> None:
    sizes = SwinSizes(4, (2, 2), (1, 2), 3, window_size=window)
    spec = ModelSpec(name="wild", sizes=sizes, labels=LABELS)
    checkpoint = Checkpoint(spec, random_tensors(sizes))
    network = VideoSwin.from_arrays(sizes, checkpoint.tensors)
    t, h, w = clip
    graph = Graph(network, frames=t, height=h, width=w, mean=spec.mean, std=spec.std)
    pixels = clips(3, clip)
    expected = open_backend(checkpoint, device="cpu", precision="fp32").run(pixels)
    with torch.no_grad():
        features, logits = graph(torch.from_numpy(pixels))
    np.testing.assert_allclose(features, expected.features, rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits, expected.logits, rtol=0, atol=1e-5)


def test_a_file_of_a_fixed_batch_takes_any_number_of_clips(model: Path, tmp_path: Path) -> None:
    export_onnx(load_checkpoint(model), tmp_path / "two", ExportOptions(batch=2), [])
    assert load_checkpoint(tmp_path / "two").onnx.batch == 2
    torchs = open_backend(model, device="cpu", precision="fp32")
    for count in (1, 2, 5):
        assert_equal(open_backend(tmp_path / "two"), torchs, clips(count))


def test_the_folder_is_the_same_model(model: Path, exported: Path) -> None:
    original, loaded = load_checkpoint(model), load_checkpoint(exported)
    assert loaded.spec.backbone_hash == original.spec.backbone_hash
    assert loaded.spec.head_hash == original.spec.head_hash
    assert {name: array.tobytes() for name, array in loaded.tensors.items()} == {
        name: array.tobytes() for name, array in original.tensors.items()
    }
    torchs = open_backend(exported, backend="torch", device="cpu", precision="fp32")
    assert_equal(torchs, open_backend(exported), clips(2))


def test_the_file_holds_its_weights_once_and_says_what_it_is(exported: Path) -> None:
    spec = load_checkpoint(exported).spec
    stored = onnx.load(exported / "model.onnx")
    names = {weight.name for weight in stored.graph.initializer}
    assert names >= set(parameter_shapes(spec.sizes))
    index = 4 * 32 * 32  # of the pairs of a window's tokens
    limit = 4 * spec.sizes.parameter_count + index + 60_000
    assert (exported / "model.onnx").stat().st_size < limit
    metadata = json.loads({entry.key: entry.value for entry in stored.metadata_props}["vtag"])
    assert (
        metadata["labels"] == list(LABELS) and metadata["mean"] == list(spec.mean) and metadata["frames"] == 8
    )
    assert metadata["backbone_hash"] == spec.backbone_hash
    assert str(Path(__file__).parents[2]) not in str(stored), "no path of this machine is in the file"


def test_the_file_alone_is_a_model_too(exported: Path, tmp_path: Path) -> None:
    (tmp_path / "alone.onnx").write_bytes((exported / "model.onnx").read_bytes())
    alone = open_backend(tmp_path / "alone.onnx")
    assert alone.spec.name == "alone" and alone.spec.labels == LABELS
    assert np.array_equal(alone.run(clips(1)).logits, open_backend(exported).run(clips(1)).logits)
    assert load_checkpoint(exported / "model.onnx").spec.name == "sample"


def test_it_is_brought_in_listed_and_verified_as_any_model(exported: Path) -> None:
    assert import_model(exported, "mine") == "mine"
    verify_model("mine")
    assert open_backend("mine").name == "onnx"


# --- refused files ----------------------------------------------------------------------------------------------


def changed(exported: Path, folder: Path, change: Callable[[onnx.ModelProto], object]) -> Path:
    """The exported folder with a changed file, and without its hash."""
    folder.mkdir()
    stored = onnx.load(exported / "model.onnx")
    change(stored)
    (folder / "model.onnx").write_bytes(stored.SerializeToString())
    spec_json = json.loads((exported / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**spec_json, "sha256": ""}))
    return folder


def drop_a_class(stored: onnx.ModelProto) -> None:
    for weight in stored.graph.initializer:
        if weight.name.startswith("head."):
            array = onnx.numpy_helper.to_array(weight)[:-1]
            weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))


def swell(stored: onnx.ModelProto) -> None:
    """The graph first allocates fifty gigabytes of zeros."""
    amounts = np.array([0, 0, 0, 0, 0, 0, 0, 200_000, 200_000, 0], np.int64)
    stored.graph.initializer.append(onnx.numpy_helper.from_array(amounts, "amounts"))
    pad = onnx.helper.make_node("Pad", ["clips", "amounts"], ["huge"])
    size = onnx.helper.make_node("Shape", ["huge"], ["size"])
    stored.graph.node.insert(0, size)
    stored.graph.node.insert(0, pad)


def point_outside(stored: onnx.ModelProto) -> None:
    weight = stored.graph.initializer[0]
    onnx.external_data_helper.set_external_data(weight, "/etc/passwd")
    weight.ClearField("raw_data")


def hide_a_network(stored: onnx.ModelProto) -> None:
    body = onnx.helper.make_graph([], "body", [], [])
    stored.graph.node[0].attribute.append(onnx.helper.make_attribute("body", body))


def use_a_library(stored: onnx.ModelProto) -> None:
    stored.opset_import.append(onnx.helper.make_opsetid("com.example.evil", 1))


def rename_the_output(stored: onnx.ModelProto) -> None:
    stored.graph.output[1].name = "scores"


def lose_a_weight(stored: onnx.ModelProto) -> None:
    norm = next(w for w in stored.graph.initializer if w.name == "norm.weight")
    values = onnx.numpy_helper.to_array(norm).copy()
    values[0] = np.nan
    norm.CopyFrom(onnx.numpy_helper.from_array(values, "norm.weight"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (drop_a_class, "gives 2 classes, but there are 3 labels"),
        (swell, "more memory than any model needs"),
        (point_outside, "weights in another file"),
        (hide_a_network, "networks inside"),
        (use_a_library, "com.example.evil"),
        (rename_the_output, "something else"),
        (lose_a_weight, "NaN"),
    ],
)
def test_a_file_that_is_not_such_as_vtag_exports_is_refused_before_it_runs(
    exported: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_checkpoint(changed(exported, tmp_path / "other", change))


def test_a_file_that_was_exchanged_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = changed(exported, tmp_path / "other", lambda stored: None)
    checkpoint = load_checkpoint(folder)
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b"\0")
    with pytest.raises(ModelError, match="it changed while it was opened"):
        open_backend(checkpoint)


def test_another_model_json_is_refused(exported: Path, tmp_path: Path) -> None:
    folder = changed(exported, tmp_path / "other", lambda stored: None)
    spec_json = json.loads((folder / "model.json").read_text())
    for key, value, expected_message in (
        ("labels", ["a", "b"], "3 classes but 2 labels"),
        ("sha256", "0" * 64, "another SHA-256"),
        ("onnx", {}, "in which precision"),
    ):
        (folder / "model.json").write_text(json.dumps({**spec_json, key: value}))
        with pytest.raises(ModelError, match=expected_message):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "computes in fp32"),
        ({"precision": "bf16"}, "no bf16"),
        ({"device": "mps"}, "auto, cpu, cuda, tensorrt"),
        ({"device": "cuda:x"}, "auto, cpu, cuda, tensorrt"),
    ],
)
def test_an_unavailable_option_is_refused_with_a_reason(
    exported: Path, arguments: dict[str, str], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        open_backend(exported, **arguments)


@pytest.mark.skipif(cuda_cards() > 0, reason="there is a CUDA card")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_card_that_is_not_there_is_refused_and_not_replaced(exported: Path, device: str) -> None:
    with pytest.raises(ModelError, match=r"cannot use|was built without"):
        open_backend(exported, device=device)
    assert open_backend(exported, device="auto").device == "cpu"


def test_a_file_that_does_not_answer_as_torch_does_is_told(model: Path, exported: Path) -> None:
    original = load_checkpoint(model)
    table = "stages.0.blocks.0.attn.relative_position_bias_table"
    changed_checkpoint = Checkpoint(
        original.spec, {**original.tensors, table: original.tensors[table] + 0.01 * np.arange(1)}
    )
    spoiled = {**original.tensors, table: original.tensors[table][::-1].copy()}
    # the same bias for all pairs changes nothing
    compare_with_torch(changed_checkpoint, load_checkpoint(exported), clips(2), "fp32")
    with pytest.raises(ModelError, match="does not answer as Torch does"):
        compare_with_torch(Checkpoint(original.spec, spoiled), load_checkpoint(exported), clips(2), "fp32")


# --- from the command line, and without torch -------------------------------------------------------------------


def test_export_scan_and_predict_from_the_command_line(
    vtag: Callable[..., subprocess.CompletedProcess[str]], model: Path, tmp_path: Path
) -> None:
    (tmp_path / "videos").mkdir()
    video = make_video(tmp_path / "videos" / "a.mp4", seconds=4)
    done = vtag("models", "export", "--model", model, "-o", tmp_path / "out", "--clips", tmp_path / "videos")
    assert done.returncode == 0, done.stderr
    assert "windows of videos it differs from torch by" in done.stderr and not done.stdout
    compared = json.loads((tmp_path / "out" / "model.json").read_text())["onnx"]["compared"]
    assert compared["real"] and compared["windows"] == 4 and compared["logits"] < 1e-4
    scanned = vtag("scan", tmp_path / "videos", "--model", tmp_path / "out", "--json")
    assert scanned.returncode == 0, scanned.stderr
    assert json.loads(scanned.stdout)["scanned"] == 1
    assert "with onnx, fp32" in scanned.stderr
    again = vtag("scan", tmp_path / "videos", "--model", model, "--json")
    assert json.loads(again.stdout)["skipped"] == 1, "what ONNX saw is what Torch would have seen"
    answers = [
        json.loads(vtag("predict", video, "--model", m, "--json").stdout)["top"]
        for m in (model, tmp_path / "out")
    ]
    assert [top["label"] for top in answers[0]] == [top["label"] for top in answers[1]]


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["--batch", "many"], "neither dynamic nor", 2),
        (["--opset", "11"], "none of 18 to", 1),
        (["--precision", "int8"], "fewer than 30", 1),
    ],
)
def test_a_wrong_argument_is_said_in_a_line(
    vtag: Callable[..., subprocess.CompletedProcess[str]],
    model: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    code: int,
) -> None:
    done = vtag("models", "export", "--model", model, "-o", tmp_path / "out", *arguments)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def python_without_torch(folder: Path) -> Path:
    """An environment with all packages of this one except torch and those that only its exporter needs."""
    packages = folder / "packages"
    packages.mkdir()
    for folder in map(Path, sys.path):
        if folder.name != "site-packages":
            continue
        for entry in folder.iterdir():
            left_out = entry.name.startswith(("torch", "functorch", "onnxscript", "__editable__", "vtag"))
            if not left_out and entry.suffix != ".pth" and not (packages / entry.name).exists():
                (packages / entry.name).symlink_to(entry)
    (packages / "vtag").mkdir()
    for room in ("app", "engine", "trainer", "assets"):
        (packages / "vtag" / room).symlink_to(Path(__file__).parents[2] / room)
    venv.create(folder / "env", with_pip=False, symlinks=True)
    python = folder / "env" / "bin" / "python"
    places = subprocess.run(
        [python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True
    )
    (Path(places.stdout.strip()) / "all.pth").write_text(f"{packages}\n")
    return python


@pytest.mark.skipif(os.name == "nt", reason="needs symbolic links")
def test_a_machine_without_torch_scans_and_predicts_with_an_onnx_model(
    exported: Path, model: Path, tmp_path: Path
) -> None:
    python = python_without_torch(tmp_path)
    (tmp_path / "videos").mkdir()
    make_video(tmp_path / "videos" / "a.mp4", seconds=3)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [python, "-m", "vtag.app", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=200)

    gone = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    assert "No module named 'torch'" in gone.stderr
    scanned = run("scan", tmp_path / "videos", "--model", exported, "--json")
    assert scanned.returncode == 0, scanned.stderr
    assert json.loads(scanned.stdout)["windows"] == 3
    assert run("show", tmp_path / "videos" / "a.mp4").returncode == 0
    assert run("retag", "--threshold", "0.2").returncode == 0
    predicted = run("predict", tmp_path / "videos" / "a.mp4", "--model", exported, "--json")
    assert json.loads(predicted.stdout)["model"] == "sample", predicted.stderr
    for wants in (("scan", "--force", tmp_path / "videos"), ("models", "export", "-o", tmp_path / "x")):
        refused = run(*wants, "--model", model)
        assert refused.returncode == 1 and "torch" in refused.stderr and "pip install" in refused.stderr
        assert "Traceback" not in refused.stderr
