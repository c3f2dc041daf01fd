"""The candidates for a CUDA card: everything but the calls of CUDA, on a real network on the processor."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.processor_recorder import ProcessorRecorder
from helpers.reference import random_tensors

from vtag.engine.backends.cuda_forward import (
    FORWARDS,
    FallbackForward,
    Forward,
    GraphForward,
    Recording,
    cuda_forward,
    requested_forward,
    split_batches,
)
from vtag.engine.backends.torch_backend import TorchBackend
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.fast.inference import PLAIN_OPERATORS, FastSwin

SMALL = SwinSizes(8, (2, 2), (2, 4), 3, (2, 3, 2), (2, 2, 2))
MODEL = Path(__file__).parents[1] / "data" / "golden" / "small_swin.pth"


def network() -> FastSwin:
    return FastSwin(VideoSwin.from_arrays(SMALL, random_tensors(SMALL)), PLAIN_OPERATORS)


def pixels(count: int, frames: int = 6, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, frames, 13, 11, 3), generator=generator, dtype=torch.uint8)


def test_batches_of_any_size_are_computed_in_powers_of_two() -> None:
    model = network()
    with torch.inference_mode():
        for count in (1, 2, 3, 7, 16):
            sizes: list[int] = []

            def forward(clips: torch.Tensor, sizes: list[int] = sizes) -> torch.Tensor:
                sizes.append(len(clips))
                return model.forward_features(clips)

            clips = pixels(count)
            expected = model.forward_features(clips)
            torch.testing.assert_close(split_batches(forward, clips), expected)
            assert sum(sizes) == count and all(size & (size - 1) == 0 for size in sizes)
            assert sizes == sorted(set(sizes), reverse=True)


def test_a_recording_is_made_once_a_shape_and_its_answers_are_not_overwritten() -> None:
    model, record = network(), ProcessorRecorder()
    forward = partial(split_batches, GraphForward(model.forward_features, record))
    with torch.inference_mode():
        first = forward(pixels(5, seed=1))
        second = forward(pixels(5, seed=2))
        forward(pixels(4, frames=4))
        for seed, actual in ((1, first), (2, second)):
            torch.testing.assert_close(actual, model.forward_features(pixels(5, seed=seed)))
    assert record.sizes == [4, 1, 4]


def test_what_cannot_be_recorded_runs_eagerly_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    def fail(forward: Forward, clips: torch.Tensor) -> Recording:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    model = network()
    forward = GraphForward(model.forward_features, fail)
    with torch.inference_mode():
        for _ in range(2):
            torch.testing.assert_close(forward(pixels(2)), model.forward_features(pixels(2)))
    assert [record.getMessage() for record in caplog.records] == [
        "2 clips run without a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_no_more_than_sixteen_shapes_are_recorded() -> None:
    record = ProcessorRecorder()
    forward = GraphForward(lambda clips: clips.float().mean((1, 2, 3)), record)
    for frames in range(1, 20):
        assert forward(pixels(1, frames)).shape == (1, 3)
    assert len(record.sizes) == 16


def test_a_failed_compilation_falls_back_but_short_memory_does_not(caplog: pytest.LogCaptureFixture) -> None:
    def no_compiler(clips: torch.Tensor) -> torch.Tensor:
        raise ValueError("no compiler here")

    def no_memory(clips: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    caplog.set_level(logging.WARNING)
    mean = torch.mean
    forward = FallbackForward(no_compiler, mean, "compiled")
    assert forward(torch.ones(2)) == forward(torch.ones(2)) == 1
    assert [r.getMessage() for r in caplog.records] == [
        "the network runs eagerly, not compiled: no compiler here"
    ]
    with pytest.raises(torch.OutOfMemoryError):
        FallbackForward(no_memory, mean, "compiled")(torch.ones(2))


@pytest.mark.slow  # importing torch's compiler takes seconds
def test_the_network_can_be_compiled_in_one_piece() -> None:
    """torch's tracer sees one graph: no break, no call back into Python. No code is generated here."""
    model = network()
    compiled = torch.compile(model.forward_features, dynamic=False, fullgraph=True, backend="eager")
    with torch.inference_mode():
        expected = model.forward_features(pixels(2))
        torch.testing.assert_close(compiled(pixels(2)), expected)


def test_the_default_is_eager_and_unknown_ways_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VTAG_FORWARD", raising=False)
    assert requested_forward() == FORWARDS[0] == "eager"
    assert cuda_forward(torch.mean, "eager") is torch.mean
    monkeypatch.setenv("VTAG_FORWARD", "fast")
    with pytest.raises(ModelError, match="VTAG_FORWARD is 'fast': set it to one of eager, graphs"):
        requested_forward()
    TorchBackend(load_checkpoint(MODEL), device="cpu", precision="fp32")  # it is for cards alone
