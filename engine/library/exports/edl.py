"""CMX 3600 edit decision list: one event a moment, one after the other; the label is a locator.

Such a list has one frame rate: that of most of its videos. Times of videos with another one are off by less than a
frame of the list's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line, path_text

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item

_HOUR = 3600  # where a programme begins, as is the custom


def write(items: Sequence[Item]) -> str:
    """All moments as one programme."""
    rate = Counter(item.rate for item in items).most_common(1)[0][0] if items else 25.0
    lines = ["TITLE: vtag", "FCM: NON-DROP FRAME", ""]
    at = _HOUR * round(rate)
    for number, item in enumerate(items, 1):
        first = round(item.moment.start_ms * rate / 1000)
        length = max(1, round(item.moment.end_ms * rate / 1000) - first)
        span = [_timecode(frame, rate) for frame in (first, first + length, at, at + length)]
        lines += [
            f"{number:03}  AX       V     C        {' '.join(span)}",
            f"* FROM CLIP NAME: {path_text(item.name)}",
            f"* SOURCE FILE: {path_text(item.moment.path)}",
            f"* LOC: {span[2]} RED     {one_line(item.moment.label)}",
            "",
        ]
        at += length
    return "\n".join(lines)


def _timecode(frame: int, rate: float) -> str:
    """Of a frame's number, counted without dropping any."""
    seconds, frames = divmod(frame, round(rate))
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"
