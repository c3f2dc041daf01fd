"""What a backend is, and how one is opened: the seam between the model's runtimes and everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.spec import ModelSpec


@dataclass(frozen=True)
class Output:
    """What a model says of N clips: `features` float32 [N, D] (pooled, after the last norm), `logits` float32 [N, K]."""

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


def open_backend(
    model: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Backend:
    """A backend for `model`, a catalogue name or a path.

    Args:
        model: a name that `vtag models list` shows, a checkpoint file or a model folder.
        backend: auto, torch, onnx.
        device: auto, cpu, cuda, mps.
        precision: auto, fp32, bf16, fp16, int8.

    Raises ModelError where the model cannot be read, or where what was asked for is not there.
    """
    raise NotImplementedError
