"""Exports a model as an ONNX folder and compares it with Torch on windows of videos (`vtag models export`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtag.engine.backends.onnx_cache import require_exporter
from vtag.engine.checkpoints.model_folder import ONNX_FILE, require_place
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store.heads import library_model_source
from vtag.engine.models.registry import STARTER, load_model
from vtag.engine.paths import library_path
from vtag.engine.scan.sample_windows import library_videos, sample_windows

if TYPE_CHECKING:
    from vtag.engine.backends.export.onnx_writer import ExportComparison

_FEW_WINDOWS = 4  # enough to compare numbers; int8 is compared by its share of equal answers


@dataclass(frozen=True)
class ExportedModel:
    """The name and size of a new model folder, and how close its outputs are to those of Torch."""

    name: str
    size_bytes: int
    compared: ExportComparison


def export_model(
    model: str | None,
    folder: Path,
    *,
    precision: str = "fp32",
    size: int | None = None,
    batch: int | None = None,
    opset: int = 18,
    clips: Sequence[bytes] = (),
    db: Path | None = None,
    on_begin: Callable[[str], None] = lambda _: None,
) -> ExportedModel:
    """Write a model as an ONNX folder. It is compared with Torch on windows of `clips`, else of the library's videos.

    Args:
        model: a name or path; None: the library's model, in a new library the starter.
        folder: the folder to create.
        precision: fp32, fp16 or int8.
        size: height and width of its clips in pixels; None: the model's crop.
        batch: clips in a call; None: any number.
        opset: the version of ONNX's operators.
        clips: videos, and folders of videos.
        db: the library's file.
        on_begin: called with the model's name before what takes a while.

    Raises ModelError if torch or the exporter is missing, if the model cannot be exported, or if the exported model
    computes something else than Torch; then nothing is written.
    """
    require_exporter()
    require_place(folder)
    from vtag.engine.backends.export.onnx_writer import (
        MAX_WINDOWS,
        ExportOptions,
        check_options,
        export_onnx,
        spec_for_clip,
    )

    library = library_path(db)
    checkpoint = load_model(model or _library_model(library) or STARTER)
    clip = (checkpoint.spec.frames, size, size) if size else None
    options = ExportOptions(precision, clip, batch, opset)
    check_options(checkpoint, options)
    on_begin(checkpoint.spec.name)
    max_windows = MAX_WINDOWS if precision == "int8" else _FEW_WINDOWS
    paths = list(clips) or library_videos(library, max_windows)
    spec = spec_for_clip(checkpoint.spec, clip)
    windows = sample_windows(paths, spec, max_windows) if paths else []
    compared = export_onnx(replace(checkpoint, onnx=None), folder, options, windows)
    return ExportedModel(spec.name, (folder / ONNX_FILE).stat().st_size, compared)


def _library_model(path: Path) -> str | None:
    """The name or path of the model that a library uses; None if there is no library yet."""
    if not path.is_file():
        return None
    with LibraryWriter.open(path) as library:
        return library_model_source(library)
