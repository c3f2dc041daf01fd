"""The library's clock, and the one format of its timestamps: as texts they sort as the times do."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

_STEP = timedelta(microseconds=1)


def now() -> str:
    """The time in UTC, later than every time that this process was given before, although the clock was set back."""
    return format_timestamp(_CLOCK.read())


def now_after(latest: str | None) -> str:
    """The time in UTC, and later than the timestamp `latest`: another process may have had another clock."""
    time = now()
    if latest is None or time > latest:
        return time
    try:
        return format_timestamp(_next(datetime.fromisoformat(latest)))
    except ValueError:
        return time  # `latest` is no timestamp


def format_timestamp(when: datetime) -> str:
    """A time as the library writes it: ISO 8601, UTC, always with six decimals. One without a zone is UTC.

    Raises OverflowError if UTC has no such year.
    """
    when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    return when.isoformat(timespec="microseconds")


def normalize_timestamp(text: str) -> str:
    """The timestamp `text` in the library's format; what is no timestamp stays as it is."""
    try:
        return format_timestamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return text


def local_minute(timestamp: str) -> str:
    """The local date and minute of a timestamp; of years that the machine's clock cannot be asked about, as it is."""
    try:
        when = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError, OSError):
        return timestamp
    return when.strftime("%Y-%m-%d %H:%M")


class _Clock:
    """The machine's clock, which never stands still or goes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = datetime.min.replace(tzinfo=UTC)

    def read(self) -> datetime:
        with self._lock:
            self._last = max(_machine_time(), _next(self._last))
            return self._last


def _machine_time() -> datetime:
    return datetime.now(UTC)


def _next(when: datetime) -> datetime:
    """One step later; the last time of all stays."""
    try:
        return when + _STEP
    except OverflowError:
        return when


_CLOCK = _Clock()
