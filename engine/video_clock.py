"""The clock of a video outside of vtag: maps a time of the library to what players and editors show, and back.

The library counts from the first picture that can be decoded, and its clock never goes back. Players count from the
container's start, so a picture that begins after the sound is later in a player. Editors count frames from the start
timecode. Everything that leaves vtag has a time of the player or a frame of the editor, and everything that a person
or another program says is one: exports, `cut`, `--open`, `tag --from`, `similar --at`. On the page that holds for

- every time that is displayed: of moments, of the timeline's ticks, of the player's position (`player_ms`),
- every time that a person types: the form that adds a tag (`library_ms`),
- the position in a file that the browser plays in place, `/media/CONTENT` (`file_ms`).

The page's own values keep the library's times: ranges that its scripts send and get, links, addresses of pictures and
of converted video (`/still`, `/strip`, `/moment`).
"""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property

# The bases of editors: frames a second, at most 60
_NTSC = tuple(Fraction(nominal * 1000, 1001) for nominal in (24, 30, 60))
TIMECODE_RATES = tuple(sorted((*map(Fraction, (24, 25, 30, 50, 60)), *_NTSC)))
_WHOLE_RATES = [rate for rate in TIMECODE_RATES if rate.denominator == 1]
DEFAULT_RATE = Fraction(25)  # if the video's rate is unknown
_EXACT = Fraction(1, 3000)  # relative error of a rate; 24 and 23.976 differ by 1/1000
_NEAR = Fraction(1, 50)  # of a rate from rounded times: milliseconds of Matroska, the timer of a phone
_MAX_MULTIPLE = 60
_TIMECODE = re.compile(r"(\d{1,2}):(\d{2}):(\d{2})([:;.,])(\d{2,3})")


@dataclass(frozen=True)
class ClockStretch:
    """A stretch of a video, from a time of the library on, and the player's time of its start (microseconds)."""

    library_us: int
    player_us: int


@dataclass(frozen=True)
class Timecode:
    """A start timecode: its fields, and whether its numbering drops frames (29.97 and 59.94)."""

    hours: int
    minutes: int
    seconds: int
    frames: int
    is_drop: bool = False

    @classmethod
    def parse(cls, text: str) -> Timecode | None:
        """`hh:mm:ss:ff`, or with `;` or `.` before the frames if frames are dropped; None if it is no timecode."""
        match = _TIMECODE.fullmatch(text.strip())
        if match is None:
            return None
        hours, minutes, seconds, frames = (int(match[group]) for group in (1, 2, 3, 5))
        if hours > 23 or minutes > 59 or seconds > 59:
            return None
        return cls(hours, minutes, seconds, frames, match[4] != ":")

    def __str__(self) -> str:
        separator = ";" if self.is_drop else ":"
        return f"{self.hours:02}:{self.minutes:02}:{self.seconds:02}{separator}{self.frames:02}"


@dataclass(frozen=True)
class VideoClock:
    """How the library's times of one video, in milliseconds, relate to those of players and editors."""

    stretches: tuple[ClockStretch, ...] = (ClockStretch(0, 0),)  # at least one, in order
    frame_rate: Fraction = DEFAULT_RATE  # frames a second on average, exact
    timecode_rate: Fraction = DEFAULT_RATE  # one of TIMECODE_RATES
    start_timecode: Timecode | None = None  # of the player's time 0
    container_start_us: int = 0  # the player's time 0 by the container's own clock

    def player_ms(self, library_ms: int) -> int:
        """What a player shows at a time of the library; the start of the file at the earliest."""
        stretch, following = _stretch_at(self.stretches, self._library_starts, library_ms * 1000)
        time_us = library_ms * 1000 - stretch.library_us + stretch.player_us
        if following is not None:  # a pause that players leave out
            time_us = min(time_us, following.player_us)
        return max(0, round(time_us / 1000))

    def library_ms(self, player_ms: int) -> int:
        """The library's time for a time of the player; the first picture at the earliest."""
        stretch, following = _stretch_at(self.stretches, self._player_starts, player_ms * 1000)
        time_us = player_ms * 1000 - stretch.player_us + stretch.library_us
        if following is not None:
            time_us = min(time_us, following.library_us)
        return max(0, round(time_us / 1000))

    def file_ms(self, library_ms: int) -> int:
        """The position in the file itself for a time of the library: browsers do not begin a late start at 0."""
        return self.player_ms(library_ms) + max(0, round(self.container_start_us / 1000))

    @property
    def is_plain(self) -> bool:
        """Whether player and library have the same times."""
        return self.stretches == (ClockStretch(0, 0),)

    @cached_property
    def _library_starts(self) -> list[int]:
        return [stretch.library_us for stretch in self.stretches]

    @cached_property
    def _player_starts(self) -> list[int]:
        return [stretch.player_us for stretch in self.stretches]

    def to_json(self) -> str:
        """The clock as the library stores it."""
        values: dict[str, object] = {
            "stretches": [[stretch.library_us, stretch.player_us] for stretch in self.stretches],
            "rate": str(self.frame_rate),
            "timecode_rate": str(self.timecode_rate),
        }
        if self.container_start_us:
            values["start"] = self.container_start_us
        if self.start_timecode:
            values["timecode"] = str(self.start_timecode)
        return json.dumps(values)

    @classmethod
    def from_json(cls, text: str) -> VideoClock:
        """The clock that `to_json` wrote."""
        values = json.loads(text)
        return cls(
            tuple(ClockStretch(*stretch) for stretch in values["stretches"]),
            Fraction(values["rate"]),
            Fraction(values["timecode_rate"]),
            Timecode.parse(values.get("timecode", "")),
            values.get("start", 0),
        )

    @classmethod
    def assumed(cls, frame_rate: float | None) -> VideoClock:
        """The clock of a video of which only the frame rate is known: it begins with its first picture."""
        rate = exact_rate(Fraction(frame_rate)) if frame_rate and 0 < frame_rate <= 1000 else DEFAULT_RATE
        return replace(cls(), frame_rate=rate, timecode_rate=choose_timecode_rate(rate, rate))


def _stretch_at(
    stretches: tuple[ClockStretch, ...], starts: list[int], time_us: int
) -> tuple[ClockStretch, ClockStretch | None]:
    """The stretch of a time, and the one after it; before the first stretch it is the first."""
    index = max(0, bisect_right(starts, time_us) - 1)
    return stretches[index], stretches[index + 1] if index + 1 < len(stretches) else None


def exact_rate(rate: Fraction) -> Fraction:
    """A frame rate that a container rounded (29.97, 19001/792), as the fraction that is meant: 30000/1001."""
    for divisor in (1000, 1001):
        nominal = round(rate * divisor / 1000)
        exact = Fraction(nominal * 1000, divisor)
        if nominal and abs(rate - exact) <= exact / 20000:
            return exact
    return rate.limit_denominator(1001)


def choose_timecode_rate(average: Fraction, usual: Fraction) -> Fraction:
    """The editors' base for footage: its own rate if it is one, else one of which it is a multiple or a part.

    Args:
        average: frames a second over the whole video. With a variable rate it is no standard rate.
        usual: frames a second by the usual time from one frame to the next. Rounded times make it inexact.
    """
    return (
        _nearest_base(TIMECODE_RATES, usual, _EXACT)
        or _nearest_base(TIMECODE_RATES, average, _EXACT)
        or _related_base(average)
        or _nearest_base(_WHOLE_RATES, usual, _NEAR)
        or _related_base(usual)
        or _nearest_base(_WHOLE_RATES, average, _NEAR)
        or next((rate for rate in _WHOLE_RATES if rate >= average), _WHOLE_RATES[-1])
    )


def _nearest_base(bases: Sequence[Fraction], rate: Fraction, tolerance: Fraction) -> Fraction | None:
    base = min(bases, key=lambda base: abs(rate - base))
    return base if abs(rate - base) <= tolerance * base else None


def _related_base(rate: Fraction) -> Fraction | None:
    """The lowest base of which slow footage is a part, or the highest of which fast footage is a multiple."""
    factors = range(2, _MAX_MULTIPLE + 1)
    wholes = [base for base in TIMECODE_RATES for n in factors if abs(n * rate - base) <= base * _EXACT]
    parts = [base for base in TIMECODE_RATES for n in factors if abs(rate - n * base) <= rate * _EXACT]
    return min(wholes) if wholes else max(parts, default=None)
