"""A project for Kdenlive, which MLT's `melt` plays: the moments in a row, and a marker for each in its video.

Written for Kdenlive 20.08 to 22.12; later ones convert it when they open it.
https://github.com/KDE/kdenlive/blob/master/dev-docs/fileformat.md
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import gcd
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from vtag.engine.library.exports.files import group_by_video
from vtag.engine.library.exports.frame_rates import most_common_rate
from vtag.engine.library.exports.text import one_line, path_text
from vtag.engine.library.exports.xml_text import xml_document, xml_path

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment

_DOCUMENT_VERSION = "1.04"
_INTERNAL = "237"  # marks what Kdenlive adds to each project by itself
_DEFAULT_SIZE = (1920, 1080)
_FIRST_BIN_ID = 2  # below it is the bin itself


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one project."""
    rate = most_common_rate(items)
    size = next((item.size for item in items if all(item.size)), _DEFAULT_SIZE)
    document = ET.Element("mlt", {"LC_NUMERIC": "C", "producer": "main_bin", "version": "7.12.0"})
    document.append(_profile(rate, size))
    videos = group_by_video(items)
    ids = {path: _FIRST_BIN_ID + number for number, path in enumerate(videos)}
    for path, of_one in videos.items():
        document.append(_producer(of_one, ids[path], rate))
    document.append(_bin(ids.values()))
    length = sum(_frames(item, rate)[1] for item in items)
    document.append(_black(length))
    for number, is_audio in enumerate((True, False)):
        for element in _track(number, items, ids, rate, is_audio=is_audio):
            document.append(element)
    document.append(_timeline(length))
    return xml_document(document)


def _profile(rate: Fraction, size: tuple[int, int]) -> ET.Element:
    width, height = (side + side % 2 for side in size)
    shape = gcd(width, height)
    values = {
        "description": "vtag", "width": width, "height": height, "progressive": 1, "sample_aspect_num": 1,
        "sample_aspect_den": 1, "display_aspect_num": width // shape, "display_aspect_den": height // shape,
        "frame_rate_num": rate.numerator, "frame_rate_den": rate.denominator, "colorspace": 709,
    }  # fmt: skip
    return ET.Element("profile", {name: str(value) for name, value in values.items()})


def _producer(items: Sequence[ExportedMoment], bin_id: int, rate: Fraction) -> ET.Element:
    """A video of the bin, with a marker for each of its moments."""
    end_ms = max(items[0].video_end_ms, *(item.moment.end_ms for item in items))
    length = max(1, round(items[0].clock.library_ms(end_ms) * rate / 1000))
    markers = [
        {"comment": one_line(item.moment.label), "duration": frames, "pos": first, "type": 0}
        for item in items
        for first, frames in [_frames(item, rate)]
    ]
    return _element("producer", f"producer{bin_id}", {
        "length": length, "eof": "pause", "resource": xml_path(items[0].moment.path), "mlt_service": "avformat",
        "seekable": 1, "kdenlive:id": bin_id, "kdenlive:folderid": -1,
        "kdenlive:clipname": path_text(items[0].file_name), "kdenlive:clip_type": 0 if items[0].has_sound else 2,
        "kdenlive:markers": json.dumps(markers, ensure_ascii=False),
    }, end=length)  # fmt: skip


def _bin(ids: Iterable[int]) -> ET.Element:
    properties = {"version": _DOCUMENT_VERSION, "decimalPoint": ".", "activeTrack": 1, "guides": "[]"}
    named = {f"kdenlive:docproperties.{name}": value for name, value in properties.items()}
    playlist = _element("playlist", "main_bin", {**named, "xml_retain": 1})
    for bin_id in ids:
        ET.SubElement(playlist, "entry", producer=f"producer{bin_id}")
    return playlist


def _black(length: int) -> ET.Element:
    """What is shown below all tracks."""
    return _element("producer", "black_track", {
        "length": length, "eof": "continue", "resource": "black", "mlt_service": "color", "aspect_ratio": 1,
        "kdenlive:playlistid": "black_track", "set.test_audio": 0,
    }, end=length)  # fmt: skip


def _track(
    number: int, items: Sequence[ExportedMoment], ids: dict[bytes, int], rate: Fraction, *, is_audio: bool
) -> list[ET.Element]:
    """A track of the timeline: its clips, a second list for transitions, and what joins the two."""
    clips = _element("playlist", f"playlist{2 * number}", {"kdenlive:audio_track": 1} if is_audio else {})
    for item in items:
        first, length = _frames(item, rate)
        if is_audio and not item.has_sound:
            ET.SubElement(clips, "blank", length=str(length))
            continue
        bin_id = ids[item.moment.path]
        last = str(first + length - 1)
        entry = ET.SubElement(
            clips, "entry", {"producer": f"producer{bin_id}", "in": str(first), "out": last}
        )
        _add_properties(entry, {"kdenlive:id": bin_id})
    second = _element(
        "playlist", f"playlist{2 * number + 1}", {"kdenlive:audio_track": 1} if is_audio else {}
    )
    tractor = _element("tractor", f"tractor{number}", {
        "kdenlive:trackheight": 60, "kdenlive:timeline_active": 1,
        **({"kdenlive:audio_track": 1} if is_audio else {}),
    })  # fmt: skip
    for playlist in (clips, second):
        ET.SubElement(tractor, "track", hide="video" if is_audio else "audio", producer=playlist.attrib["id"])
    return [clips, second, tractor]


def _timeline(length: int) -> ET.Element:
    timeline = _element("tractor", "tractor2", {}, end=length)
    for producer in ("black_track", "tractor0", "tractor1"):
        ET.SubElement(timeline, "track", producer=producer)
    for number, (service, track) in enumerate((("mix", 1), ("frei0r.cairoblend", 2))):
        timeline.append(_element("transition", f"transition{number}", {
            "a_track": 0, "b_track": track, "mlt_service": service, "always_active": 1,
            "internal_added": _INTERNAL, **({"sum": 1} if service == "mix" else {}),
        }))  # fmt: skip
    return timeline


def _frames(item: ExportedMoment, rate: Fraction) -> tuple[int, int]:
    """First frame and number of frames of a moment in its video, at the project's rate.

    MLT counts from the first picture, as the library does and players do not.
    """
    first, end = (
        round(item.clock.library_ms(ms) * rate / 1000) for ms in (item.moment.start_ms, item.moment.end_ms)
    )
    return first, max(1, end - first)


def _element(kind: str, name: str, properties: dict[str, object], *, end: int | None = None) -> ET.Element:
    """An element of MLT with its properties; `end` is its number of frames."""
    attributes = {"id": name} | ({} if end is None else {"in": "0", "out": str(max(0, end - 1))})
    element = ET.Element(kind, attributes)
    _add_properties(element, properties)
    return element


def _add_properties(element: ET.Element, properties: dict[str, object]) -> None:
    for name, value in properties.items():
        ET.SubElement(element, "property", name=name).text = str(value)
