"""Reads what a file says of its clock: when its first picture is shown, its start timecode and its frame rates."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from vtag.engine.video_clock import ClockStretch, Timecode, VideoClock, choose_timecode_rate, exact_rate

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_TIMECODE_TAGS = ("timecode", "timecode_at_mark_in")  # the second one is GXF's


def read_clock(
    container: InputContainer, stream: VideoStream, first_us: int, rate: Fraction, interval: Fraction
) -> VideoClock:
    """The clock of an open video.

    Args:
        container: the open file.
        stream: its video stream.
        first_us: the time of the first picture by the container's clock, in microseconds.
        rate: frames a second, on average.
        interval: usual seconds from one frame to the next.
    """
    rate = exact_rate(rate)
    # players and ffmpeg let the earliest stream begin at 0
    first = ClockStretch(0, first_us - (container.start_time or 0))
    timecode_rate = choose_timecode_rate(rate, 1 / interval)
    return VideoClock((first,), rate, timecode_rate, _start_timecode(container, stream))


def _start_timecode(container: InputContainer, stream: VideoStream) -> Timecode | None:
    """The first timecode among the tags of the video, of the container, and of the other streams."""
    others = [other.metadata for other in container.streams if other.index != stream.index]
    for tags in (stream.metadata, container.metadata, *others):
        readable = {tag.rpartition("/")[2].lower(): text for tag, text in tags.items()}
        for tag in _TIMECODE_TAGS:
            if (timecode := Timecode.parse(readable.get(tag, ""))) is not None:
                return timecode
    return None
