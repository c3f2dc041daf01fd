"""Asks file systems about paths, and does not wait for ever for one that is silent, as a share of a lost server is.

What asks such a file system sleeps until it answers, and no signal but SIGKILL wakes it. So threads ask, and one that
gets no answer in time is left alone with its question. Warnings name the file system.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any, NamedTuple, TypeVar

from vtag.engine.system.mounts import longest_mount_point, read_mounts
from vtag.engine.text import display_path

_Answer = TypeVar("_Answer")
_QUIET_S = 1.0  # how long is waited before anything is said
_LIMIT_S = 12.0  # a disk that sleeps needs up to ten seconds to spin up
_POLL_S = 0.2
_SILENT = "the file system of {} does not answer"
# what the system answers about a path whose disk was pulled out or whose server is lost
_LOST = frozenset(
    getattr(errno, name, 0)
    for name in ("EIO", "ENOTCONN", "ESTALE", "ENODEV", "ENXIO", "ETIMEDOUT", "EHOSTDOWN", "EHOSTUNREACH")
) - {0}
_log = logging.getLogger(__name__)


def ask_in_time(function: Callable[[bytes], _Answer], path: bytes, *, limit_s: float = _LIMIT_S) -> _Answer:
    """What `function`, which asks the file system of `path`, returns for it.

    Raises what it raises, and TimeoutError (an OSError) if there is no answer within `limit_s` seconds; at once while
    an earlier question to the same file system stays unanswered. Takes 20 us longer than the function alone.
    """
    answer: _Answer = _ASKERS.ask(function, path, limit_s)
    return answer


def exists_in_time(path: bytes) -> bool:
    """Whether there is a file or folder at `path`; False, too, if its file system does not answer."""
    try:
        ask_in_time(os.stat, path)
    except (OSError, ValueError):
        return False
    return True


def is_silent(path: str | bytes) -> bool:
    """Whether the file system of `path` does not answer within a second."""
    try:
        ask_in_time(_ask_server, os.path.abspath(os.fsencode(path)), limit_s=_QUIET_S)
    except TimeoutError:
        return True
    except (OSError, ValueError):
        return False
    return False


def wait_for_answer(path: str | bytes) -> None:
    """Wait until the file system of `path` answers."""
    while is_silent(path):
        time.sleep(_POLL_S)


def describe_error(error: OSError, path: bytes) -> str:
    """What `error` says of `path`; if its disk or share is lost, which one that is."""
    reason = error.strerror or str(error)
    if error.errno not in _LOST:
        return reason
    mount_point = longest_mount_point(path, sorted(read_mounts(), key=len, reverse=True))
    return f"the disk or share at {display_path(mount_point)} does not answer ({reason})"


def _ask_server(path: bytes) -> object:
    """A question that the system does not answer from what it remembers of a share."""
    return os.statvfs(path) if hasattr(os, "statvfs") else os.stat(path)


class _Outcome(NamedTuple):
    value: Any
    error: Exception | None


class _Asker:
    """A thread that asks one question at a time."""

    def __init__(self) -> None:
        self._outcomes: SimpleQueue[_Outcome] = SimpleQueue()
        self._questions: SimpleQueue[tuple[Callable[[bytes], Any], bytes] | None] = SimpleQueue()
        threading.Thread(target=self._answer, daemon=True, name="file systems").start()

    def put(self, function: Callable[[bytes], Any], path: bytes) -> None:
        self._questions.put((function, path))

    def outcome(self, limit_s: float) -> _Outcome | None:
        """How its question was answered; None if it was not within so many seconds."""
        try:
            return self._outcomes.get(timeout=limit_s)
        except Empty:
            return None

    @property
    def has_answered(self) -> bool:
        return not self._outcomes.empty()

    def end(self) -> None:
        """Let the thread end as soon as its question is answered."""
        self._questions.put(None)

    def _answer(self) -> None:
        while question := self._questions.get():
            function, path = question
            try:
                self._outcomes.put(_Outcome(function(path), None))
            except Exception as error:
                self._outcomes.put(_Outcome(None, error))


class _Askers:
    """The threads of this process: those that are free, and those that wait for a file system."""

    def __init__(self) -> None:
        self._free: list[_Asker] = []
        self._waiting: dict[bytes, _Asker] = {}  # by the mount point of the file system
        self._mount_points: list[bytes] = []  # when something was slow last

    def ask(self, function: Callable[[bytes], Any], path: bytes, limit_s: float) -> Any:
        if self._waiting and self._is_silent(path):
            raise TimeoutError(_SILENT.format(display_path(path)))
        try:
            asker = self._free.pop()
        except IndexError:
            asker = _Asker()
        asker.put(function, path)
        outcome = asker.outcome(min(_QUIET_S, limit_s)) or self._wait(asker, path, limit_s - _QUIET_S)
        self._free.append(asker)
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def _wait(self, asker: _Asker, path: bytes, limit_s: float) -> _Outcome:
        """The outcome of a question that has been open for a while."""
        self._mount_points = sorted(read_mounts(), key=len, reverse=True)
        mount_point = longest_mount_point(path, self._mount_points)
        if limit_s > 0:
            _log.warning("waiting for the disk or share at %s", display_path(mount_point))
            if outcome := asker.outcome(limit_s):
                return outcome
        asker.end()
        self._waiting[mount_point] = asker
        _log.warning("the disk or share at %s does not answer", display_path(mount_point))
        raise TimeoutError(_SILENT.format(display_path(path)))

    def _is_silent(self, path: bytes) -> bool:
        """Whether an earlier question to the file system of `path` is open."""
        for mount_point, asker in list(self._waiting.items()):
            if asker.has_answered:
                self._waiting.pop(mount_point, None)
        return longest_mount_point(path, self._mount_points) in self._waiting


_ASKERS = _Askers()


def _renew_askers() -> None:
    global _ASKERS
    _ASKERS = _Askers()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_askers)  # a forked process has none of the threads
