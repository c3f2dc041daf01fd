"""Moments as files for other programs, one module a format. Imports search for types only, and errors and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


Writer = Callable[[Sequence["ExportedMoment"]], str]


class Format(NamedTuple):
    """An export format: its file name suffix, and whether each file covers a single video."""

    suffix: str
    is_of_one_video: bool


FORMATS: Mapping[str, Format] = {
    "csv": Format(".csv", True),
    "json": Format(".json", False),
    "srt": Format(".srt", True),
    "vtt": Format(".vtt", True),
    "edl": Format(".edl", False),
    "otio": Format(".otio", False),
    "chapters": Format(".ffmetadata", True),
    "xmp": Format(".xmp", True),
}


def format_writer(name: str) -> Writer:
    """The function that writes a format as text. `xmp` has none: `xmp.merge` adds to an existing file instead."""
    module = import_module(f"vtag.engine.library.exports.{name}")
    write: Writer = module.write
    return write
