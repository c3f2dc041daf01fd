"""Chapters as FFmpeg's metadata file: `ffmpeg -i video.mp4 -i video.ffmetadata -map_metadata 1 -c copy out.mkv`.

https://ffmpeg.org/ffmpeg-formats.html#Metadata-2
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video, one chapter each."""
    chapters = [
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={moment.start_ms}\nEND={moment.end_ms}\ntitle={_escape(moment.label)}\n"
        for moment, _, _ in items
    ]
    return "\n".join((";FFMETADATA1\n", *chapters))


def _escape(label: str) -> str:
    return re.sub(r"([=;#\\])", r"\\\1", one_line(label))
