"""CMX 3600 edit decision list: one event for each moment, in a row; the label is a locator.

The list has one frame rate, that of most of its videos. Times of videos with another rate are off by less than one
frame of the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.exported_moments import DEFAULT_FRAME_RATE
from vtag.engine.library.exports.text import one_line, path_text

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment

_PROGRAMME_START_S = 3600  # by custom, timecode begins at one hour


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one programme."""
    rate = Counter(item.frame_rate for item in items).most_common(1)[0][0] if items else DEFAULT_FRAME_RATE
    lines = ["TITLE: vtag", "FCM: NON-DROP FRAME", ""]
    position = _PROGRAMME_START_S * round(rate)  # the next event's first frame in the programme
    for number, item in enumerate(items, 1):
        first = round(item.moment.start_ms * rate / 1000)
        length = max(1, round(item.moment.end_ms * rate / 1000) - first)
        frames = (first, first + length, position, position + length)
        timecodes = [_timecode(frame, rate) for frame in frames]
        lines += [
            f"{number:03}  AX       V     C        {' '.join(timecodes)}",
            f"* FROM CLIP NAME: {path_text(item.file_name)}",
            f"* SOURCE FILE: {path_text(item.moment.path)}",
            f"* LOC: {timecodes[2]} RED     {one_line(item.moment.label)}",
            "",
        ]
        position += length
    return "\n".join(lines)


def _timecode(frame: int, rate: float) -> str:
    """A frame number as hh:mm:ss:ff, non-drop."""
    seconds, frames = divmod(frame, round(rate))
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}:{frames:02}"
