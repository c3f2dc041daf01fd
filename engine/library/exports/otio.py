"""OpenTimelineIO: a timeline with one clip for each moment, in frames at its video's rate from its start timecode.

Written without the library, since the format is plain JSON. Schemas:
https://opentimelineio.readthedocs.io/en/latest/tutorials/otio-serialized-schema.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.json import path_as_json
from vtag.engine.library.exports.text import one_line, path_text, path_uri
from vtag.engine.text import to_json
from vtag.engine.timecodes import timecode_frame

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one timeline."""
    track = {
        "OTIO_SCHEMA": "Track.1",
        "kind": "Video",
        "name": "V1",
        "children": [_clip(item) for item in items],
    }
    stack = {"OTIO_SCHEMA": "Stack.1", "name": "tracks", "children": [track]}
    timeline = {"OTIO_SCHEMA": "Timeline.1", "name": "vtag", "tracks": stack}
    return to_json(timeline, indent=1) + "\n"


def _clip(item: ExportedMoment) -> dict[str, object]:
    moment, rate = item.moment, float(item.clock.timecode_rate)
    start = timecode_frame(item.clock, 0)
    first = timecode_frame(item.clock, moment.start_ms)
    length = max(1, timecode_frame(item.clock, moment.end_ms) - first)
    video_end = max(first + length, timecode_frame(item.clock, item.video_end_ms))
    label, source_range = one_line(moment.label), _range(first, length, rate)
    return {
        "OTIO_SCHEMA": "Clip.2",
        "name": label,
        "source_range": source_range,
        "markers": [{"OTIO_SCHEMA": "Marker.2", "name": label, "color": "RED", "marked_range": source_range}],
        "active_media_reference_key": "DEFAULT_MEDIA",
        "media_references": {
            "DEFAULT_MEDIA": {
                "OTIO_SCHEMA": "ExternalReference.1",
                "name": path_text(item.file_name),
                "target_url": path_uri(moment.path),
                "available_range": _range(start, video_end - start, rate),
            }
        },
        "metadata": {
            "vtag": {
                **path_as_json(moment.path),
                "score": round(moment.score, 6),
                "model": moment.model,
                "source": moment.source,
                "start_ms": moment.start_ms,
                "end_ms": moment.end_ms,
            }
        },
    }


def _range(first: int, length: int, rate: float) -> dict[str, object]:
    return {
        "OTIO_SCHEMA": "TimeRange.1",
        "start_time": {"OTIO_SCHEMA": "RationalTime.1", "value": float(first), "rate": rate},
        "duration": {"OTIO_SCHEMA": "RationalTime.1", "value": float(length), "rate": rate},
    }
