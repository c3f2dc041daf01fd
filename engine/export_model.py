"""`vtag models export`: which model, which windows it is compared on, and what came of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtag.engine.backends.onnx_cache import need_exporter
from vtag.engine.checkpoints.model_folder import ONNX_FILE
from vtag.engine.library.database import Library
from vtag.engine.library.store.heads import library_model_source
from vtag.engine.models.registry import STARTER, load_model
from vtag.engine.paths import library_path
from vtag.engine.scan.sample_windows import library_videos, sample_windows

if TYPE_CHECKING:
    from vtag.engine.backends.export.onnx_writer import Compared

_FEW_WINDOWS = 4  # where numbers are compared, and not shares of windows


@dataclass(frozen=True)
class Exported:
    """A model folder that was written, and how it answers beside Torch."""

    name: str
    size_bytes: int
    compared: Compared


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
) -> Exported:
    """Write a model as an ONNX folder, compared with Torch on windows of `clips`, else of the library's videos.

    Args:
        model: a name or path; None: the library's, in a new library the starter.
        folder: where to.
        precision: fp32, fp16 or int8.
        size: height and width of its clips in pixels; None: the model's crop.
        batch: clips in a call; None: any number.
        opset: the version of ONNX's operators.
        clips: videos and folders of them.
        db: the library's file.

    Raises ModelError where torch or the exporter is missing, where the model cannot be exported, or where the file
    does not answer as Torch does; then nothing is written.
    """
    need_exporter()
    from vtag.engine.backends.export.onnx_writer import (
        MOST_WINDOWS,
        ExportOptions,
        check_options,
        export,
        spec_for,
    )

    library = library_path(db)
    checkpoint = load_model(model or _library_model(library) or STARTER)
    clip = (checkpoint.spec.frames, size, size) if size else None
    options = ExportOptions(precision, clip, batch, opset)
    check_options(checkpoint, options)
    most = MOST_WINDOWS if precision == "int8" else _FEW_WINDOWS
    paths = list(clips) or library_videos(library, most)
    spec = spec_for(checkpoint.spec, clip)
    windows = sample_windows(paths, spec, most) if paths else []
    compared = export(replace(checkpoint, onnx=None), folder, options, windows)
    return Exported(spec.name, (folder / ONNX_FILE).stat().st_size, compared)


def _library_model(library: Path) -> str | None:
    """The name or path of the model that a library uses, where there is one."""
    if not library.is_file():
        return None
    with Library.open(library) as opened:
        return library_model_source(opened)
