"""Decides which runtime `--backend auto` uses for a model on this machine, from a stored measurement.

ONNX Runtime replaces Torch only if an exported graph of the model exists, both gave the same answers for the same
clips, and the graph was faster by more than the noise. That is measured when a model first runs with `--backend
onnx`, which exports the graph and takes its time anyway. `auto` only reads the result, so no scan waits for a
measurement. Exported graphs compute in float32: int8 is never used by `auto`.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends import onnx_cache
from vtag.engine.backends.measurements import (
    Measurement,
    measurement_key,
    measurement_lock,
    read_measurements,
    save_measurement,
)
from vtag.engine.backends.protocol import MAX_THREADS, Backend, Output, usable_processors
from vtag.engine.backends.synthetic_clips import wave_clips
from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.errors import ModelError
from vtag.engine.system.locks import LockHeldError

BACKEND_VARIABLE = "VTAG_BACKEND"  # torch or onnx: the runtime of `auto`, whatever was measured
_TOLERANCE = 1e-4  # of the largest output, or of 1 if that is larger
_CLEARLY_FASTER = 0.9  # of Torch's time
_MAX_PAIRS = 15
_MAX_MEASURING_S = 4.0  # no further pair starts after this time

log = logging.getLogger(__name__)


def pinned_backend() -> str | None:
    """The runtime that the user set for `auto`: torch or onnx. None if it is not set.

    Raises ModelError for any other value.
    """
    value = os.environ.get(BACKEND_VARIABLE)
    if value and value not in ("torch", "onnx"):
        raise ModelError(
            f"{BACKEND_VARIABLE} pins what --backend auto means: set it to torch or onnx, or unset it"
        )
    return value or None


def faster_graph(checkpoint: Checkpoint, device: str, precision: str) -> OnnxGraph | None:
    """The exported graph that `auto` runs instead of Torch. None for Torch. Measures and exports nothing."""
    size = checkpoint.spec.clip_size
    if (
        device not in ("auto", "cpu")
        or precision not in ("auto", "fp32")
        or not onnx_cache.has_export(checkpoint, size)
    ):
        return None
    measurement = read_measurements().get(measurement_key(checkpoint.spec))
    if (
        measurement is None
        or measurement.backend != "onnx"
        or not _torch_uses_float32_on_cpu(device, precision)
    ):
        return None
    return onnx_cache.cached_graph(checkpoint, size)


def measure_backends(checkpoint: Checkpoint, onnx_backend: Backend) -> None:
    """Time Torch and `onnx_backend`, the model's exported graph on the CPU, and store which is faster, once.

    Does nothing if the result cannot be stored or another process is measuring.
    """
    key = measurement_key(checkpoint.spec)
    if find_spec("torch") is None or key in read_measurements():
        return
    try:
        with measurement_lock():
            log.warning("measuring whether torch or onnx is faster for this model here, once")
            save_measurement(key, _measure(checkpoint, onnx_backend))
    except (OSError, LockHeldError):
        log.debug("the measurement cannot be stored now", exc_info=True)


def clearly_faster(pairs: Sequence[tuple[float, float]]) -> bool:
    """Whether the second time of the pairs is shorter by more than chance."""
    return statistics.median(second / first for first, second in pairs) < _CLEARLY_FASTER


def same_answers(a: Output, b: Output) -> bool:
    """Whether two runtimes' answers for the same clips are equal within float32's rounding."""
    pairs = ((a.features, b.features), (a.logits, b.logits))
    # NaN fails the comparison
    return all(bool(np.abs(x - y).max() <= _TOLERANCE * max(1.0, float(np.abs(x).max()))) for x, y in pairs)


def _torch_uses_float32_on_cpu(device: str, precision: str) -> bool:
    """Whether Torch would compute as the graph does. If not, the graph must not replace it."""
    from vtag.engine.backends.torch_backend import choose_device, choose_precision

    torch_device = choose_device(device)
    return torch_device.type == "cpu" and choose_precision(precision, torch_device) == "fp32"


def _measure(checkpoint: Checkpoint, onnx_backend: Backend) -> Measurement:
    from vtag.engine.backends.torch_backend import TorchBackend

    size = checkpoint.spec.clip_size
    torch_backend = TorchBackend(checkpoint, device="cpu", precision="fp32")
    clips = np.stack(wave_clips(size, min(usable_processors(), MAX_THREADS)))  # as many as in a scan's batch
    # the first run of each is not timed
    is_same = same_answers(torch_backend.run(clips), onnx_backend.run(clips))
    if is_same:
        pairs = _time_pairs(torch_backend, onnx_backend, clips)
    else:
        pairs = [(_seconds_a_clip(torch_backend, clips), float("inf"))]
    torch_s, onnx_s = (statistics.median(seconds) for seconds in zip(*pairs, strict=True))
    return Measurement(
        checkpoint.spec.name,
        "x".join(map(str, size)),
        "onnx" if is_same and clearly_faster(pairs) else "torch",
        torch_s,
        onnx_s if is_same else None,
    )


def _time_pairs(
    torch_backend: Backend, onnx_backend: Backend, clips: NDArray[np.uint8]
) -> list[tuple[float, float]]:
    """Seconds a clip of both, in turn, so that other load on the machine affects both."""
    pairs: list[tuple[float, float]] = []
    start = time.monotonic()
    while len(pairs) < _MAX_PAIRS and (not pairs or time.monotonic() - start < _MAX_MEASURING_S):
        pairs.append((_seconds_a_clip(torch_backend, clips), _seconds_a_clip(onnx_backend, clips)))
    return pairs


def _seconds_a_clip(backend: Backend, clips: NDArray[np.uint8]) -> float:
    start = time.perf_counter()
    backend.run(clips)
    return (time.perf_counter() - start) / len(clips)
