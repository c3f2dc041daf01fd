"""Each scan or training as a row, so that another process can show it."""

from __future__ import annotations

import json
import os
import platform

from vtag.engine.library.database import Library, now


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
