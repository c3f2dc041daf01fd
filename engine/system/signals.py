"""Ctrl-C that is never lost, and that never strikes where it does harm.

Python raises KeyboardInterrupt wherever the main thread happens to be. Raised while an object ends (`__del__`, the
callback of a weak reference) it is swallowed, and what it should have ended goes on; raised while a native library
sets itself up, it can crash the process.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_asked = False  # signals are the process's, and so is this


@contextmanager
def heard() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise KeyboardInterrupt, and are remembered for `check`. For the main thread."""
    global _asked

    def hear(number: int, frame: FrameType | None) -> None:
        global _asked
        _asked = True
        raise KeyboardInterrupt

    def lost(what: sys.UnraisableHookArgs) -> None:
        if not issubclass(
            what.exc_type, KeyboardInterrupt
        ):  # `check` raises that again: there is nothing to say
            told(what)

    _asked = False
    before = {number: signal.signal(number, hear) for number in _SIGNALS}
    told, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.unraisablehook = told
        _asked = False


def check() -> None:
    """Raise KeyboardInterrupt where one was raised and got lost; for loops that go on for long."""
    if _asked:
        raise KeyboardInterrupt


@contextmanager
def held() -> Iterator[None]:
    """Within, SIGINT and SIGTERM wait, and are delivered at the end; around the import of native libraries."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    came: list[int] = []
    before = {n: signal.signal(n, lambda number, _: came.append(number)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for missed in dict.fromkeys(came):
            signal.raise_signal(missed)
