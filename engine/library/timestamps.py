"""The library's clock and the format of its timestamps: texts that sort in the order of the times."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

_STEP = timedelta(microseconds=1)


def now() -> str:
    """The time in UTC; later than every earlier result in this process, even if the machine's clock is set back."""
    return format_timestamp(_CLOCK.read())


def now_after(latest: str | None) -> str:
    """The time in UTC, and later than the timestamp `latest`, which another process's clock may have written."""
    time = now()
    if latest is None or time > latest:
        return time
    try:
        return format_timestamp(_next(datetime.fromisoformat(latest)))
    except ValueError:
        return time  # `latest` is no timestamp


def format_timestamp(time: datetime) -> str:
    """A time in the library's format: ISO 8601, UTC, with six decimals. A time without a zone is taken for UTC.

    Raises OverflowError if the year in UTC is out of range.
    """
    time = time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)
    return time.isoformat(timespec="microseconds")


def normalize_timestamp(text: str) -> str:
    """The timestamp `text` in the library's format; any other text is returned unchanged."""
    try:
        return format_timestamp(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return text


def is_timestamp(text: str) -> bool:
    """Whether `text` is a timestamp in the library's format."""
    try:
        return format_timestamp(datetime.fromisoformat(text)) == text
    except (ValueError, OverflowError):
        return False


def local_minute(timestamp: str) -> str:
    """A timestamp as local date and minute; unchanged if the machine cannot convert its year."""
    try:
        time = datetime.fromisoformat(timestamp).astimezone()
    except (ValueError, OverflowError, OSError):
        return timestamp
    return time.strftime("%Y-%m-%d %H:%M")


class _IncreasingClock:
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


def _next(time: datetime) -> datetime:
    """One step later; the latest possible time stays."""
    try:
        return time + _STEP
    except OverflowError:
        return time


_CLOCK = _IncreasingClock()
