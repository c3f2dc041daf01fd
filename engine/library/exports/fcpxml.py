"""FCPXML 1.8 for Final Cut Pro and DaVinci Resolve: a project with one clip and one marker for each moment.

https://developer.apple.com/documentation/professional-video-applications/fcpxml-reference. Written without
OpenTimelineIO's adapter (1.0, of 2023): at 29.97 frames a second it leaves the frame's duration empty. Tests read
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from vtag.engine.library.exports.frame_rates import most_common_rate
from vtag.engine.library.exports.text import one_line, path_text, path_uri
from vtag.engine.library.exports.xml_text import xml_document
from vtag.engine.timecodes import numbering, timecode_frame

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one project."""
    document = ET.Element("fcpxml", version="1.8")
    resources = ET.SubElement(document, "resources")
    project = ET.SubElement(ET.SubElement(document, "event", name="vtag"), "project", name="vtag")
    rate = most_common_rate(items)
    size = next((item.size for item in items if item.clock.timecode_rate == rate), (0, 0))
    writer = _Resources(resources)
    sequence = ET.SubElement(
        project, "sequence", format=writer.format(rate, size), tcStart="0s", tcFormat="NDF"
    )
    spine = ET.SubElement(sequence, "spine")
    position = 0  # of the next clip, in frames of the project
    for item in items:
        length = max(1, round(item.moment.end_ms * rate / 1000) - round(item.moment.start_ms * rate / 1000))
        spine.append(_clip(item, writer.asset(item), rate, position, length))
        position += length
    sequence.set("duration", _time(position, rate))
    return xml_document(document, "<!DOCTYPE fcpxml>")


class _Resources:
    """The formats and files of a project, each once."""

    def __init__(self, element: ET.Element) -> None:
        self._element = element
        self._formats: dict[tuple[Fraction, tuple[int, int]], str] = {}
        self._assets: dict[bytes, str] = {}

    def format(self, rate: Fraction, size: tuple[int, int]) -> str:
        """The id of a format."""
        if (rate, size) not in self._formats:
            name = self._formats[rate, size] = self._next_id()
            attributes = {"id": name, "frameDuration": _time(1, rate)}
            if all(size):
                attributes |= {"width": str(size[0]), "height": str(size[1])}
            ET.SubElement(self._element, "format", attributes)
        return self._formats[rate, size]

    def asset(self, item: ExportedMoment) -> str:
        """The id of a video's file, which begins at its start timecode."""
        path, rate = item.moment.path, item.clock.timecode_rate
        if path not in self._assets:
            format_id = self.format(rate, item.size)
            name = self._assets[path] = self._next_id()
            start = timecode_frame(item.clock, 0)
            end = max(start + 1, timecode_frame(item.clock, max(item.video_end_ms, item.moment.end_ms)))
            attributes = {
                "id": name, "name": path_text(item.file_name), "src": path_uri(path), "start": _time(start, rate),
                "duration": _time(end - start, rate), "hasVideo": "1", "format": format_id,
            }  # fmt: skip
            if item.has_sound:
                attributes |= {"hasAudio": "1", "audioSources": "1", "audioChannels": "2"}
            ET.SubElement(self._element, "asset", attributes)
        return self._assets[path]

    def _next_id(self) -> str:
        return f"r{len(self._formats) + len(self._assets) + 1}"


def _clip(item: ExportedMoment, asset: str, rate: Fraction, position: int, length: int) -> ET.Element:
    own_rate = item.clock.timecode_rate
    start = _time(timecode_frame(item.clock, item.moment.start_ms), own_rate)
    label = one_line(item.moment.label)
    clip = ET.Element("asset-clip", {
        "ref": asset, "name": label, "offset": _time(position, rate), "start": start,
        "duration": _time(length, rate), "tcFormat": "DF" if numbering(item.clock).is_drop else "NDF",
    })  # fmt: skip
    if own_rate != rate:  # the clip keeps its length in seconds, not its number of frames
        # the format knows a list of rates with two decimals: 23.98
        ET.SubElement(clip, "conform-rate", scaleEnabled="0", srcFrameRate=f"{round(float(own_rate), 2):g}")
    ET.SubElement(clip, "marker", start=start, duration=_time(1, own_rate), value=label)
    return clip


def _time(frames: int, rate: Fraction) -> str:
    """A time in seconds as FCPXML writes it, a multiple of the frame's duration."""
    return f"{frames * rate.denominator}/{rate.numerator}s" if frames else "0s"
