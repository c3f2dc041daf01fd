"""The one place that opens the library: two SQLite files, migrated, private, and closed again."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from vtag.engine.errors import LibraryError
from vtag.engine.paths import private_dir
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from sqlite_utils import Migrations

OBSERVATIONS = "observations.db"
# the steps this vtag knows, also without sqlite-utils; a test holds them against migrations.py
SCHEMA = ("m001_create_library",)
OBSERVATIONS_SCHEMA = ("m001_create_observations",)
_BUSY_S = 30.0


def now() -> str:
    """The time in UTC as it is written into the library: ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Library:
    """An open library for writing: `connection` on library.db, `observations` on observations.db beside it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, observations: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.observations = observations

    @classmethod
    def open(cls, path: Path) -> Library:
        """Open or create the library at `path`; an older one is backed up and brought up to date.

        Raises LibraryError where it cannot be opened, is no library, or was made by a newer vtag.
        """
        from vtag.engine.library.migrations import library_migrations, observation_migrations

        private_dir(path.parent)
        opened: list[sqlite3.Connection] = []
        try:
            for file, migrations, known in (
                (path, library_migrations, SCHEMA),
                (path.parent / OBSERVATIONS, observation_migrations, OBSERVATIONS_SCHEMA),
            ):
                opened.append(_open_for_writing(file))
                _migrate(opened[-1], file, migrations, known)
        except (sqlite3.Error, OSError, LibraryError) as error:
            for connection in opened:
                connection.close()
            if isinstance(error, LibraryError):
                raise
            raise _explained(path, error) from error
        return cls(path, *opened)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing on library.db; waits for other writers. A transaction inside another joins it."""
        if self.connection.in_transaction:
            yield self.connection
            return
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except BaseException:
            self.connection.rollback()
            raise
        self.connection.commit()

    def close(self) -> None:
        """Close both files."""
        self.connection.close()
        self.observations.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise _explained(self.path, error) from error


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection for reading alone. Raises LibraryError where there is no library or it is of another vtag."""
    if not path.is_file():
        raise LibraryError(f"there is no library at {display_path(path)} yet: `vtag scan FOLDER` makes one")
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_S)
        applied = _applied(connection)
    except sqlite3.Error as error:
        raise _explained(path, error) from error
    _refuse_newer(path, applied, SCHEMA)
    if set(SCHEMA) - set(applied):
        connection.close()
        raise LibraryError(
            f"the library at {display_path(path)} is of an older vtag: `vtag scan` or `vtag retag` updates it"
        )
    return connection


def _open_for_writing(file: Path) -> sqlite3.Connection:
    new = not file.exists()
    if new:
        # made private before SQLite writes; the -wal and -shm files take its permissions
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    return connection


def _migrate(
    connection: sqlite3.Connection, file: Path, migrations: Migrations, known: tuple[str, ...]
) -> None:
    from sqlite_utils import Database

    done = _applied(connection)
    _refuse_newer(file, done, known)
    db = Database(connection)
    pending = [step.name for step in migrations.pending(db)]
    if not pending:
        return
    if done:
        _back_up(connection, file, pending[0])
    elif connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise LibraryError(f"{display_path(file)} is a database of another program: name another file")
    migrations.apply(db)


def _applied(connection: sqlite3.Connection) -> list[str]:
    has_table = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
    ).fetchone()
    return [row[0] for row in connection.execute("SELECT name FROM _sqlite_migrations")] if has_table else []


def _refuse_newer(path: Path, applied: list[str], known: tuple[str, ...]) -> None:
    if unknown := [name for name in applied if name not in known]:
        raise LibraryError(
            f"the library at {display_path(path)} was made by a newer vtag ({unknown[0][:60]}): update vtag"
        )


def _back_up(connection: sqlite3.Connection, file: Path, step: str) -> None:
    if shutil.disk_usage(file.parent).free < 2 * file.stat().st_size + 2**20:
        raise LibraryError(
            f"the library at {display_path(file)} has to be updated, but the disk lacks room for its backup"
        )
    copy = file.with_name(f"{file.name}.before-{step.split('_')[0]}")
    with contextlib.closing(_open_for_writing(copy)) as backup:
        connection.backup(backup)


def _explained(path: Path, error: Exception) -> LibraryError:
    where = display_path(path)
    text = str(error).lower()
    if "not a database" in text or "malformed" in text:
        return LibraryError(f"{where} is not a sound database: name another file, or bring back a backup")
    if "locked" in text or "busy" in text:
        return LibraryError(f"{where} is in use by another program: try again when it is done")
    if "full" in text:
        return LibraryError(f"the disk that holds {where} is full: what was finished is kept")
    return LibraryError(f"{where} cannot be opened as a library: {error}")
