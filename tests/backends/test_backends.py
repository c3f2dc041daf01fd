"""Backends run what is requested or refuse it with a reason, and give the model's answers."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.reference import formula, normalised

import vtag.engine
from vtag.engine.backends.bf16 import processor_has_bf16
from vtag.engine.backends.torch_backend import TorchBackend, keep_large_buffers
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import ModelError

MODEL = Path(__file__).parents[1] / "data" / "golden" / "small_swin.pth"
ANSWERS = Path(__file__).parents[1] / "data" / "golden" / "small_swin_logits.npz"


def pixels(shape: str = "2x3x7x61x75") -> np.ndarray:
    """uint8 [N, T, H, W, 3]"""
    return formula([int(n) for n in shape.split("x")]).transpose(0, 2, 3, 4, 1)


def test_clips_in_logits_and_features_out() -> None:
    backend = vtag.engine.open_backend(MODEL, device="cpu", precision="fp32")
    assert (backend.name, backend.device, backend.precision) == ("torch", "cpu", "fp32")
    assert backend.spec.name == "small_swin"
    answers = np.load(ANSWERS)
    for shape in answers:
        out = backend.run(pixels(shape))
        assert np.abs(out.logits - answers[shape]).max() <= 1e-5
        assert out.features.dtype == out.logits.dtype == np.float32
        assert out.features.shape == (len(answers[shape]), backend.spec.sizes.feature_dim)


def test_the_head_of_the_features_is_the_logits() -> None:
    checkpoint = load_checkpoint(MODEL)
    out = vtag.engine.open_backend(checkpoint, precision="fp32").run(pixels())
    head = checkpoint.tensors
    np.testing.assert_allclose(
        out.features @ head["head.weight"].T + head["head.bias"], out.logits, rtol=0, atol=1e-6
    )


def test_normalised_clips_give_the_same_logits() -> None:
    backend = vtag.engine.open_backend(str(MODEL), backend="torch", device="cpu", precision="fp32")
    logits = backend.logits(normalised(formula((2, 3, 7, 61, 75))))
    np.testing.assert_allclose(logits, backend.run(pixels()).logits, rtol=0, atol=1e-6)


def test_mean_and_std_are_the_specs() -> None:
    from dataclasses import replace

    checkpoint = load_checkpoint(MODEL)
    spec = replace(checkpoint.spec, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    backend = vtag.engine.open_backend(replace(checkpoint, spec=spec), device="cpu", precision="fp32")
    clip = pixels("1x3x5x9x12")
    expected = backend.logits(clip.transpose(0, 4, 1, 2, 3).astype(np.float32))
    np.testing.assert_allclose(backend.run(clip).logits, expected, rtol=0, atol=1e-6)


def test_no_clips_give_no_answers() -> None:
    backend = vtag.engine.open_backend(MODEL, device="cpu")
    out = backend.run(np.zeros((0, 4, 8, 8, 3), np.uint8))
    assert out.features.shape == (0, 8) and out.logits.shape == (0, 5)
    assert backend.logits(np.zeros((0, 3, 4, 8, 8), np.float32)).shape == (0, 5)


def test_clips_that_are_read_only_or_turned_are_taken_without_a_warning() -> None:
    backend = vtag.engine.open_backend(MODEL, device="cpu")
    clip = pixels("1x3x5x9x12")
    expected = backend.run(clip).logits
    fixed = np.ascontiguousarray(clip)
    fixed.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(backend.run(fixed).logits, expected)
        assert np.array_equal(backend.run(np.asfortranarray(clip)).logits, expected)
        backend.run(clip[:, ::-1, ::-1])


@pytest.mark.parametrize(
    "clips",
    [
        np.zeros((1, 4, 8, 8, 3), np.float32),
        np.zeros((4, 8, 8, 3), np.uint8),
        np.zeros((1, 3, 4, 8, 8), np.uint8),
        np.zeros((1, 0, 8, 8, 3), np.uint8),
        [[1, 2]],
    ],
)
def test_other_types_and_shapes_are_refused(clips: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"uint8 \[N, T, H, W, 3\]"):
        vtag.engine.open_backend(MODEL, device="cpu").run(clips)
    with pytest.raises(ValueError, match=r"float32 \[N, 3, T, H, W\]"):
        vtag.engine.open_backend(MODEL, device="cpu").logits(clips)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backend": "onnx", "precision": "int8"}, "vtag models export"),
        ({"backend": "tensorrt"}, "auto, torch, onnx"),
        ({"device": "tpu"}, "auto, cpu, cuda, mps"),
        ({"device": "cuda:x"}, "auto, cpu, cuda, mps"),
        ({"precision": "fp8"}, "auto, fp32, bf16, fp16, int8"),
        ({"precision": "int8"}, "not there yet"),
        ({"device": "cpu", "precision": "fp16"}, "fp16 needs a GPU"),
    ],
)
def test_an_unavailable_option_is_refused_with_a_reason(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        vtag.engine.open_backend(MODEL, **arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card")
def test_a_card_that_is_not_there_is_refused_and_not_replaced() -> None:
    with pytest.raises(ModelError, match="no CUDA card"):
        vtag.engine.open_backend(MODEL, device="cuda")


def test_a_model_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="no-such-model"):
        vtag.engine.open_backend("no-such-model")


def test_bf16_on_a_processor_only_where_it_has_the_units() -> None:
    if not processor_has_bf16():
        with pytest.raises(ModelError, match="no bf16 units"):
            vtag.engine.open_backend(MODEL, device="cpu", precision="bf16")
        return
    backend = vtag.engine.open_backend(MODEL, device="cpu", precision="bf16")
    out = backend.run(pixels())
    expected = np.load(ANSWERS)["2x3x7x61x75"]
    assert backend.precision == "bf16"
    assert out.features.dtype == np.float32
    assert 1e-5 < np.abs(out.logits - expected).max() < 0.1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA card")
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 2e-5), ("bf16", 0.1), ("fp16", 0.02)])
def test_a_cuda_card_answers_as_the_processor_does(precision: str, bound: float) -> None:
    backend = vtag.engine.open_backend(MODEL, device="cuda", precision=precision)
    answers = np.load(ANSWERS)
    for shape in answers:
        assert np.abs(backend.run(pixels(shape)).logits - answers[shape]).max() <= bound


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc is Linux's")
def test_large_buffers_are_kept() -> None:
    assert keep_large_buffers()


def test_asking_for_types_and_refusing_a_backend_imports_no_torch() -> None:
    code = (
        "import sys, vtag.engine; from vtag.engine import ModelSpec, Output, open_backend\n"
        "from vtag.engine.errors import ModelError\n"
        "from vtag.engine.checkpoints.load import load_checkpoint\n"
        f"load_checkpoint({str(MODEL)!r})\n"
        "try: open_backend('x', backend='onnx')\n"
        "except ModelError: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_batch_that_memory_does_not_hold_is_halved_once_and_for_all(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without a card, the test raises the card's memory error for three clips and more."""
    backend = TorchBackend(load_checkpoint(MODEL), device="cpu", precision="fp32")
    clips = pixels("5x3x7x61x75")
    expected = backend.run(clips).features
    sizes = []
    forward_features = backend._model.forward_features

    def short(batch: torch.Tensor) -> torch.Tensor:
        sizes.append(len(batch))
        if len(batch) > 2:
            raise torch.OutOfMemoryError
        return forward_features(batch)

    monkeypatch.setattr(backend, "_clip_threads", None)  # as on a card
    monkeypatch.setattr(backend, "_card_forward", short)
    np.testing.assert_allclose(backend.run(clips).features, expected, rtol=1e-4, atol=1e-5)
    assert [record.getMessage() for record in caplog.records] == [
        "the memory of cpu holds no 5 clips: 2 at once"
    ]
    backend.run(clips)
    assert sizes == [5, 2, 2, 1, 2, 2, 1]
