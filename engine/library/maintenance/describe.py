"""Describes a library for a bug report: its schema, numbers of rows, failures and runs."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vtag.engine.errors import VtagError
from vtag.engine.library.database import SCHEMA, open_unmigrated, schema_steps
from vtag.engine.library.store.runs import recent_runs

_RUNS = 20
_TABLES = (
    "contents",
    "files",
    "roots",
    "volumes",
    "models",
    "labels",
    "segments",
    "words",
    "word_log",
    "unfinished",
)


def describe_library(path: Path, hide: Callable[[str], str]) -> dict[str, Any]:
    """Numbers of a library, and its last runs; what is wrong with it, if it cannot be read."""
    try:
        with contextlib.closing(open_unmigrated(path)) as reader:
            steps = schema_steps(reader)
            counts = {
                table: reader.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in _TABLES
            }
            errors = reader.execute(
                "SELECT error, count(*) FROM contents WHERE error IS NOT NULL GROUP BY error"
            )
            return {
                "schema": list(steps),
                "is_current": set(steps) == set(SCHEMA.steps),
                "size_bytes": path.stat().st_size,
                "rows": counts,
                "failures": {hide(error): count for error, count in errors},
                "runs": [
                    {
                        "kind": run.kind,
                        "state": run.state,
                        "started_at": run.started_at,
                        "updated_at": run.updated_at,
                        "progress": {
                            name: v for name, v in run.progress.items() if isinstance(v, int | float)
                        },
                    }
                    for run in (recent_runs(reader, _RUNS) if set(steps) == set(SCHEMA.steps) else ())
                ],
            }
    except (VtagError, sqlite3.Error, OSError) as error:
        return {"error": hide(str(error))}
