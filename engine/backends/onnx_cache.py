"""ONNX graphs of models from other formats: exported once for each size of clips, and stored in VTAG_HOME."""

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

_CACHE = Path("cache") / "onnx"

log = logging.getLogger(__name__)


def export_once(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph:
    """The float32 graph of a model for clips of `size` T, H, W. Exports it if it is not stored.

    Waits for another process that is exporting it. Raises ModelError if it cannot be exported or stored, or its
    answers differ from the model's.
    """
    if graph := cached_graph(checkpoint, size):
        return graph
    require_exporter()
    from vtag.engine.backends.export.onnx_writer import ExportOptions, export_onnx

    folder = _folder(checkpoint, size)
    with _export_lock(folder):
        if graph := cached_graph(checkpoint, size):
            return graph
        log.warning("exporting the model to ONNX for clips of %dx%dx%d, once", *size)
        with prefix_errors(folder):
            if folder.is_dir():  # damaged, or from a process that was killed
                shutil.rmtree(folder)
            folder.mkdir(mode=0o700)
        export_onnx(replace(checkpoint, onnx=None), folder / "model", ExportOptions(clip=size), [])
        if graph := cached_graph(checkpoint, size):
            return graph
        raise ModelError(f"the exported graph in {display_path(folder)} cannot be read")


def require_exporter() -> None:
    """Raise ModelError if a package for exporting is not installed."""
    for package in ("torch", "onnxscript"):
        if find_spec(package) is None:
            raise ModelError(f"a model is exported to ONNX with {package}: `pip install {package}`")


def has_export(checkpoint: Checkpoint, size: tuple[int, int, int]) -> bool:
    """Whether a folder of that graph exists. Its content is not checked."""
    return _folder(checkpoint, size).is_dir()


def cached_graph(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph | None:
    """The stored graph. None if there is none or it is damaged."""
    try:
        stored = load_checkpoint(_folder(checkpoint, size) / "model")
    except ModelError:
        return None
    is_same_backbone = stored.spec.backbone_hash == checkpoint.spec.backbone_hash
    return stored.onnx if is_same_backbone and stored.onnx and stored.onnx.size == size else None


@contextmanager
def _export_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of a graph's folder. Logs if it has to wait for another process. Raises ModelError."""
    with ExitStack() as stack:
        with prefix_errors(folder):
            lock = make_private_dir(folder.parent) / f"{folder.name}.lock"
            try:
                stack.enter_context(lock_file(lock))
            except LockHeldError as error:
                log.warning("%s is exporting this model to ONNX: waiting for it", error.holder)
                stack.enter_context(lock_file(lock, wait_s=math.inf))
        yield


def _folder(checkpoint: Checkpoint, size: tuple[int, int, int]) -> Path:
    return home() / _CACHE / f"{checkpoint.spec.backbone_hash[:32]}-{'x'.join(map(str, size))}"
