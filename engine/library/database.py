"""Opens the library's two SQLite files. No other module opens or migrates them."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.database_copy import copy_database
from vtag.engine.library.journal_mode import is_log_impossible, remove_log, set_journal_mode
from vtag.engine.library.timestamps import now as now
from vtag.engine.paths import LIBRARY_FILE, make_private_dir
from vtag.engine.text import display_path

_OBSERVATIONS_FILE = "observations.db"
OBSERVATIONS_SUFFIX = "-observations"


class Schema(NamedTuple):
    """The migrations of this version, readable without sqlite-utils; a test compares them with migrations.py."""

    name: str
    steps: tuple[str, ...]


SCHEMA = Schema(
    "vtag",
    (
        "m001_create_library",
        "m002_cover_searches",
        "m003_know_rewritten_files",
        "m004_know_what_is_unfinished",
        "m005_give_timestamps_one_format",
        "m006_give_labels_one_form",
        "m007_keep_less_sure_moments",
        "m008_know_the_players_clock",
        "m009_describe_the_library_to_programs",
        "m010_know_when_videos_change",
        "m011_find_moments_by_annotation",
    ),
)
OBSERVATIONS_SCHEMA = Schema("vtag-observations", ("m001_create_observations",))
_create_lock = threading.Lock()
_BUSY_S = 30.0  # longest wait for another process's transaction


class LibraryWriter:
    """An open library for writing: `connection` on its tables, `observations` on the features in a second file."""

    def __init__(self, path: Path, connection: sqlite3.Connection, observations: sqlite3.Connection) -> None:
        self.path = path
        self.connection = connection
        self.observations = observations

    @classmethod
    def open(cls, path: Path) -> LibraryWriter:
        """Open or create the library at `path`; an older one is backed up and migrated.

        Raises LibraryError if it cannot be opened, is no library, or was made by a newer vtag.
        """
        # the observations first: a library without a file of its own for them is taken for one of an earlier vtag
        observations = _open_migrated(observations_path(path), OBSERVATIONS_SCHEMA)
        try:
            return cls(path, _open_migrated(path, SCHEMA), observations)
        except LibraryError:
            observations.close()
            raise

    @contextlib.contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A transaction on library.db; waits for other writers. A transaction inside another joins it."""
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

    def __enter__(self) -> LibraryWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, sqlite3.Error):
            raise library_error(self.path, error) from error


def observations_path(path: Path) -> Path:
    """The file of the features of the library at `path`.

    Earlier versions of vtag gave all libraries of a folder one file: such a library keeps it.
    """
    own, shared = own_observations_path(path), path.with_name(_OBSERVATIONS_FILE)
    return shared if path.is_file() and not own.exists() and shared.is_file() else own


def own_observations_path(path: Path) -> Path:
    """The file of the features of a new library at `path`: observations.db for library.db, else NAME-observations."""
    if path.name == LIBRARY_FILE:
        return path.with_name(_OBSERVATIONS_FILE)
    return path.with_name(path.name + OBSERVATIONS_SUFFIX)


def open_reader(path: Path) -> sqlite3.Connection:
    """A read-only connection to library.db, migrated first if it is older.

    Raises LibraryError if there is no library, or if it cannot be opened or migrated.
    """
    if path.is_dir():
        raise LibraryError(f"{display_path(path)} is a folder: name the library's file")
    if not path.is_file():
        raise LibraryError(f"there is no library at {display_path(path)} yet: `vtag scan FOLDER` makes one")
    connection = None
    try:
        connection = _open_for_reading(path)
        applied = _applied_steps(connection, SCHEMA)
        _refuse_foreign(connection, path, applied, SCHEMA)
        if set(SCHEMA.steps) - set(applied):
            connection.close()
            LibraryWriter.open(path).close()  # migrates it, or raises
            connection = _open_for_reading(path)
        return connection
    except (sqlite3.Error, LibraryError) as error:
        if connection:
            connection.close()
        if isinstance(error, LibraryError):
            raise
        raise library_error(path, error) from error


class Health(NamedTuple):
    """The result of SQLite's check ("ok" or the problem), and the numbers of videos and moments."""

    verdict: str
    videos: int
    moments: int


def check_health(reader: sqlite3.Connection) -> Health:
    """Check the library's file for damage; reads all of it."""
    (verdict,) = reader.execute("PRAGMA quick_check(1)").fetchone()
    (videos,) = reader.execute("SELECT count(*) FROM contents WHERE error IS NULL").fetchone()
    (moments,) = reader.execute("SELECT count(*) FROM sure_segments").fetchone()
    return Health(str(verdict), videos, moments)


def open_observations_for_writing(path: Path) -> sqlite3.Connection:
    """A connection to the features' file at `path`, created or migrated if need be. Raises LibraryError."""
    return _open_migrated(path, OBSERVATIONS_SCHEMA)


def open_observations(path: Path) -> sqlite3.Connection:
    """A read-only connection to observations.db. Raises LibraryError if there is none or it has another schema."""
    if not path.is_file():
        raise LibraryError(f"{display_path(path)} is missing: `vtag scan` computes it again")
    try:
        connection = _open_for_reading(path)
        if _applied_steps(connection, OBSERVATIONS_SCHEMA) != list(OBSERVATIONS_SCHEMA.steps):
            connection.close()
            raise LibraryError(
                f"{display_path(path)} was made by another version of vtag: `vtag retag` or `vtag scan` updates it"
            )
        return connection
    except sqlite3.Error as error:
        raise library_error(path, error) from error


def open_unmigrated(path: Path) -> sqlite3.Connection:
    """A read-only connection to a library of any schema.

    Raises LibraryError if there is none, or if it cannot be opened, or was made by a newer vtag.
    """
    if not path.is_file():
        raise LibraryError(f"there is no library at {display_path(path)}")
    connection = None
    try:
        connection = _open_for_reading(path)
        applied = _applied_steps(connection, SCHEMA)
        _refuse_foreign(connection, path, applied, SCHEMA)
        if not applied:
            raise LibraryError(f"{display_path(path)} is empty: name the file of a library")
        return connection
    except (sqlite3.Error, LibraryError) as error:
        if connection:
            connection.close()
        if isinstance(error, LibraryError):
            raise
        raise library_error(path, error) from error


def schema_steps(connection: sqlite3.Connection) -> tuple[str, ...]:
    """The names of the migrations that were applied to a library."""
    return tuple(_applied_steps(connection, SCHEMA))


def _open_for_reading(path: Path) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        connection.close()
        if os.access(path.parent, os.W_OK) and is_log_impossible(error, path.parent):
            remove_log(path)
            return sqlite3.connect(uri, uri=True, timeout=_BUSY_S)
        # On a read-only disk SQLite cannot create the index of the write-ahead log, and does not need it.
        if os.access(path.parent, os.W_OK) or _file_size(path.with_name(f"{path.name}-wal")):
            raise
        connection = sqlite3.connect(f"{uri}&immutable=1", uri=True)
    return connection


def _open_migrated(file: Path, schema: Schema) -> sqlite3.Connection:
    """A connection for writing to one of a library's files, created or migrated. Raises LibraryError."""
    connection = None
    try:
        make_private_dir(file.parent)
        connection = _open_for_writing(file)
        _migrate(connection, file, schema)
        return connection
    except (sqlite3.Error, OSError, LibraryError) as error:
        if connection:
            connection.close()
        if isinstance(error, LibraryError):
            raise
        raise library_error(file, error) from error


def _open_for_writing(file: Path) -> sqlite3.Connection:
    _create_private(file)
    connection = sqlite3.connect(file, timeout=_BUSY_S, isolation_level=None)
    try:
        set_journal_mode(connection, file.parent, wait_s=_BUSY_S)
        connection.execute("PRAGMA foreign_keys = ON")
    except sqlite3.Error as error:
        connection.close()
        if not is_log_impossible(error, file.parent):
            raise
        remove_log(file)
        return _open_for_writing(file)
    return connection


def _create_private(file: Path) -> None:
    """Create the file if there is none, before SQLite does: the -wal and -shm files inherit its permissions.

    A file that exists is not opened here. Closing a descriptor of it would release the locks that other connections
    of this process have on it, and another process could take away their write-ahead log.
    """
    with _create_lock, contextlib.suppress(FileExistsError):
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    if os.name == "posix" and file.stat().st_mode & 0o077:
        file.chmod(0o600)


def _migrate(connection: sqlite3.Connection, file: Path, schema: Schema) -> None:
    """Apply the missing steps in one transaction, after a backup."""
    if _applied_steps(connection, schema) == list(schema.steps):
        return
    connection.execute("BEGIN IMMEDIATE")  # another process may migrate it at the same time
    try:
        applied = _applied_steps(connection, schema)
        _refuse_foreign(connection, file, applied, schema)
        pending = [step for step in schema.steps if step not in applied]
        if pending:
            if applied:
                _back_up(file, pending[0])
            from vtag.engine.library.migrations import apply

            apply(connection, schema.name)
            if schema == SCHEMA:
                from vtag.engine.library.annotations.apply import apply_all_annotations

                # a step may have changed the order of annotations
                apply_all_annotations(connection)
        connection.commit()
    except BaseException:
        connection.rollback()
        raise


def _applied_steps(connection: sqlite3.Connection, schema: Schema) -> list[str]:
    has_table = connection.execute(
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = '_sqlite_migrations'"
    ).fetchone()
    if not has_table:
        return []
    rows = connection.execute(
        "SELECT name FROM _sqlite_migrations WHERE migration_set = ? ORDER BY id", (schema.name,)
    )
    return [row[0] for row in rows]


def _refuse_foreign(connection: sqlite3.Connection, path: Path, applied: list[str], schema: Schema) -> None:
    """Raise LibraryError if the file was made by a newer vtag or by another program."""
    if unknown := [name for name in applied if name not in schema.steps]:
        raise LibraryError(
            f"the library at {display_path(path)} was made by a newer vtag ({unknown[0][:60]}): update vtag"
        )
    if not applied and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise LibraryError(f"{display_path(path)} is the database of another program: name another file")


def _back_up(file: Path, step: str) -> None:
    """Copy `file` to a file beside it, named after the first step that the copy lacks."""
    try:
        copy_database(file, backup_before(file, step))
    except LibraryError as error:
        raise LibraryError(f"the library at {display_path(file)} has to be updated, but {error}") from error


def backup_before(file: Path, step: str) -> Path:
    """Where the backup of `file` is that is made before a migration."""
    return file.with_name(f"{file.name}.before-{step.split('_')[0]}")


def _file_size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0


def library_error(path: Path, error: Exception) -> LibraryError:
    """An error as a sentence that says what to do."""
    shown_path = display_path(path)
    text = str(error).lower()
    if path.is_dir():
        return LibraryError(f"{shown_path} is a folder: name the library's file")
    if "not a database" in text or "malformed" in text:
        if path.name.endswith((_OBSERVATIONS_FILE, OBSERVATIONS_SUFFIX)):
            return LibraryError(
                f"{shown_path} is not a sound database: remove it, and `vtag scan` computes it again"
            )
        return LibraryError(
            f"{shown_path} is damaged, or is not a library: `vtag library restore` brings back a backup"
        )
    if "locked" in text or "busy" in text:
        return LibraryError(f"{shown_path} is in use by another program: try again when it is done")
    if "full" in text or getattr(error, "errno", None) == errno.ENOSPC:
        return LibraryError(f"the disk of {shown_path} is full: what was finished is kept")
    is_closed = "unable to open" in text and path.exists() and not os.access(path.parent, os.W_OK)
    if is_closed or "readonly" in text or getattr(error, "errno", None) in (errno.EACCES, errno.EROFS):
        return LibraryError(
            f"{shown_path} cannot be written: name another file with --db, or a folder with VTAG_HOME"
        )
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return LibraryError(f"{shown_path} cannot be opened as a library: {reason}")
