"""What a backend is, and how one is opened: the seam between the model's runtimes and everything else."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import ModelError
from vtag.engine.models import load
from vtag.engine.swin.checkpoint import Checkpoint
from vtag.engine.swin.spec import ModelSpec
from vtag.engine.text import printable

BACKENDS = ("auto", "torch", "onnx")


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


def open_backend(
    model: str | Path | Checkpoint,
    *,
    backend: str = "auto",
    device: str = "auto",
    precision: str = "auto",
) -> Backend:
    """A backend for `model`: a catalogue name, a path, or a checkpoint in memory.

    Args:
        model: a name that `vtag models list` shows, a checkpoint file or a model folder; or a Checkpoint.
        backend: auto, torch, onnx.
        device: auto, cpu, cuda (or cuda:1 ...), mps.
        precision: auto, fp32, bf16, fp16, int8.

    Raises ModelError where the model cannot be read, or where what was asked for is not there.
    """
    if backend not in BACKENDS:
        raise ModelError(f"there is no backend {printable(backend)!r}; the choices are {', '.join(BACKENDS)}")
    if backend == "onnx":
        raise ModelError("the ONNX backend is not there yet; use --backend torch")
    checkpoint = model if isinstance(model, Checkpoint) else load(model)
    # torch takes seconds to import, and whoever asks this module for its types alone shall not wait
    from vtag.engine.backends.torch_backend import TorchBackend

    return TorchBackend(checkpoint, device=device, precision=precision)
