"""Times as editors count them: frames of a standard rate from a start timecode, and their numbering."""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

from timecode import Timecode as SmpteTimecode

from vtag.engine.video_clock import VideoClock

_DROP_RATES = (Fraction(30000, 1001), Fraction(60000, 1001))


class Numbering(NamedTuple):
    """How frames are numbered: frames a second, and whether numbers are dropped to keep up with the clock."""

    rate: Fraction
    is_drop: bool

    @property
    def nominal(self) -> int:
        """Frame numbers in a second: 30 for 29.97."""
        return round(self.rate)

    def format(self, frame: int) -> str:
        """The timecode of a frame, which is counted from midnight: hh:mm:ss:ff, or hh:mm:ss;ff with drop frames."""
        return str(SmpteTimecode(self._rate, frames=frame + 1, force_non_drop_frame=not self.is_drop))

    def count(self, hours: int, minutes: int = 0, seconds: int = 0, frames: int = 0) -> int:
        """The frame with this timecode, counted from midnight."""
        text = f"{hours:02}:{minutes:02}:{seconds:02}{';' if self.is_drop else ':'}{frames:02}"
        return SmpteTimecode(self._rate, text, force_non_drop_frame=not self.is_drop).frame_number

    @property
    def _rate(self) -> str:
        """The rate as the package `timecode` reads it; it rounds fractions."""
        return (
            f"{self.rate.numerator}/{self.rate.denominator}"
            if self.rate.denominator > 1
            else str(self.nominal)
        )


def numbering(clock: VideoClock) -> Numbering:
    """The numbering of a video's frames.

    A start timecode says whether frames are dropped. Without one they are, so that timecodes and player agree.
    """
    start = clock.start_timecode
    return Numbering(clock.timecode_rate, clock.timecode_rate in _DROP_RATES and (not start or start.is_drop))


def timecode_frame(clock: VideoClock, player_ms: int, numbers: Numbering | None = None) -> int:
    """The frame at a time of the player, counted from midnight by the video's start timecode.

    `numbers`: of a list at another rate than the video's.
    """
    numbers = numbers or numbering(clock)
    return _start_frame(clock, numbers) + round(player_ms * numbers.rate / 1000)


def format_timecode(clock: VideoClock, player_ms: int) -> str:
    """The timecode at a time of the player, by the video's start timecode."""
    return numbering(clock).format(timecode_frame(clock, player_ms))


def _start_frame(clock: VideoClock, numbers: Numbering) -> int:
    start = clock.start_timecode
    if start is None:
        return 0
    nominal = numbering(clock).nominal
    if start.frames >= nominal:  # a fast camera that numbers all of its frames
        nominal = max(start.frames + 1, round(clock.frame_rate))
    return numbers.count(start.hours, start.minutes, start.seconds, start.frames * numbers.nominal // nominal)
