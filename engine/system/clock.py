"""A clock for measuring speed: it stands still while the page pauses the process, or Ctrl-Z stops it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_READ_EVERY_S = 1.0
_STOPPED_S = 5.0  # a busy process keeps a waiting thread of its own from running for less than this


class ActiveClock:
    """Seconds of `monotonic`, without every stretch of more than `stopped_s` in which nobody read the clock.

    A process receives no signal as it is stopped. That its threads did nothing for long shows afterwards.
    """

    def __init__(
        self, monotonic: Callable[[], float] = time.monotonic, *, stopped_s: float = _STOPPED_S
    ) -> None:
        self._monotonic = monotonic
        self._stopped_s = stopped_s
        self._total_stopped_s = 0.0
        self._last_read = monotonic()
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """What the clock shows; only differences have a meaning."""
        with self._lock:
            read = self._monotonic()
            passed_s = read - self._last_read
            if passed_s > self._stopped_s:
                self._total_stopped_s += passed_s
            self._last_read = read
            return read - self._total_stopped_s

    def keep_reading(self, every_s: float = _READ_EVERY_S) -> None:
        """Start a thread that reads the clock until the process ends."""

        def read() -> None:
            while True:
                time.sleep(every_s)
                self.seconds()

        threading.Thread(target=read, name="active clock", daemon=True).start()


_start_lock = threading.Lock()
_clock: ActiveClock | None = None  # one for the process, since a process is stopped as a whole


def active_seconds() -> float:
    """Seconds, as time.monotonic() counts them, in which this process was not stopped; counts from the first call."""
    global _clock
    with _start_lock:
        if _clock is None:
            _clock = ActiveClock()
            _clock.keep_reading()
    return _clock.seconds()
