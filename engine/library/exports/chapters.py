"""Chapters as FFmpeg's metadata file: `ffmpeg -i video.mp4 -i video.ffmetadata -map_metadata 1 -c copy out.mkv`.

https://ffmpeg.org/ffmpeg-formats.html#Metadata-2
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment
    from vtag.engine.library.search.moments import Moment


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video as chapters that follow each other.

    Where moments overlap, each part is a chapter with all their labels: of chapters that overlap, players and
    containers keep only some, with a length of 0.
    """
    chapters = [
        f"[CHAPTER]\nTIMEBASE=1/1000\nSTART={start_ms}\nEND={end_ms}\ntitle={_escape(', '.join(labels))}\n"
        for start_ms, end_ms, labels in chapter_parts(items)
    ]
    return "\n".join((";FFMETADATA1\n", *chapters))


def chapter_parts(items: Sequence[ExportedMoment]) -> Iterator[tuple[int, int, list[str]]]:
    """Start, end and labels of each part of the video in which the same moments are seen."""
    moments = sorted((item.moment for item in items), key=lambda moment: moment.start_ms)
    times = sorted({time for moment in moments for time in (moment.start_ms, moment.end_ms)})
    active: list[Moment] = []
    upcoming = iter(moments)
    following = next(upcoming, None)
    for start_ms, end_ms in pairwise(times):
        active = [moment for moment in active if moment.end_ms > start_ms]
        while following is not None and following.start_ms <= start_ms:
            active.append(following)
            following = next(upcoming, None)
        if active:
            yield start_ms, end_ms, list(dict.fromkeys(moment.label for moment in active))


def _escape(label: str) -> str:
    return re.sub(r"([=;#\\])", r"\\\1", one_line(label))
