"""The queue of scans and trainings. Each runs as a child process, so the page stays small and can interrupt it.

One job runs at a time. The waiting jobs are kept in the library's settings, so they outlive the process that added
them.
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
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.store.runs import Run, recent_runs
from vtag.engine.library.store.settings import read_setting, save_setting
from vtag.engine.paths import make_private_dir
from vtag.engine.text import printable

_SETTING = "jobs"  # the library's setting that holds the waiting jobs
_LOG = "job.log"  # beside the library: the messages of the last job
_MAX_WAITING = 20
_DONE = (0, 3)  # exit codes: done; done except for some videos
_NO_FAILURE = (*_DONE, 130)  # 130: interrupted by the user
CAN_PAUSE = sys.platform != "win32"
_CONTINUE = (signal.SIGCONT,) if CAN_PAUSE else ()  # a paused process receives SIGINT only when it continues


class QueuedJob(NamedTuple):
    """A vtag command that waits for its turn.

    `kind` is its subcommand (scan, finetune, ...), `subject` what to show of it: folders or a model's name. If the
    job before fails or is interrupted, one that `needs_previous` is removed from the queue.
    """

    number: int
    kind: str
    subject: str
    arguments: tuple[str, ...]
    needs_previous: bool = False


class JobQueue:
    """The jobs of one library. Safe to use from any thread.

    Several servers may have a queue of the same library: they share the waiting jobs. "Ours" are the jobs whose
    process this object started.
    """

    def __init__(self, library: Path) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._current: tuple[QueuedJob, subprocess.Popen[bytes]] | None = None
        self.failure = ""  # the last message of our last job, if it failed
        self.last_job: QueuedJob | None = None  # our last job that ended

    def submit(
        self, kind: str, subject: str, arguments: Sequence[str], *, needs_previous: bool = False
    ) -> bool:
        """Run `vtag ARGUMENTS`, now (True) or when its turn comes. Raises VtagError if too many jobs wait.

        With `needs_previous` it runs only if the job that was submitted before it succeeds.
        """
        with self._lock, LibraryWriter.open(self._library) as library, library.transaction():
            waiting = _read_waiting(library.connection)
            if len(waiting) >= _MAX_WAITING:
                raise VtagError(f"{len(waiting)} jobs wait already: let some end first")
            number = 1 + max((job.number for job in waiting), default=0)
            _write_waiting(
                library, [*waiting, QueuedJob(number, kind, subject, tuple(arguments), needs_previous)]
            )
        self.start_next()
        return all(job.number != number for job in self.waiting_jobs())

    def start_next(self) -> None:
        """Start the next job unless something runs. The server calls it regularly."""
        with self._lock:
            self._reap()
            with closing(open_reader(self._library)) as reader:
                if self._current or not _read_waiting(reader) or active_runs(reader):
                    return
            with LibraryWriter.open(self._library) as library, library.transaction():
                if not (waiting := _read_waiting(library.connection)):
                    return  # another server has started it meanwhile
                first, *remaining = waiting
                _write_waiting(library, remaining)
                # before the commit: if this process is killed now, the job runs twice rather than never
                self._current = first, self._start(first)
            self.failure = ""

    def waiting_jobs(self) -> list[QueuedJob]:
        """The jobs that wait, the next one first."""
        with closing(open_reader(self._library)) as reader:
            return _read_waiting(reader)

    def cancel(self, number: int) -> None:
        """Remove a waiting job from the queue, and those that need it."""
        with self._lock, LibraryWriter.open(self._library) as library, library.transaction():
            waiting = _read_waiting(library.connection)
            earlier = [*itertools.takewhile(lambda job: job.number != number, waiting)]
            _write_waiting(library, earlier + _without_dependents(waiting[len(earlier) + 1 :]))

    def current_job(self) -> QueuedJob | None:
        """Our job that runs, even if it has no row in `runs` yet."""
        with self._lock:
            self._reap()
            return self._current[0] if self._current else None

    def starting_job(self) -> QueuedJob | None:
        """Our job that runs and has no row in `runs` yet."""
        with self._lock:
            self._reap()
            job, process = self._current or (None, None)
        if process is None:
            return None
        with closing(open_reader(self._library)) as reader:
            return None if process.pid in {run.pid for run in recent_runs(reader)} else job

    def interrupt(self) -> bool:
        """Interrupt the running job as Ctrl-C does: it keeps what it finished. False if none runs on this machine."""
        with self._lock:
            self._reap()
            if self._current:
                _send(self._current[1].pid, signal.SIGINT, *_CONTINUE)
                return True
        return self._send_to_runs(signal.SIGINT, *_CONTINUE)

    def pause(self) -> bool:
        """Stop the running job as Ctrl-Z does. False if none runs on this machine, and on Windows.

        Its decoding processes need no signal: they wait as soon as their shared memory is full.
        """
        return CAN_PAUSE and self._send_to_runs(signal.SIGSTOP)

    def resume(self) -> bool:
        """Let a paused job continue. False as for `pause`."""
        return CAN_PAUSE and self._send_to_runs(signal.SIGCONT)

    def last_message(self) -> str:
        """The last line of the last job's messages."""
        return last_line(self._library.parent / _LOG)

    def _send_to_runs(self, *signals: int) -> bool:
        with closing(open_reader(self._library)) as reader:
            local = [run for run in active_runs(reader) if run.is_here]
        return any([_send(run.pid, *signals) for run in local])

    def _start(self, job: QueuedJob) -> subprocess.Popen[bytes]:
        make_private_dir(self._library.parent)
        with open(self._library.parent / _LOG, "wb") as log:
            return start_process(job.arguments, log.fileno())

    def _reap(self) -> None:
        """Take note of the end of our job."""
        if self._current and self._current[1].poll() is not None:
            code = self._current[1].returncode
            self.failure = "" if code in _NO_FAILURE else (self.last_message() or "it ended at once")
            self.last_job, self._current = self._current[0], None
            if code not in _DONE:
                with LibraryWriter.open(self._library) as library, library.transaction():
                    _write_waiting(library, _without_dependents(_read_waiting(library.connection)))


def _send(pid: int, *signals: int) -> bool:
    """Send signals to a process; False if it is gone or belongs to another user."""
    try:
        for number in signals:
            os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def start_process(arguments: Sequence[str], log: int) -> subprocess.Popen[bytes]:
    """Start `vtag ARGUMENTS` as a process that outlives this one; its stderr goes to the descriptor `log`."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "vtag.app", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,  # Ctrl-C at the server is not meant for it
    )
    # until its parent waits for it, a dead child keeps its process id and seems to run
    threading.Thread(target=process.wait, daemon=True).start()
    return process


def scan_arguments(library: Path, paths: Sequence[str], *options: str) -> list[str]:
    """The arguments of a scan of `paths`. Raises VtagError if one of them does not exist."""
    if not paths:
        raise VtagError("name a folder to scan")
    for path in paths:
        if not os.path.isabs(path) or not os.path.exists(path):
            raise VtagError(f"there is no {printable(path)!r} on this machine: give a folder's whole path")
    return ["scan", "--db", str(library), *options, "--", *paths]


def active_runs(reader: sqlite3.Connection) -> list[Run]:
    """The scans and trainings of any process that run or are paused."""
    return [run for run in recent_runs(reader) if run.state in ("running", "paused")]


def last_line(log: Path) -> str:
    """The last line of a job's messages, without the program's name."""
    try:
        lines = log.read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return printable(lines[-1]).removeprefix("vtag: ") if lines else ""


def _read_waiting(connection: sqlite3.Connection) -> list[QueuedJob]:
    rows = json.loads(read_setting(connection, _SETTING) or "[]")
    return [
        QueuedJob(number, kind, subject, tuple(arguments), *more)
        for number, kind, subject, arguments, *more in rows
    ]


def _write_waiting(library: LibraryWriter, waiting: Sequence[QueuedJob]) -> None:
    save_setting(library, _SETTING, json.dumps(waiting))


def _without_dependents(waiting: Sequence[QueuedJob]) -> list[QueuedJob]:
    """`waiting` without the first jobs that need a job which is not there any more."""
    return [*itertools.dropwhile(lambda job: job.needs_previous, waiting)]
