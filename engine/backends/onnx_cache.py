"""ONNX graphs of models that came otherwise: exported once for each size of clips, kept below VTAG_HOME."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vtag.engine.checkpoints.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.checkpoints.safe_open import prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.paths import home, make_private_dir
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path

_PLACE = Path("cache") / "onnx"

log = logging.getLogger(__name__)


def export_once(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph:
    """The float32 graph of a whole model for clips of `size` T, H, W; exported where it is not here yet.

    A process that finds another exporting it waits for that one. Raises ModelError where it cannot be exported or
    kept, or does not answer as the model does.
    """
    if found := cached_graph(checkpoint, size):
        return found
    require_exporter()
    from vtag.engine.backends.export.onnx_writer import ExportOptions, export

    place = _place(checkpoint, size)
    with _alone(place):
        if found := cached_graph(checkpoint, size):
            return found
        log.warning("exporting the model to ONNX for clips of %dx%dx%d, once", *size)
        with prefix_errors(place):
            if place.is_dir():  # not sound, or left by a process that was killed
                shutil.rmtree(place)
            place.mkdir(mode=0o700)
        export(replace(checkpoint, onnx=None), place / "model", ExportOptions(clip=size), [])
        if exported := cached_graph(checkpoint, size):
            return exported
        raise ModelError(f"the exported graph in {display_path(place)} cannot be read")


def require_exporter() -> None:
    """Raise ModelError where what exports is not installed."""
    for package in ("torch", "onnxscript"):
        if find_spec(package) is None:
            raise ModelError(f"a model is exported to ONNX with {package}: `pip install {package}`")


def has_export(checkpoint: Checkpoint, size: tuple[int, int, int]) -> bool:
    """Whether there is a folder of that graph, sound or not."""
    return _place(checkpoint, size).is_dir()


def cached_graph(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph | None:
    """The graph that was exported earlier; None where there is none that is sound."""
    try:
        kept = load_checkpoint(_place(checkpoint, size) / "model")
    except ModelError:
        return None
    fits = kept.spec.backbone_hash == checkpoint.spec.backbone_hash and kept.onnx and kept.onnx.size == size
    return kept.onnx if fits else None


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Hold the lock of a graph's folder; wait for a process that has it, and say so. Raises ModelError."""
    with ExitStack() as held:
        with prefix_errors(place):
            lock = make_private_dir(place.parent) / f"{place.name}.lock"
            try:
                held.enter_context(lock_file(lock))
            except LockHeldError:
                log.warning("another vtag is exporting this model to ONNX: waiting for it")
                held.enter_context(lock_file(lock, wait_s=math.inf))
        yield


def _place(checkpoint: Checkpoint, size: tuple[int, int, int]) -> Path:
    return home() / _PLACE / f"{checkpoint.spec.backbone_hash[:32]}-{'x'.join(map(str, size))}"
