"""Runs: a row for each scan or training, so that another process can show it."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from vtag.engine.library.database import LibraryWriter, now
from vtag.engine.library.store.settings import save_setting

_COLUMNS = "id, kind, command, pid, host, state, started_at, updated_at, progress"
SPEED_PREFIX = "speed of "  # of the names of settings that hold a speed


class Run(NamedTuple):
    """A scan or training; `state` is running, paused, done, failed or interrupted."""

    id: int
    kind: str
    command: str
    pid: int
    host: str
    state: str
    started_at: str
    updated_at: str
    progress: dict[str, Any]

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine: only such a run can be paused or ended."""
        return self.host == platform.node()


class RunEstimate(NamedTuple):
    """The speed of a run as a multiple of real time, and the seconds left; None if unknown."""

    speed: float | None
    left_s: float | None


def estimate_run(run: Run) -> RunEstimate:
    """Speed and time left of a run, from its last report.

    A report has the seconds of work (`worked_s`), without pauses.
    """
    elapsed_s = (
        datetime.fromisoformat(run.updated_at) - datetime.fromisoformat(run.started_at)
    ).total_seconds()
    worked_s = run.progress.get("worked_s") or elapsed_s  # older versions of vtag did not report it
    done_ms, total_ms = run.progress.get("video_ms") or 0, run.progress.get("of_ms") or 0
    if worked_s < 1 or not done_ms:
        return RunEstimate(None, run.progress.get("left_s"))
    left_s = worked_s * (total_ms - done_ms) / done_ms if total_ms >= done_ms else None
    return RunEstimate(done_ms / 1000 / worked_s, left_s)


def start(library: LibraryWriter, kind: str, command: str) -> int:
    """Record a run of this process; returns its id."""
    with library.transaction() as db:
        cursor = db.execute(
            "INSERT INTO runs (kind, command, pid, host, state, started_at, updated_at) "
            "VALUES (?, ?, ?, ?, 'running', ?, ?)",
            (kind, command, os.getpid(), platform.node(), now(), now()),
        )
        return int(cursor.lastrowid or 0)


def report(library: LibraryWriter, run_id: int, progress: dict[str, object]) -> None:
    """Record the progress of a run."""
    with library.transaction() as db:
        db.execute(
            "UPDATE runs SET progress = ?, updated_at = ? WHERE id = ?", (json.dumps(progress), now(), run_id)
        )


def finish(library: LibraryWriter, run_id: int, state: str) -> None:
    """Record that a run ended: `state` is done, failed or interrupted."""
    with library.transaction() as db:
        db.execute(
            "UPDATE runs SET state = ?, updated_at = ?, finished_at = ? WHERE id = ?",
            (state, now(), now(), run_id),
        )


def remove_finished(library: LibraryWriter, kind: str, command: str) -> None:
    """Remove the rows of runs that have ended and left nothing that a person looks for, such as trials."""
    with library.transaction() as db:
        db.execute("DELETE FROM runs WHERE kind = ? AND command = ? AND state <> 'running'", (kind, command))


def save_speed(library: LibraryWriter, speed_key: str, speed: float) -> None:
    """Save the speed of a scan in seconds of video per second; `speed_key` names the model, device and settings."""
    save_setting(library, SPEED_PREFIX + speed_key, f"{speed:.4g}")


def last_speed(library: LibraryWriter, speed_key: str) -> float | None:
    """The speed of the last scan whose key begins with `speed_key`; None if there was none."""
    row = library.connection.execute(
        "SELECT value FROM settings WHERE substr(key, 1, length(?1)) = ?1 ORDER BY rowid DESC LIMIT 1",
        (SPEED_PREFIX + speed_key,),
    ).fetchone()
    return float(row[0]) if row else None


def recent_runs(reader: sqlite3.Connection, count: int = 20) -> list[Run]:
    """The latest runs, newest first; a `count` of -1 stands for all.

    A run whose process is gone is interrupted. A run whose process is stopped (a pause, Ctrl-Z) is paused.
    """
    rows = reader.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY id DESC LIMIT ?", (count,)).fetchall()
    return [_with_actual_state(reader, _run(row)) for row in rows]


def _run(row: tuple[Any, ...]) -> Run:
    return Run._make([*row[:-1], json.loads(row[-1])])


def _with_actual_state(reader: sqlite3.Connection, run: Run) -> Run:
    """The run with the state of its process. Another machine's processes cannot be checked."""
    if run.state != "running" or not run.is_here:
        return run
    if _is_running(run.pid):
        return run._replace(state="paused") if _process_state(run.pid) in ("T", "t") else run
    # the process may have finished the run after its row was read
    run = _run(reader.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run.id,)).fetchone())
    return run._replace(state="interrupted") if run.state == "running" else run


def _process_state(pid: int) -> str:
    """The state of a process as one letter of `ps` and proc(5); "" if the system does not tell."""
    if sys.platform == "win32":
        return ""
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return ""
        return status.rpartition(")")[2].lstrip()[:1]  # after the name, which may hold anything
    status = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout
    return status.strip()[:1]


def _is_running(pid: int) -> bool:
    """Whether there is a process with this id; after a restart of the machine it may be another one."""
    if sys.platform == "win32":  # os.kill(pid, 0) would end the process
        import ctypes  # noqa: PLC0415

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # PROCESS_QUERY_LIMITED_INFORMATION
        if handle:
            ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return _process_state(pid) not in ("Z", "X")  # ended, but its parent has not waited for it
