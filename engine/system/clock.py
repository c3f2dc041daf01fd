"""A clock for speeds: it stands still while the process is stopped, by a pause of the page or by Ctrl-Z."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_BEAT_S = 1.0
_STOPPED_S = 5.0  # longer than a busy process keeps a waiting thread of its own from its turn


class WorkClock:
    """Seconds as `now` counts them, less every stretch of more than `stopped_s` in which nobody read the clock.

    What stops a process cannot be heard by it; that its threads did nothing for long can be seen afterwards.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic, *, stopped_s: float = _STOPPED_S) -> None:
        self._now = now
        self._stopped_s = stopped_s
        self._stood_s = 0.0
        self._read = now()
        self._lock = threading.Lock()

    def seconds(self) -> float:
        """What the clock shows; only differences mean something."""
        with self._lock:
            read = self._now()
            passed_s = read - self._read
            if passed_s > self._stopped_s:
                self._stood_s += passed_s
            self._read = read
            return read - self._stood_s

    def keep_reading(self, every_s: float = _BEAT_S) -> None:
        """Have a thread read the clock from now on, until the process ends."""

        def read() -> None:
            while True:
                time.sleep(every_s)
                self.seconds()

        threading.Thread(target=read, name="work clock", daemon=True).start()


_starting = threading.Lock()
_clock: WorkClock | None = None  # a process is stopped as a whole, and so there is one


def worked_s() -> float:
    """Seconds, as time.monotonic() counts them, in which this process was not stopped; from the first call on."""
    global _clock
    with _starting:
        if _clock is None:
            _clock = WorkClock()
            _clock.keep_reading()
    return _clock.seconds()
