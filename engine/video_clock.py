"""The clock of a video outside of vtag: maps a time of the library to what players and editors show, and back.

The library counts from the first picture that can be decoded, and its clock never goes back. Players count from the
container's start, so a picture that begins after the sound is later in a player. Editors count frames from the start
timecode. Everything that leaves vtag has a time of the player or a frame of the editor, and everything that a person
or another program says is one: exports, `cut`, `--open`, `tag --from`, `similar --at`, and the page with its routes,
addresses and pictures. Only the library, the log and the files of annotations, and the streams that the page's player
plays (`/media/CONTENT/stream`) have the library's times.
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

    def player_ms(self, library_ms: int) -> int:
        """What a player shows at a time of the library; the start of the file at the earliest.

        `library_ms` brings it back exactly, except within a pause that players leave out.
        """
        return _map(library_ms, *self.starts_ms)

    def library_ms(self, player_ms: int) -> int:
        """The library's time for a time of the player; the first picture at the earliest."""
        library_starts, player_starts = self.starts_ms
        return _map(player_ms, player_starts, library_starts)

    @property
    def is_plain(self) -> bool:
        """Whether player and library have the same times."""
        return self.stretches == (ClockStretch(0, 0),)

    @cached_property
    def starts_ms(self) -> tuple[list[int], list[int]]:
        """The starts of the stretches in whole milliseconds: of the library, and of the player."""
        library = [_round_to_ms(stretch.library_us) for stretch in self.stretches]
        return library, [_round_to_ms(stretch.player_us) for stretch in self.stretches]

    def to_json(self) -> str:
        """The clock as the library stores it."""
        values: dict[str, object] = {
            "stretches": [[stretch.library_us, stretch.player_us] for stretch in self.stretches],
            "rate": str(self.frame_rate),
            "timecode_rate": str(self.timecode_rate),
        }
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
        )

    @classmethod
    def assumed(cls, frame_rate: float | None) -> VideoClock:
        """The clock of a video of which only the frame rate is known: it begins with its first picture."""
        rate = exact_rate(Fraction(frame_rate)) if frame_rate and 0 < frame_rate <= 1000 else DEFAULT_RATE
        return replace(cls(), frame_rate=rate, timecode_rate=choose_timecode_rate(rate, rate))


def _round_to_ms(time_us: int) -> int:
    """Half a millisecond away from zero, as SQLite rounds (engine/library/data_views.py)."""
    return (abs(time_us) + 500) // 1000 * (1 if time_us >= 0 else -1)


def _map(time_ms: int, starts: list[int], other_starts: list[int]) -> int:
    """A time of one clock by the other one, at least 0; both have a start for each stretch."""
    index = max(0, bisect_right(starts, time_ms) - 1)  # before the first stretch it is the first
    other_ms = time_ms - starts[index] + other_starts[index]
    if index + 1 < len(starts):  # a pause that the other clock leaves out
        other_ms = min(other_ms, other_starts[index + 1])
    return max(0, other_ms)


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
