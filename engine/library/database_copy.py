"""Copies a SQLite database while other processes use it: into a new file, or over another database."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from vtag.engine.errors import LibraryError
from vtag.engine.system.atomic_write import atomic_path
from vtag.engine.text import display_path

_BUSY_S = 30.0  # longest wait for another process's transaction
_SPARE_BYTES = 2**20


def copy_database(source: Path, target: Path) -> None:
    """Copy what is committed in the database `source` to the file `target`, which appears complete or not at all.

    The copy is one file without a write-ahead log, and only its owner can read it. Raises LibraryError if the disk
    lacks room, sqlite3.Error if the source is damaged, and OSError.
    """
    require_room(target.parent, _size(source), "a copy")
    with (
        atomic_path(target, mode=0o600) as part,
        contextlib.closing(sqlite3.connect(source, timeout=_BUSY_S)) as reader,
        contextlib.closing(sqlite3.connect(part, isolation_level=None)) as writer,
    ):
        writer.execute("PRAGMA synchronous = OFF")  # the whole file is flushed at the end
        reader.backup(writer, progress=_give_up_in_time())
        writer.execute("PRAGMA journal_mode = DELETE")


def overwrite_database(source: Path, target: Path) -> None:
    """Replace the content of the database `target` by that of `source`, in one transaction of SQLite.

    Processes that have `target` open see the new content. Raises LibraryError if the disk lacks room, and
    sqlite3.Error if `target` is damaged or stays in use.
    """
    require_room(target.parent, _size(source), "a copy")
    with (
        contextlib.closing(sqlite3.connect(source, timeout=_BUSY_S)) as reader,
        contextlib.closing(sqlite3.connect(target, timeout=_BUSY_S)) as writer,
    ):
        reader.backup(writer, progress=_give_up_in_time())


def require_room(folder: Path, size_bytes: int, purpose: str) -> None:
    """Raise LibraryError if the disk of `folder` has no room for `size_bytes` more."""
    if shutil.disk_usage(folder).free < size_bytes + _SPARE_BYTES:
        raise LibraryError(
            f"the disk of {display_path(folder)} lacks room for {purpose} of {size_bytes / 1e6:.0f} MB"
        )


def _give_up_in_time() -> Callable[[int, int, int], None]:
    """A callback for `backup`, which waits for ever otherwise while another process writes."""
    deadline = time.monotonic() + _BUSY_S

    def check(status: int, remaining_pages: int, pages: int) -> None:
        if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED) and time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")

    return check


def _size(file: Path) -> int:
    """The bytes of a database with its write-ahead log."""
    log = file.with_name(f"{file.name}-wal")
    return file.stat().st_size + (log.stat().st_size if log.exists() else 0)
