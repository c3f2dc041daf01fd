"""Each scan or training as a row, so that another process can show it."""

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

from vtag.engine.library.database import Library, now
from vtag.engine.library.store.settings import save_setting

_COLUMNS = "id, kind, command, pid, host, state, started_at, updated_at, progress"
_SPEED = "speed of "  # begins the names of settings that hold one


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
        """Whether it is this machine's: only those can be ended or paused."""
        return self.host == platform.node()


class RunEstimate(NamedTuple):
    """How fast a run is, as a multiple of real time, and how long it takes yet; None where nothing is known."""

    speed: float | None
    left_s: float | None


def estimate_run(run: Run) -> RunEstimate:
    """Speed and time left of a run, from what it reported last.

    It reports the seconds in which it worked (`worked_s`): pauses are not among them.
    """
    passed_s = (
        datetime.fromisoformat(run.updated_at) - datetime.fromisoformat(run.started_at)
    ).total_seconds()
    worked_s = run.progress.get("worked_s") or passed_s  # what an older vtag wrote has none
    done_ms, of_ms = run.progress.get("video_ms") or 0, run.progress.get("of_ms") or 0
    if worked_s < 1 or not done_ms:
        return RunEstimate(None, run.progress.get("left_s"))
    left_s = worked_s * (of_ms - done_ms) / done_ms if of_ms >= done_ms else None
    return RunEstimate(done_ms / 1000 / worked_s, left_s)


def start(library: Library, kind: str, command: str) -> int:
    """A new row for this process; its id."""
    with library.transaction() as db:
        cursor = db.execute(
            "INSERT INTO runs (kind, command, pid, host, state, started_at, updated_at) "
            "VALUES (?, ?, ?, ?, 'running', ?, ?)",
            (kind, command, os.getpid(), platform.node(), now(), now()),
        )
        return int(cursor.lastrowid or 0)


def report(library: Library, run_id: int, progress: dict[str, object]) -> None:
    """How far a run has come."""
    with library.transaction() as db:
        db.execute(
            "UPDATE runs SET progress = ?, updated_at = ? WHERE id = ?", (json.dumps(progress), now(), run_id)
        )


def finish(library: Library, run_id: int, state: str) -> None:
    """How a run ended: done, failed, interrupted."""
    with library.transaction() as db:
        db.execute(
            "UPDATE runs SET state = ?, updated_at = ?, finished_at = ? WHERE id = ?",
            (state, now(), now(), run_id),
        )


def save_speed(library: Library, speed_key: str, speed: float) -> None:
    """Keep how fast a scan went: seconds of video a second; `of` says what looked, where and how."""
    save_setting(library, _SPEED + speed_key, f"{speed:.4g}")


def last_speed(library: Library, speed_key: str) -> float | None:
    """How fast the last scan went whose `of` begins like this; None where there was none."""
    row = library.connection.execute(
        "SELECT value FROM settings WHERE substr(key, 1, length(?1)) = ?1 ORDER BY rowid DESC LIMIT 1",
        (_SPEED + speed_key,),
    ).fetchone()
    return float(row[0]) if row else None


def recent_runs(reader: sqlite3.Connection, count: int = 20) -> list[Run]:
    """The latest runs, newest first; one whose process is gone without a word was interrupted.

    One whose process was stopped, by whatever (a pause, Ctrl-Z), is paused.
    """
    rows = reader.execute(f"SELECT {_COLUMNS} FROM runs ORDER BY id DESC LIMIT ?", (count,)).fetchall()
    return [_as_it_is(reader, _run(row)) for row in rows]


def mark_interrupted(library: Library) -> None:
    """Write down of every run whose process is gone that it was interrupted."""
    for run in recent_runs(library.connection, -1):
        if run.state == "interrupted":
            with library.transaction() as db:
                db.execute(
                    "UPDATE runs SET state = 'interrupted', finished_at = updated_at "
                    "WHERE id = ? AND state = 'running'",
                    (run.id,),
                )


def _run(row: tuple[Any, ...]) -> Run:
    return Run._make([*row[:-1], json.loads(row[-1])])


def _as_it_is(reader: sqlite3.Connection, run: Run) -> Run:
    """Only this machine's processes can be asked; after a restart a number may belong to another one."""
    if run.state != "running" or not run.is_here:
        return run
    if _is_running(run.pid):
        return run._replace(state="paused") if _letter(run.pid) in ("T", "t") else run
    # its last word may have come after its row was read
    run = _run(reader.execute(f"SELECT {_COLUMNS} FROM runs WHERE id = ?", (run.id,)).fetchone())
    return run._replace(state="interrupted") if run.state == "running" else run


def _letter(pid: int) -> str:
    """What a process does, as `ps` and proc(5) call it; "" where the system does not tell."""
    if sys.platform == "win32":
        return ""
    if sys.platform == "linux":
        try:
            told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return ""
        return told.rpartition(")")[2].lstrip()[:1]  # after the name, which may hold anything
    told = subprocess.run(["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True).stdout
    return told.strip()[:1]


def _is_running(pid: int) -> bool:
    if sys.platform == "win32":  # there os.kill(pid, 0) would end the process
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
    return _letter(pid) not in ("Z", "X")  # dead, only that nobody waited for it
