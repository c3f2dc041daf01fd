"""Times in a video as people type and read them."""

from __future__ import annotations

import re

from vtag.engine.errors import VtagError

_TIME = re.compile(r"(?:(?:([0-9]{1,4}):)?([0-9]{1,5}):)?([0-9]{1,6}(?:[.,][0-9]{1,6})?)")


def parse_time(text: str) -> int:
    """A typed time (`83`, `83.5`, `1:23.5`, `1:02:03`) in milliseconds. Raises VtagError."""
    match = _TIME.fullmatch(text.strip())
    if match is None:
        raise VtagError(f"{text[:20]!r} is no time: write it as 83, 1:23 or 1:02:03.5")
    hours, minutes, seconds = match.groups()
    return round(1000 * (3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds.replace(",", "."))))


def format_clock(milliseconds: int) -> str:
    """A time in a video as h:mm:ss."""
    seconds = milliseconds // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def format_end_clock(milliseconds: int) -> str:
    """A time rounded up to seconds, so that a moment of half a second has different ends."""
    return format_clock(-(-milliseconds // 1000) * 1000)


def format_clock_range(start_ms: int, end_ms: int) -> str:
    """A time range as h:mm:ss-h:mm:ss."""
    return f"{format_clock(start_ms)}-{format_end_clock(end_ms)}"


def format_time_span(seconds: float) -> str:
    """A length of time as `4.2 s`, `3 min 05 s` or `2 h 03 min`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds_left = divmod(round(seconds), 60)
    return (
        f"{minutes} min {seconds_left:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
    )
