"""One contract for all backends and precisions: the same shapes and errors, and Torch's answers in float32."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.reference import random_tensors

from vtag.engine.backends.bf16 import processor_has_bf16
from vtag.engine.backends.export.onnx_writer import (
    MAX_WINDOWS,
    MIN_AGREEMENT,
    MIN_WINDOWS,
    ExportOptions,
    check_options,
    compare_with_torch,
    export_onnx,
    write_onnx,
)
from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.onnx_session import cuda_cards
from vtag.engine.backends.protocol import Backend
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint, with_hashes
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.models.registry import load_model
from vtag.engine.predict import predict
from vtag.engine.scan.sample_windows import sample_windows
from vtag.engine.swin.config import ModelSpec, SwinSizes

CLIP = (7, 34, 34)  # not a multiple of a patch, a window or a merging, so that all of them pad
LABELS = ("archery", "riding a bike", "yoga")


@dataclass(frozen=True)
class Case:
    """A backend and precision, and the largest difference of a feature or logit from Torch in float32."""

    backend: str
    precision: str
    within: float
    device: str = "cpu"

    def __str__(self) -> str:
        return f"{self.backend}-{self.precision}-{self.device}"

    @property
    def missing(self) -> str:
        """The reason that it cannot run here; empty if it can."""
        bf16 = self.precision == "bf16" and self.device == "cpu" and not processor_has_bf16()
        return "no bf16 units" if bf16 else ""


CASES = [
    Case("torch", "fp32", 1e-4),
    Case("torch", "bf16", 0.03),
    Case("onnx", "fp32", 1e-4),
    Case("onnx", "fp16", 5e-3),
    Case("onnx", "int8", 0.1),
]
ON_A_CARD = [
    Case("torch", "fp32", 1e-4, "cuda"),
    Case("torch", "bf16", 0.03, "cuda"),
    Case("torch", "fp16", 5e-3, "cuda"),
    Case("onnx", "fp32", 1e-4, "cuda"),
    Case("onnx", "fp16", 5e-3, "cuda"),
]
if torch.cuda.is_available() and cuda_cards():
    CASES += ON_A_CARD
SLOW = Case("onnx", "fp16", 5e-3)  # a CPU converts it to fp32; it is for GPUs
WAYS = [pytest.param(c, marks=pytest.mark.slow) if c == SLOW else c for c in CASES]


def wild() -> Checkpoint:
    """Random weights that make every mistake visible, for clips that are padded everywhere."""
    sizes = SwinSizes(8, (1, 1), (1, 2), len(LABELS), window_size=(2, 4, 4))
    frames, side = CLIP[:2]
    spec = ModelSpec("wild", sizes, LABELS, frames, 8.0, short_side=40, crop=side)
    tensors = random_tensors(sizes)
    tensors["norm.weight"] = tensors["stages.1.blocks.0.norm1.weight"]  # exporters store equal weights once
    return with_hashes(spec, tensors)


def clips(count: int) -> np.ndarray:
    """uint8 [N, T, H, W, 3], no two alike."""
    return np.stack(wave_clips(CLIP, count)) if count else np.zeros((0, *CLIP, 3), np.uint8)


@pytest.fixture(scope="module")
def torchs() -> Backend:
    """The reference for all backends."""
    return open_backend(wild(), backend="torch", device="cpu", precision="fp32")


@pytest.fixture(scope="module", params=WAYS, ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    chosen: Case = request.param
    if chosen.missing:
        pytest.skip(chosen.missing)
    return chosen


@pytest.fixture(scope="module")
def model(case: Case, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | Checkpoint]:
    """The random model for the backend: an exported folder for ONNX."""
    if case.backend == "torch":
        yield wild()
        return
    folder = tmp_path_factory.mktemp("exported") / "wild"
    real = list(clips(MIN_WINDOWS)) if case.precision == "int8" else []
    compared = export_onnx(wild(), folder, ExportOptions(case.precision), real)
    assert compared.top1 >= MIN_AGREEMENT and compared.real == bool(real)
    yield folder


@pytest.fixture(scope="module")
def backend(case: Case, model: Path | Checkpoint) -> Backend:
    return open_backend(model, device=case.device, precision=case.precision)


def test_what_runs_is_what_was_asked_for_and_knows_the_models_words(
    case: Case, backend: Backend, torchs: Backend
) -> None:
    assert (backend.name, backend.precision) == (case.backend, case.precision)
    assert backend.device.split(":")[0] == case.device
    ours, theirs = backend.spec, torchs.spec
    assert (ours.labels, ours.sizes, ours.mean, ours.std) == (
        theirs.labels,
        theirs.sizes,
        theirs.mean,
        theirs.std,
    )
    assert (ours.frames, ours.rate, ours.short_side, ours.crop) == (7, 8.0, 40, 34)
    assert ours.head_hash == theirs.head_hash
    same = case.backend == "torch" or case.precision == "fp32"
    assert (ours.backbone_hash == theirs.backbone_hash) == same, "what sees a little differently says so"


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_any_number_of_clips_is_answered_as_torch_does_in_float32(
    case: Case, backend: Backend, torchs: Backend, count: int
) -> None:
    actual, expected = backend.run(clips(count)), torchs.run(clips(count))
    for ours, theirs in ((actual.features, expected.features), (actual.logits, expected.logits)):
        assert ours.dtype == np.float32 and ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=case.within)
        if count and case.precision != "fp32":
            assert np.abs(ours - theirs).max() > 1e-6, "it computes in less than float32"


def test_the_answer_to_a_clip_is_the_same_again_and_whatever_clips_it_comes_with(backend: Backend) -> None:
    together = backend.run(clips(5))
    again = backend.run(clips(5))
    assert np.array_equal(together.features, again.features) and np.array_equal(together.logits, again.logits)
    alone = np.concatenate([backend.run(clip[None]).logits for clip in clips(5)])
    np.testing.assert_allclose(together.logits, alone, rtol=0, atol=1e-5)


def test_the_logits_are_the_head_of_the_features(backend: Backend) -> None:
    head, actual = wild().tensors, backend.run(clips(3))
    expected = actual.features @ head["head.weight"].T + head["head.bias"]
    np.testing.assert_allclose(actual.logits, expected, rtol=0, atol=1e-5)


def test_normalised_clips_get_the_same_logits(case: Case, backend: Backend) -> None:
    mean, std = (np.array(values, np.float32) for values in (backend.spec.mean, backend.spec.std))
    normal = ((clips(2).astype(np.float32) - mean) / std).transpose(0, 4, 1, 2, 3)
    rounding = 1e-5 if case.precision == "fp32" else case.within
    np.testing.assert_allclose(backend.logits(normal), backend.run(clips(2)).logits, rtol=0, atol=rounding)


@pytest.mark.parametrize(
    "wrong", [clips(1).astype(np.float32), clips(1)[0], clips(1)[..., :2], clips(1)[:, :0], [1]]
)
def test_what_is_no_clips_is_refused(backend: Backend, wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, T, H, W, 3\]"):
        backend.run(wrong)
    with pytest.raises(ValueError, match=r"float32 \[N, 3, T, H, W\]"):
        backend.logits(wrong)


@pytest.mark.parametrize(
    "case",
    [c for c in CASES if c.backend == "onnx" and c.precision != "fp32" and c != SLOW],
    indirect=True,
    ids=str,
)
def test_an_export_of_less_than_float32_says_what_it_is_and_stays_it(
    case: Case, model: Path | Checkpoint, backend: Backend
) -> None:
    assert isinstance(model, Path)
    details = json.loads((model / "model.json").read_text())["onnx"]
    assert details["precision"] == case.precision and details["compared"]["top1"] >= MIN_AGREEMENT
    for arguments, message in (
        ({"backend": "torch"}, "--backend onnx"),
        ({"precision": "fp32"}, "computes in"),
    ):
        with pytest.raises(ModelError, match=message):
            open_backend(model, **arguments)
    turned = {name: -array if name == "head.weight" else array for name, array in wild().tensors.items()}
    with pytest.raises(ModelError, match=r"int8 is refused: it agrees .* on 0 of 3|does not answer as Torch"):
        compare_with_torch(Checkpoint(wild().spec, turned), load_checkpoint(model), clips(3), case.precision)
    with pytest.raises(ModelError, match="takes clips of 7x34x34 alone"):
        backend.run(np.zeros((1, 7, 34, 66, 3), np.uint8))


def test_int8_is_not_exported_for_batches_in_which_clips_would_change_each_others_answers() -> None:
    with pytest.raises(ModelError, match="leave out --batch"):
        check_options(wild(), ExportOptions("int8", batch=2))
    check_options(wild(), ExportOptions("int8", batch=1))


# --- compared with stored reference answers ---------------------------------------------------------------------


@pytest.mark.slow  # a graph for 32 frames takes half a minute to export
def test_an_export_of_paddles_file_predicts_the_references_top_five(shared: Path, tmp_path: Path) -> None:
    """PaddleVideo's two protocols on its own example video, with `paddle_mini.pdparams`.

    That an export gives a reference's stored logits is in test_backend_auto.py, too, with a committed file.
    """
    golden = json.loads((shared / "golden" / "paddle_example.json").read_text())
    video = shared / "clips" / "archery__022.avi"
    checkpoint = load_checkpoint(shared / "golden" / "paddle_mini.pdparams")
    windows = sample_windows([os.fsencode(video)], checkpoint.spec, 2)
    compared = export_onnx(checkpoint, tmp_path / "mini", ExportOptions(), windows)
    assert compared.real and compared.logits < 1e-4
    backend = open_backend(tmp_path / "mini", device="cpu")
    assert backend.name == "onnx"
    for protocol, stored in (("clip", "predict"), ("test", "test")):
        actual = predict(video, backend, protocol=protocol)
        assert [c.index for c in actual] == [index for index, _ in golden[stored]["top5"]]
        expected = [score for _, score in golden[stored]["top5"]]
        np.testing.assert_allclose([c.score for c in actual], expected, rtol=0, atol=1e-5)


# --- on real windows --------------------------------------------------------------------------------------------

MODELS = ["starter", "torchvision_mini.pth", "official_mini.pth", "paddle_mini.pdparams"]


@pytest.mark.slow  # minutes: each model is exported and run in each precision
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_best_class_of_real_windows_is_the_same(
    name: str, precision: str, shared: Path, tmp_path: Path
) -> None:
    checkpoint = load_model(name) if name == "starter" else load_checkpoint(shared / "golden" / name)
    if name != "starter":  # fewer pixels, or it takes an hour
        checkpoint = replace(checkpoint, spec=replace(checkpoint.spec, crop=112, short_side=128))
    windows = sample_windows([os.fsencode(shared / "clips")], checkpoint.spec, MAX_WINDOWS)
    assert len(windows) == MAX_WINDOWS
    options = ExportOptions(precision)
    if precision == "int8":
        # an export may be refused: the best two of random classes, or of what a clip does not show, may be too close
        least = 0.95 if name == "starter" else 0.9
        assert agreement(checkpoint, write_onnx(checkpoint, tmp_path, options), windows) >= least
        return
    compared = export_onnx(checkpoint, tmp_path / "out", options, windows)
    assert compared.top1 >= 0.98
    assert precision != "fp32" or compared.logits < 1e-4


def agreement(checkpoint: Checkpoint, exported: Checkpoint, windows: Sequence[np.ndarray]) -> float:
    """The share of windows with the best class of Torch in float32."""
    backends = open_backend(checkpoint, backend="torch", precision="fp32"), open_backend(exported)
    best = [[b.run(window[None]).logits.argmax() for window in windows] for b in backends]
    return float(np.mean(np.equal(*best)))
