"""Which runtime `--backend auto` means for a model on this machine: measured once, kept, never a guess.

Another than Torch is taken only where an ONNX twin of the model is here, both gave the same answers on the same
clips, and the twin was faster by more than the noise. That is measured when a model first runs with
`--backend onnx`, which exports the twin and so takes its time anyhow; auto itself only looks it up, so that no scan
waits for a measurement that it did not ask for. int8 is never among them: a twin computes in float32.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends import onnx_cache
from vtag.engine.backends.protocol import MAX_THREADS, Backend, Output, usable_processors
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.errors import ModelError
from vtag.engine.paths import home, make_private_dir
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.system.locks import LockHeldError, lock_file

BACKEND_VARIABLE = "VTAG_BACKEND"  # torch or onnx: what auto means, whatever was measured
_TOLERANCE = 1e-4  # relative to the largest value from 1 on
_CLEARLY = 0.9  # of Torch's time
_MOST_PAIRS = 15
_ENOUGH_S = 4.0  # after so long there is no other pair

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Measurement:
    """What was measured, in seconds a clip; `onnx_s` is None where the answers differed."""

    model: str
    clip: str
    backend: str
    torch_s: float
    onnx_s: float | None


def pinned_backend() -> str | None:
    """What auto means by the user's word: torch or onnx; None where nothing is said. Raises ModelError."""
    said = os.environ.get(BACKEND_VARIABLE)
    if said and said not in ("torch", "onnx"):
        raise ModelError(
            f"{BACKEND_VARIABLE} pins what --backend auto means: set it to torch or onnx, or unset it"
        )
    return said or None


def faster_graph(checkpoint: Checkpoint, device: str, precision: str) -> OnnxGraph | None:
    """The twin that auto runs instead of Torch; None where that is Torch. Measures and exports nothing."""
    size = clip_size_of(checkpoint)
    if (
        device not in ("auto", "cpu")
        or precision not in ("auto", "fp32")
        or not onnx_cache.has_export(checkpoint, size)
    ):
        return None
    kept = _read().get(_key(checkpoint, size))
    if kept is None or kept.backend != "onnx" or not _torch_computes_alike(device, precision):
        return None
    return onnx_cache.cached_graph(checkpoint, size)


def measure_backends(checkpoint: Checkpoint, ours: Backend) -> None:
    """Run Torch beside `ours`, the model's twin on the processor, and keep which one auto means; once.

    Where the result cannot be kept, or another process is measuring, nothing is done, and auto stays what it is.
    """
    key = _key(checkpoint, clip_size_of(checkpoint))
    if find_spec("torch") is None or key in _read():
        return
    try:
        make_private_dir(_file().parent)
        with lock_file(_file().with_suffix(".lock")):
            log.warning("measuring whether torch or onnx is faster for this model here, once")
            _keep(key, _measured(checkpoint, ours))
    except (OSError, LockHeldError):
        log.debug("%s cannot be written now", _file(), exc_info=True)


def stored_measurements() -> list[Measurement]:
    """All that was measured for this machine as it is now."""
    return [choice for key, choice in _read().items() if key.endswith(_machine())]


def clip_size_of(checkpoint: Checkpoint) -> tuple[int, int, int]:
    """T, H, W of the clips that a model is made for."""
    return checkpoint.spec.frames, checkpoint.spec.crop, checkpoint.spec.crop


def clearly_faster(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether the second of each pair of times is shorter by more than chance makes it."""
    return statistics.median(other / took for took, other in pairs) < _CLEARLY


def same_answers(one: Output, other: Output) -> bool:
    """Whether two runtimes say the same of the same clips."""
    both = ((one.features, other.features), (one.logits, other.logits))
    # NaN is no answer, and fails the comparison
    return all(bool(np.abs(a - b).max() <= _TOLERANCE * max(1.0, float(np.abs(a).max()))) for a, b in both)


def _torch_computes_alike(device: str, precision: str) -> bool:
    """Whether Torch would compute as the twin does, in float32 on the processor; else it is not to be replaced."""
    from vtag.engine.backends.torch_backend import choose_device, choose_precision

    where = choose_device(device)
    return where.type == "cpu" and choose_precision(precision, where) == "fp32"


def _measured(checkpoint: Checkpoint, ours: Backend) -> Measurement:
    from vtag.engine.backends.torch_backend import TorchBackend

    size = clip_size_of(checkpoint)
    torchs = TorchBackend(checkpoint, device="cpu", precision="fp32")
    clips = np.stack(wave_clips(size, min(usable_processors(), MAX_THREADS)))  # as many as a scan hands over
    same = same_answers(torchs.run(clips), ours.run(clips))  # the first run of both is not timed
    pairs = _pairs(torchs, ours, clips) if same else [(_seconds(torchs, clips), float("inf"))]
    took, other = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return Measurement(
        checkpoint.spec.name,
        "x".join(map(str, size)),
        "onnx" if same and clearly_faster(pairs) else "torch",
        took,
        other if same else None,
    )


def _pairs(torchs: Backend, ours: Backend, clips: NDArray[np.uint8]) -> list[tuple[float, float]]:
    """Seconds a clip of both, by turns, so that what else the machine does strikes both."""
    pairs: list[tuple[float, float]] = []
    began = time.monotonic()
    while len(pairs) < _MOST_PAIRS and (not pairs or time.monotonic() - began < _ENOUGH_S):
        pairs.append((_seconds(torchs, clips), _seconds(ours, clips)))
    return pairs


def _seconds(backend: Backend, clips: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    backend.run(clips)
    return (time.perf_counter() - start) / len(clips)


def _key(checkpoint: Checkpoint, size: tuple[int, int, int]) -> str:
    return f"{checkpoint.spec.backbone_hash[:32]} {'x'.join(map(str, size))} {_machine()}"


def _machine() -> str:
    """What a measurement holds for: this computer and these versions."""
    runtime = _version("onnxruntime-gpu") or _version("onnxruntime")
    return f"{platform.node()} {usable_processors()} torch {_version('torch')} onnxruntime {runtime}"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _file() -> Path:
    return home() / "cache" / "backends.json"


def _keep(key: str, choice: Measurement) -> None:
    """Write a choice beside what is kept by now. Raises OSError."""
    told = {k: asdict(kept) for k, kept in {**_read(), key: choice}.items()}
    write_atomically(_file(), json.dumps(told, indent=1).encode())


def _read() -> dict[str, Measurement]:
    """What was kept; without what is not sound."""
    try:
        told = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(told, dict):
        return {}
    return {key: choice for key, said in told.items() if (choice := _sound(said))}


def _sound(said: Any) -> Measurement | None:
    """A choice as it was written down; None of anything else."""
    try:
        choice = Measurement(**said)
    except TypeError:
        return None
    texts = isinstance(choice.model, str) and isinstance(choice.clip, str)
    numbers = isinstance(choice.torch_s, float) and isinstance(choice.onnx_s, float | None)
    return choice if texts and numbers and choice.backend in ("torch", "onnx") else None
