"""Moments as files for other programs, one module a format. Imports search for types only, and errors and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


Writer = Callable[[Sequence["ExportedMoment"]], str]


class Format(NamedTuple):
    """An export format: the suffix of its files, whether each is of a single video, and the programs that read it."""

    suffix: str
    is_of_one_video: bool
    programs: str


FORMATS: Mapping[str, Format] = {
    "mpv": Format(".mpv.edl", False, "mpv: plays the moments in a row"),
    "m3u8": Format(".m3u8", False, "VLC: a playlist of the moments"),
    "srt": Format(".srt", True, "any player: subtitles (SubRip)"),
    "vtt": Format(".vtt", True, "browsers: subtitles (WebVTT)"),
    "chapters": Format(".ffmetadata", True, "ffmpeg: chapters in a copy of the video"),
    "matroska": Format(".chapters.xml", True, "mkvpropedit, mkvmerge: chapters of a Matroska file"),
    "csv": Format(".csv", True, "LosslessCut: segments"),
    "kdenlive": Format(".kdenlive", False, "Kdenlive, melt: a project with markers"),
    "fcpxml": Format(".fcpxml", False, "DaVinci Resolve, Final Cut Pro: a project with markers"),
    "otio": Format(".otio", False, "OpenTimelineIO, and editors that read it"),
    "edl": Format(".edl", False, "any editor: CMX 3600, the labels as locators"),
    "xmp": Format(".xmp", True, "digiKam, Immich, darktable: keywords beside the videos"),
    "nfo": Format(".nfo", True, "Jellyfin, Kodi: tags beside the videos"),
    "json": Format(".json", False, "scripts: as `vtag search --json`"),
}
SIDECARS = ("xmp", "nfo")  # merged into files that exist beside videos; they have no writer
WITH_SOUND = ("kdenlive", "fcpxml")  # have to know whether a video has sound


def format_writer(name: str) -> Writer:
    """The function that writes a format as text; not of SIDECARS, which add to an existing file instead."""
    module = import_module(f"vtag.engine.library.exports.{name}")
    write: Writer = module.write
    return write
