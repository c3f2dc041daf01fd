"""CMX 3600 edit decision list: one event for each moment, in a row; the label is a locator.

The list has one frame rate, that of most of its videos. An event of a video with another rate says so: its times are
off by less than one frame of the list. OpenTimelineIO's adapter would write labels in capitals, and nothing of drop
frames or of other rates.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.frame_rates import format_rate
from vtag.engine.library.exports.text import one_line, path_text
from vtag.engine.timecodes import Numbering, numbering, timecode_frame
from vtag.engine.video_clock import DEFAULT_RATE

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment

_PROGRAMME_START_H = 1  # by custom, timecode begins at one hour


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one programme."""
    programme = _programme_numbering(items)
    mode = programme.is_drop
    lines = ["TITLE: vtag", _frame_code_mode(mode), ""]
    position = programme.count(_PROGRAMME_START_H)  # the next event's first frame in the programme
    for number, item in enumerate(items, 1):
        own = numbering(item.clock)
        source = own if own.rate == programme.rate else programme
        if source.is_drop != mode:
            mode = source.is_drop
            lines.append(_frame_code_mode(mode))
        first, end = (timecode_frame(item.clock, ms, source) for ms in _range(item))
        length = max(1, end - first)
        timecodes = [
            *(source.format(frame) for frame in (first, first + length)),
            *(programme.format(frame) for frame in (position, position + length)),
        ]
        lines += [
            f"{number:03}  AX       V     C        {' '.join(timecodes)}",
            f"* FROM CLIP NAME: {path_text(item.file_name)}",
            f"* SOURCE FILE: {path_text(item.moment.path)}",
            f"* LOC: {timecodes[2]} RED     {one_line(item.moment.label)}",
        ]
        if own.rate != programme.rate:
            lines.append(f"* SOURCE FRAME RATE: {format_rate(own.rate)}")
        lines.append("")
        position += length
    return "\n".join(lines)


def describe_mixed_rates(items: Sequence[ExportedMoment]) -> str:
    """A sentence about videos whose frame rate is not that of the list; empty if there are none."""
    rate = _programme_numbering(items).rate
    others = {
        item.moment.path: item.clock.timecode_rate for item in items if item.clock.timecode_rate != rate
    }
    if not others:
        return ""
    rates = ", ".join(format_rate(other) for other in sorted(set(others.values())))
    videos = "1 video has" if len(others) == 1 else f"{len(others)} videos have"
    return (
        f"the list has {format_rate(rate)} frames a second, {videos} {rates}: "
        "export videos of different rates to lists of their own, or as otio"
    )


def _programme_numbering(items: Sequence[ExportedMoment]) -> Numbering:
    counts = Counter(numbering(item.clock) for item in items)
    return counts.most_common(1)[0][0] if counts else Numbering(DEFAULT_RATE, is_drop=False)


def _range(item: ExportedMoment) -> tuple[int, int]:
    return item.moment.start_ms, item.moment.end_ms


def _frame_code_mode(is_drop: bool) -> str:
    return "FCM: DROP FRAME" if is_drop else "FCM: NON-DROP FRAME"
