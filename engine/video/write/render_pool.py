"""Runs functions that open strangers' videos in a few processes; what matters most comes first."""

from __future__ import annotations

import heapq
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from enum import IntEnum
from typing import NamedTuple, TypeVar

from vtag.engine.errors import VideoError
from vtag.engine.video.write.child_process import exit_with_parent, limit_memory

_Result = TypeVar("_Result")
_MAX_PROCESSES = 4
_TIME_LIMIT_S = 60.0  # of a function that says no other
_IDLE_S = 60.0  # a process without work for so long ends


class Priority(IntEnum):
    """The order of waiting functions."""

    PLAN = 0  # a person waits for a video to play
    PICTURE = 1
    STRIP = 2


class RenderPool:
    """Runs functions in processes of their own, one at a time in each. Any thread may call its methods.

    If a video crashes or hangs a process, only its own function fails: the process is killed and a new one starts.
    """

    def __init__(self, processes: int | None = None) -> None:
        size = processes or min(_MAX_PROCESSES, os.cpu_count() or 1)
        self._free = [_Process() for _ in range(size)]
        self._all = list(self._free)
        self._waiting: list[tuple[int, int]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._timer: threading.Timer | None = None

    def run(
        self, function: Callable[[], _Result], priority: Priority, *, limit_s: float = _TIME_LIMIT_S
    ) -> _Result:
        """What `function` returns, which has to be picklable.

        Raises VideoError if it does, crashes, or takes longer than `limit_s`.
        """
        with self._process(priority) as process:
            return process.run(function, limit_s)

    @contextmanager
    def _process(self, priority: Priority) -> Iterator[_Process]:
        """A process that is free, in turn."""
        ticket = (priority.value, next(self._numbers))
        with self._changed:
            heapq.heappush(self._waiting, ticket)
            self._changed.wait_for(lambda: self._free and self._waiting[0] == ticket)
            heapq.heappop(self._waiting)
            process = self._free.pop()  # the one that worked last: its memory is warm, and others may end
            self._changed.notify_all()
        try:
            yield process
        finally:
            with self._changed:
                self._free.append(process)
                self._changed.notify_all()
                self._end_idle_later()

    def _end_idle_later(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(_IDLE_S + 1, self._end_idle)
            self._timer.daemon = True
            self._timer.start()

    def _end_idle(self) -> None:
        with self._changed:
            self._timer = None
            for process in self._free:
                if process.is_idle:
                    process.kill()
            if any(process.is_started for process in self._all):
                self._end_idle_later()

    def pids(self) -> list[int]:
        """The running processes."""
        return [pid for process in self._all for pid in process.pids()]

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            if self._timer is not None:
                self._timer.cancel()
            for process in self._all:
                process.kill()


class _Process:
    """One process, started when it is needed."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None
        self._last_use_s = 0.0

    @property
    def is_started(self) -> bool:
        return self._executor is not None

    @property
    def is_idle(self) -> bool:
        return self.is_started and time.monotonic() - self._last_use_s > _IDLE_S

    def pids(self) -> list[int]:
        return list((self._executor._processes or {}) if self._executor else {})

    def run(self, function: Callable[[], _Result], limit_s: float) -> _Result:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(
                1, mp_context=multiprocessing.get_context("spawn"), initializer=_initialise
            )
        try:
            outcome = self._executor.submit(_call, function).result(timeout=limit_s)
        except (BrokenProcessPool, FutureTimeoutError) as error:
            self.kill()
            raise VideoError("the decoder crashed or hung over this video") from error
        finally:
            self._last_use_s = time.monotonic()
        if isinstance(outcome, _Failure):
            raise VideoError(outcome.reason)
        return outcome

    def kill(self) -> None:
        if self._executor is not None:
            for child in list((self._executor._processes or {}).values()):
                child.kill()
            self._executor.shutdown(wait=False, cancel_futures=True)
            self._executor = None


def _initialise() -> None:
    exit_with_parent()
    limit_memory()


class _Failure(NamedTuple):
    """An error as text, because pickle loses the fields of our errors."""

    reason: str


def _call(function: Callable[[], _Result]) -> _Result | _Failure:
    """In the process: the result, or why there is none."""
    try:
        return function()
    except (VideoError, MemoryError) as error:
        return _Failure(str(error) or "too little memory")
