"""How SQLite keeps transactions of a database: a write-ahead log, or a journal where the disk shares no memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import sqlite3
import tempfile
import time
from pathlib import Path

_POLL_S = 0.02
_INDEX_BYTES = 32768  # of the log's index, which all processes map into their memory


def set_journal_mode(connection: sqlite3.Connection, folder: Path, *, wait_s: float) -> None:
    """Give an open database in `folder` a write-ahead log, or a rollback journal where the disk cannot have one.

    With a log, readers and a writer do not wait for each other. Some network file systems cannot have its index.
    Waits up to `wait_s` seconds for other processes that change it. Raises sqlite3.Error.
    """
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    if mode != "wal" and can_share_memory(folder):
        mode = _start_log(connection, time.monotonic() + wait_s)
    connection.execute(f"PRAGMA synchronous = {'NORMAL' if mode == 'wal' else 'FULL'}")


def _start_log(connection: sqlite3.Connection, deadline: float) -> str:
    """Change to a write-ahead log; returns the mode that the database has then.

    SQLite does not wait here if another process does the same at this moment: both have read the file, and it
    answers one of them at once that the database is locked.
    """
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_S)


def remove_log(file: Path) -> None:
    """Give a database with a write-ahead log a rollback journal: it came to a disk that cannot have the log's index.

    Raises sqlite3.Error if another process uses the database.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=30.0, isolation_level=None)) as connection:
        connection.execute(
            "PRAGMA locking_mode = EXCLUSIVE"
        )  # the index is in this process's own memory then
        connection.execute("PRAGMA journal_mode = DELETE")


def is_log_impossible(error: sqlite3.Error, folder: Path) -> bool:
    """Whether a database could not be opened because its write-ahead log cannot be on the disk of `folder`."""
    return "i/o error" in str(error).lower() and not can_share_memory(folder)


def can_share_memory(folder: Path) -> bool:
    """Whether processes can map a file in `folder` into their memory together."""
    with tempfile.TemporaryFile(dir=folder) as file:
        os.truncate(file.fileno(), _INDEX_BYTES)
        try:
            mmap.mmap(file.fileno(), _INDEX_BYTES).close()
        except OSError:
            return False
    return True
