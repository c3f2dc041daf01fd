"""The Backend protocol: a model that is ready to run, with any runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.config import ModelSpec, SwinSizes

MAX_THREADS = 8  # threads of a CPU that each compute a clip; each needs memory for its clip


@dataclass(frozen=True)
class Output:
    """A model's answers for N clips.

    `features` float32 [N, D] are pooled, after the last norm. `logits` float32 [N, K] are the head's for them.
    """

    features: NDArray[np.float32]
    logits: NDArray[np.float32]


class Backend(Protocol):
    """A model that is ready to run on one device with one precision."""

    @property
    def spec(self) -> ModelSpec: ...

    @property
    def name(self) -> str:
        """The runtime: `torch`, `onnx`."""
        ...

    @property
    def device(self) -> str:
        """The device that it runs on: `cpu`, `cuda:0`, `mps`."""
        ...

    @property
    def precision(self) -> str:
        """Its numeric precision: `fp32`, `bf16`, `fp16`, `int8`."""
        ...

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB), which are normalised on the device."""
        ...

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of `clips` float32 [N, 3, T, H, W] that are normalised already."""
        ...


def usable_processors() -> int:
    """The number of logical CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_clips(clips: object, dtype: str, layout: str, *, channels: int) -> None:
    """Raise ValueError unless `clips` are an array of that type and layout, with no empty axis but N."""
    if not isinstance(clips, np.ndarray) or clips.dtype != np.dtype(dtype):
        actual = clips.dtype if isinstance(clips, np.ndarray) else type(clips).__name__
        raise ValueError(f"clips have to be {dtype} {layout}, not {actual}")
    if clips.ndim != 5 or clips.shape[channels] != 3 or 0 in clips.shape[1:]:
        raise ValueError(f"clips have to be {dtype} {layout}, not {list(clips.shape)}")


def empty_output(sizes: SwinSizes) -> Output:
    """The answers for no clips."""
    return Output(np.zeros((0, sizes.feature_dim), np.float32), np.zeros((0, sizes.num_classes), np.float32))
