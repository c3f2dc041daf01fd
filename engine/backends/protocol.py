"""The Backend protocol: what a model that is ready to run offers, whatever its runtime."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.config import ModelSpec

MAX_THREADS = 8  # clips that a processor works on at one time: each costs memory


@dataclass(frozen=True)
class Output:
    """What a model says of N clips.

    `features` float32 [N, D] are pooled, after the last norm; `logits` float32 [N, K] are the head's, of
    these.
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
        """Where it really runs: `cpu`, `cuda:0`, `mps`."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: `fp32`, `bf16`, `fp16`, `int8`."""
        ...

    def run(self, clips: NDArray[np.uint8]) -> Output:
        """Features and logits of `clips` uint8 [N, T, H, W, 3] (RGB); normalised on the device."""
        ...

    def logits(self, clips: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits float32 [N, K] of `clips` float32 [N, 3, T, H, W] that are normalised already."""
        ...


def usable_processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_clips(clips: object, dtype: str, layout: str, *, channels: int) -> None:
    """Raise ValueError unless `clips` are an array of that type and layout with something in it."""
    if not isinstance(clips, np.ndarray) or clips.dtype != np.dtype(dtype):
        found = clips.dtype if isinstance(clips, np.ndarray) else type(clips).__name__
        raise ValueError(f"clips have to be {dtype} {layout}, not {found}")
    if clips.ndim != 5 or clips.shape[channels] != 3 or 0 in clips.shape[1:]:
        raise ValueError(f"clips have to be {dtype} {layout}, not {list(clips.shape)}")
