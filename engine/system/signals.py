"""Ctrl-C and SIGTERM: never lost, delayed if they would do harm, or turned into a stop after the current step.

Python raises KeyboardInterrupt wherever the main thread happens to be. If that is in `__del__` or in the callback of
a weak reference, Python swallows the exception and the program goes on. If that is in a native library that sets
itself up, the process can crash.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_interrupted = False  # one for the process, as signal handlers are


@contextmanager
def catch_interrupts() -> Iterator[None]:
    """Within, SIGINT and SIGTERM raise KeyboardInterrupt, which `raise_if_interrupted` repeats. Main thread only."""
    global _interrupted

    def interrupt(number: int, frame: FrameType | None) -> None:
        global _interrupted
        _interrupted = True
        raise KeyboardInterrupt

    def report_unraisable(unraisable: sys.UnraisableHookArgs) -> None:
        # `raise_if_interrupted` raises a swallowed interrupt again, so it needs no report
        if not issubclass(unraisable.exc_type, KeyboardInterrupt):
            previous_hook(unraisable)

    _interrupted = False
    previous_handlers = _install(interrupt)
    previous_hook, sys.unraisablehook = sys.unraisablehook, report_unraisable
    try:
        yield
    finally:
        _restore(previous_handlers)
        sys.unraisablehook = previous_hook
        _interrupted = False


def raise_if_interrupted() -> None:
    """Raise KeyboardInterrupt if one was raised within `catch_interrupts` and swallowed. For long loops."""
    if _interrupted:
        raise KeyboardInterrupt


@contextmanager
def delay_interrupts() -> Iterator[None]:
    """Within, SIGINT and SIGTERM wait; they are delivered at the end. For imports of native libraries."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    pending: list[int] = []
    previous_handlers = _install(lambda number, _: pending.append(number))
    try:
        yield
    finally:
        _restore(previous_handlers)
        for number in dict.fromkeys(pending):
            signal.raise_signal(number)


class GracefulStop:
    """Within, the first Ctrl-C or SIGTERM requests a stop after the current step; the next interrupts at once.

    Outside of `begin()` and `finish()` every signal interrupts at once, since there is no state worth saving. A
    context manager for the main thread. SIGTERM is what torchrun sends if another process of a training is lost.
    """

    def __init__(self, on_request: Callable[[], None] = lambda: None) -> None:
        """`on_request` is called in the signal handler, as the stop is requested."""
        self.requested = False
        self._on_request = on_request
        self._has_state = False
        self._previous_handlers: dict[signal.Signals, _Handler] = {}

    def begin(self) -> None:
        """From here on there is a state worth saving."""
        self._has_state = True

    def finish(self) -> None:
        """From here on there is none."""
        self._has_state = False

    def __enter__(self) -> GracefulStop:
        self._previous_handlers = _install(self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _restore(self._previous_handlers)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self._has_state:
            raise KeyboardInterrupt
        self.requested = True
        self._on_request()


_Handler = Callable[[int, FrameType | None], object] | int | None


def _install(handler: Callable[[int, FrameType | None], object]) -> dict[signal.Signals, _Handler]:
    """Set `handler` for both signals; returns the previous handlers."""
    return {number: signal.signal(number, handler) for number in _SIGNALS}


def _restore(handlers: dict[signal.Signals, _Handler]) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)
