"""ONNX graphs of models that came otherwise: exported once for each size of clips, kept below VTAG_HOME."""

from __future__ import annotations

import logging
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from vtag.engine.errors import ModelError
from vtag.engine.paths import home, private_dir
from vtag.engine.swin.checkpoint import Checkpoint, OnnxGraph
from vtag.engine.swin.checkpoints import load_checkpoint

_PLACE = Path("cache") / "onnx"

log = logging.getLogger(__name__)


def twin(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph:
    """The float32 graph of a whole model for clips of `size` T, H, W; exported where it is not here yet.

    Raises ModelError where it cannot be exported, or does not answer as the model does.
    """
    if found := known_twin(checkpoint, size):
        return found
    need_exporter()
    from vtag.engine.backends.export import ExportOptions, export

    log.warning("exporting the model to ONNX for clips of %dx%dx%d, once", *size)
    folder = _folder(checkpoint, size)
    private_dir(folder.parent)
    export(replace(checkpoint, onnx=None), folder, ExportOptions(clip=size), [])
    exported = known_twin(checkpoint, size)
    if exported is None:
        raise ModelError(f"the exported graph {folder} cannot be read: remove it")
    return exported


def need_exporter() -> None:
    """Raise ModelError where what exports is not installed."""
    for package in ("torch", "onnxscript"):
        if find_spec(package) is None:
            raise ModelError(f"a model is exported to ONNX with {package}: `pip install {package}`")


def is_here(checkpoint: Checkpoint, size: tuple[int, int, int]) -> bool:
    """Whether there is a folder of that graph, sound or not."""
    return _folder(checkpoint, size).is_dir()


def known_twin(checkpoint: Checkpoint, size: tuple[int, int, int]) -> OnnxGraph | None:
    """The graph that was exported earlier; None where there is none that is sound."""
    folder = _folder(checkpoint, size)
    if not folder.is_dir():
        return None
    try:
        kept = load_checkpoint(folder)
    except ModelError:
        return None
    return kept.onnx if kept.spec.backbone_hash == checkpoint.spec.backbone_hash else None


def _folder(checkpoint: Checkpoint, size: tuple[int, int, int]) -> Path:
    return home() / _PLACE / f"{checkpoint.spec.backbone_hash[:32]}-{'x'.join(map(str, size))}"
