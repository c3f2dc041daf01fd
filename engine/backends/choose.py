"""Which runtime `--backend auto` means for a model on this machine: measured once, kept, never a guess.

Another than Torch is taken only where an ONNX twin of the model is here (`--backend onnx` made it once), both gave
the same answers on the same windows, and the twin was faster by more than the noise. int8 is never among them: a
twin computes in float32.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from vtag.engine.backends import twins
from vtag.engine.backends.base import Backend
from vtag.engine.backends.clips import generated
from vtag.engine.backends.runtime import usable_processors
from vtag.engine.errors import ModelError
from vtag.engine.interruption import held
from vtag.engine.paths import home, private_dir
from vtag.engine.swin.checkpoint import Checkpoint

PIN = "VTAG_BACKEND"  # torch or onnx: what auto means, whatever was measured
_CLIPS = 2
_ROUNDS = 2
_TOLERANCE = 1e-4  # relative to the largest value from 1 on
_CLEARLY = 0.9  # of Torch's time


@dataclass(frozen=True)
class Choice:
    """What was measured, in seconds a clip; `onnx_s` is None where the answers differed."""

    model: str
    clip: str
    backend: str
    torch_s: float
    onnx_s: float | None


def choose(checkpoint: Checkpoint, device: str, precision: str) -> str:
    """`torch` or `onnx`. Measures where that was not done yet, which takes a few seconds. Raises ModelError."""
    if pinned := os.environ.get(PIN):
        if pinned not in ("torch", "onnx"):
            raise ModelError(f"{PIN} is neither torch nor onnx")
        return pinned
    size = (checkpoint.spec.frames, checkpoint.spec.crop, checkpoint.spec.crop)
    if (
        device not in ("auto", "cpu")
        or precision not in ("auto", "fp32")
        or not twins.is_here(checkpoint, size)
    ):
        return "torch"
    key = _key(checkpoint, size)
    kept = _read()
    if key in kept:
        return kept[key].backend
    choice = _measured(checkpoint, size, device, precision)
    if choice is None:
        return "torch"
    private_dir(_file().parent)
    said = {k: asdict(c) for k, c in {**kept, key: choice}.items()}
    beside = _file().with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(said, indent=1), encoding="utf-8")
    os.replace(beside, _file())
    return choice.backend


def choices() -> list[Choice]:
    """All that was measured for this machine as it is now."""
    return [choice for key, choice in _read().items() if key.endswith(_machine())]


def _measured(
    checkpoint: Checkpoint, size: tuple[int, int, int], device: str, precision: str
) -> Choice | None:
    """None where Torch would not run in float32 on the processor: then there is nothing to compare."""
    with held():
        from vtag.engine.backends.onnx_backend import OnnxBackend
        from vtag.engine.backends.torch_backend import TorchBackend

    torchs = TorchBackend(checkpoint, device=device, precision=precision)
    if torchs.device != "cpu" or torchs.precision != "fp32":
        return None
    ours = OnnxBackend(checkpoint, device="cpu")
    clips = np.stack(generated(size, _CLIPS))
    a, b = torchs.run(clips), ours.run(clips)  # the first run of both is not timed
    same = all(
        np.abs(x - y).max() <= _TOLERANCE * max(1.0, float(np.abs(x).max()))
        for x, y in ((a.features, b.features), (a.logits, b.logits))
    )
    took = _best(torchs, clips)
    other = _best(ours, clips) if same else None
    faster = other is not None and other < _CLEARLY * took
    by = "x".join(map(str, size))
    return Choice(checkpoint.spec.name, by, "onnx" if faster else "torch", took, other)


def _best(backend: Backend, clips: np.ndarray) -> float:
    """Seconds a clip, the best of some rounds."""
    return min(_seconds(backend, clips)) / len(clips)


def _seconds(backend: Backend, clips: np.ndarray) -> Iterator[float]:
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        backend.run(clips)
        yield time.perf_counter() - start


def _key(checkpoint: Checkpoint, size: tuple[int, int, int]) -> str:
    return f"{checkpoint.spec.backbone_hash[:32]} {'x'.join(map(str, size))} {_machine()}"


def _machine() -> str:
    """What a measurement holds for: this computer and these versions."""
    return f"{platform.node()} {usable_processors()} torch {_version('torch')} onnxruntime {_runtime()}"


def _runtime() -> str:
    return _version("onnxruntime-gpu") or _version("onnxruntime")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _file() -> Path:
    return home() / "cache" / "backends.json"


def _read() -> dict[str, Choice]:
    """What was kept; nothing where that is not sound."""
    try:
        said = json.loads(_file().read_text(encoding="utf-8"))
        return {key: Choice(**value) for key, value in said.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
