"""OpenTimelineIO: a timeline with one clip for each moment, counted in frames of its video.

Written without the library, since the format is plain JSON. Schemas:
https://opentimelineio.readthedocs.io/en/latest/tutorials/otio-serialized-schema.html
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.json import path_as_json
from vtag.engine.library.exports.text import one_line, path_text, path_uri

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
    return json.dumps(timeline, ensure_ascii=False, indent=1) + "\n"


def _clip(item: ExportedMoment) -> dict[str, object]:
    moment = item.moment
    first = round(moment.start_ms * item.frame_rate / 1000)
    length = max(1, round(moment.end_ms * item.frame_rate / 1000) - first)
    video_length = max(first + length, round(item.duration_ms * item.frame_rate / 1000))
    label, source_range = one_line(moment.label), _range(first, length, item.frame_rate)
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
                "available_range": _range(0, video_length, item.frame_rate),
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
