"""Chapters as FFmpeg's metadata file: `ffmpeg -i video.mp4 -i video.ffmetadata -map_metadata 1 -c copy out.mkv`.

https://ffmpeg.org/ffmpeg-formats.html#Metadata-2
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item


def write(items: Sequence[Item]) -> str:
    """The moments of one video, one chapter each."""
    chapters = [
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={m.start_ms}\nEND={m.end_ms}\ntitle={_escaped(m.label)}\n"
        for m, _, _ in items
    ]
    return "\n".join((";FFMETADATA1\n", *chapters))


def _escaped(label: str) -> str:
    return re.sub(r"([=;#\\])", r"\\\1", one_line(label))
