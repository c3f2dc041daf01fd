"""What was found, in the formats of other programs: one file a format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item


Writer = Callable[[Sequence["Item"]], str]


class Format(NamedTuple):
    """A format: the end of its files' names, and whether a file of it is of one video alone."""

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


def writer(name: str) -> Writer:
    """The function that writes a format as text; `xmp` has none of its own, since it is merged (`xmp.merge`)."""
    module = import_module(f"vtag.engine.library.exports.{name}")
    found: Writer = module.write
    return found
