"""Scans, trainings and downloads as processes of their own, so that whoever asked stays small and can end them.

What computes runs one at a time: the others wait in the library's settings, and so outlive whoever asked for them.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from vtag.engine.errors import VtagError
from vtag.engine.library.database import Library, open_reader
from vtag.engine.library.store.runs import Run, recent
from vtag.engine.library.store.settings import keep_setting, setting
from vtag.engine.paths import make_private_dir
from vtag.engine.text import printable

_SETTING = "jobs"  # of the library: what waits
_LOG = "job.log"  # beside the library: the last job's messages
_MOST_WAITING = 20
_FINE = (0, 3, 130)  # exit codes: done, done but for some videos, ended by a person
_DONE = (0, 3)
CAN_PAUSE = sys.platform != "win32"
_GO_ON = (signal.SIGCONT,) if CAN_PAUSE else ()  # one that is paused hears of its end when it goes on


class Job(NamedTuple):
    """A command that waits for its turn: `kind` (scan, finetune, ...), what it is of, and vtag's arguments.

    One that `needs` the job before it goes with it, where that fails or is ended.
    """

    number: int
    kind: str
    of: str
    arguments: tuple[str, ...]
    needs: bool = False


class Jobs:
    """The jobs of one library. Its methods may be called from any thread."""

    def __init__(self, library: Path) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._current: tuple[Job, subprocess.Popen[bytes]] | None = None
        self.trouble = ""  # why the last job failed, in its own words
        self.last: Job | None = None  # the last of ours that ended

    def ask(self, kind: str, of: str, arguments: Sequence[str], *, needs: bool = False) -> bool:
        """Run `vtag ARGUMENTS`, now (True) or when its turn comes. Raises VtagError where too many wait.

        `needs`: only if what was asked for before it comes to its end.
        """
        with self._lock, Library.open(self._library) as library, library.transaction():
            waiting = _waiting(library.connection)
            if len(waiting) >= _MOST_WAITING:
                raise VtagError(f"{len(waiting)} jobs wait already: let some end first")
            number = 1 + max((job.number for job in waiting), default=0)
            _keep(library, [*waiting, Job(number, kind, of, tuple(arguments), needs)])
        self.advance()
        return all(job.number != number for job in self.waiting())

    def advance(self) -> None:
        """Start the next job where nothing runs; to be called now and then."""
        with self._lock:
            self._reap()
            with closing(open_reader(self._library)) as reader:
                if self._current or not _waiting(reader) or running(reader):
                    return
            with Library.open(self._library) as library, library.transaction():
                if not (waiting := _waiting(library.connection)):
                    return  # another server has started it meanwhile
                first, *rest = waiting
                _keep(library, rest)
            self.trouble = ""
            self._current = first, self._start(first)

    def waiting(self) -> list[Job]:
        """What waits for its turn, the next one first."""
        with closing(open_reader(self._library)) as reader:
            return _waiting(reader)

    def withdraw(self, number: int) -> None:
        """Take a waiting job out of the queue, and those that need it."""
        with self._lock, Library.open(self._library) as library, library.transaction():
            waiting = _waiting(library.connection)
            before = [*itertools.takewhile(lambda job: job.number != number, waiting)]
            _keep(library, before + _without_needy(waiting[len(before) + 1 :]))

    def current(self) -> Job | None:
        """The job of ours that runs, also while it has no row yet."""
        with self._lock:
            self._reap()
            return self._current[0] if self._current else None

    def starting(self) -> Job | None:
        """The job of ours that runs and has no row yet."""
        with self._lock:
            self._reap()
            job, process = self._current or (None, None)
        if process is None:
            return None
        with closing(open_reader(self._library)) as reader:
            return None if process.pid in {run.pid for run in recent(reader)} else job

    def end(self) -> bool:
        """Interrupt what runs, as Ctrl-C does: what it finished is kept. False where nothing runs on this machine."""
        with self._lock:
            self._reap()
            if self._current:
                _send(self._current[1].pid, signal.SIGINT, *_GO_ON)
                return True
        return self._tell(signal.SIGINT, *_GO_ON)

    def pause(self) -> bool:
        """Stop what runs for a while, as Ctrl-Z does. False where nothing runs on this machine, and on Windows.

        Decoding processes fall silent by themselves as soon as nobody takes what they decoded.
        """
        return CAN_PAUSE and self._tell(signal.SIGSTOP)

    def go_on(self) -> bool:
        """Let go on what was paused."""
        return CAN_PAUSE and self._tell(signal.SIGCONT)

    def _tell(self, *signals: int) -> bool:
        with closing(open_reader(self._library)) as reader:
            here = [run for run in running(reader) if run.is_here]
        return any([_send(run.pid, *signals) for run in here])

    def last_words(self) -> str:
        """The last line that the last job said."""
        return last_line(self._library.parent / _LOG)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        make_private_dir(self._library.parent)
        with open(self._library.parent / _LOG, "wb") as log:
            return start_process(job.arguments, log.fileno())

    def _reap(self) -> None:
        if self._current and self._current[1].poll() is not None:
            code = self._current[1].returncode
            self.trouble = "" if code in _FINE else (self.last_words() or "it ended at once")
            self.last, self._current = self._current[0], None
            if code not in _DONE:
                with Library.open(self._library) as library, library.transaction():
                    _keep(library, _without_needy(_waiting(library.connection)))


def _send(pid: int, *signals: int) -> bool:
    """False where the process is gone, or another person's."""
    try:
        for each in signals:
            os.kill(pid, each)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def start_process(arguments: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """`vtag ARGUMENTS` as a process that outlives this one; what it says goes to the descriptor `log`."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vtag.app", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,  # Ctrl-C at the server is not meant for it
    )
    # a child that died keeps its number, and seems to run, until somebody waits for it
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def scan_arguments(library: Path, paths: Sequence[str], *options: str) -> list[str]:
    """The arguments of a scan of `paths`. Raises VtagError where one is not there."""
    if not paths:
        raise VtagError("name a folder to scan")
    for path in paths:
        if not os.path.isabs(path) or not os.path.exists(path):
            raise VtagError(f"there is no {printable(path)!r} on this machine: give a folder's whole path")
    return ["scan", "--db", str(library), *options, "--", *paths]


def running(reader: sqlite3.Connection) -> list[Run]:
    """Scans and trainings that are under way in any process, or paused."""
    return [run for run in recent(reader) if run.state in ("running", "paused")]


def last_line(log: Path) -> str:
    """The last line of a job's messages, without the program's name."""
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return printable(lines[-1]).removeprefix("vtag: ") if lines else ""


def _waiting(connection: sqlite3.Connection) -> list[Job]:
    kept = json.loads(setting(connection, _SETTING) or "[]")
    return [Job(number, kind, of, tuple(rest), *more) for number, kind, of, rest, *more in kept]


def _without_needy(waiting: Sequence[Job]) -> list[Job]:
    """Without those at the beginning that need a job that is none any more."""
    return [*itertools.dropwhile(lambda job: job.needs, waiting)]


def _keep(library: Library, waiting: Sequence[Job]) -> None:
    keep_setting(library, _SETTING, json.dumps(waiting))
