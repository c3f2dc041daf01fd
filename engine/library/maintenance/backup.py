"""Backs up a library, brings a backup back, and returns unused space of its files to the disk."""

from __future__ import annotations

import contextlib
import glob
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import (
    OBSERVATIONS_SUFFIX,
    LibraryWriter,
    library_error,
    observations_path,
    open_observations,
    open_observations_for_writing,
    open_unmigrated,
    own_observations_path,
    schema_steps,
)
from vtag.engine.library.database_copy import copy_database, overwrite_database, require_room
from vtag.engine.library.store import feature_cache, observations, runs
from vtag.engine.library.timestamps import now
from vtag.engine.text import display_path

_BACKUP, _BEFORE = ".backup-", ".before-"  # in names: made by a person, and by vtag before a change
_SIDE_FILES = ("-wal", "-shm", "-journal")  # of SQLite, named after the database
_NOT_BACKUPS = (*_SIDE_FILES, ".part", OBSERVATIONS_SUFFIX)


@dataclass(frozen=True)
class Backup:
    """A copy of a library; `schema` is the last migration that it has."""

    path: Path
    size_bytes: int
    schema: str
    has_features: bool  # in a file of its own


@dataclass(frozen=True)
class VacuumedFile:
    """A file of a library, and its size before and after `vacuum`."""

    path: Path
    before_bytes: int
    after_bytes: int


def back_up(
    library: Path, target: Path | None = None, *, with_features: bool = True, replace: bool = False
) -> Backup:
    """Copy a library, which may be in use, to `target` or to a dated file beside it.

    A backup opens as a library, too. Raises LibraryError if the library is damaged, the disk lacks room, or `target`
    exists and is not to be replaced.
    """
    target = target or _dated(library)
    if target.exists():
        if not replace or target.resolve() == library.resolve():
            raise LibraryError(f"{display_path(target)} exists already: name another file, or say --replace")
        open_unmigrated(target).close()  # only a library is replaced
    _require_sound(library)
    features, copied_features = observations_path(library), own_observations_path(target)
    if with_features and features.is_file():
        _copy(features, copied_features)
    elif copied_features != features:
        copied_features.unlink(missing_ok=True)  # of the backup that is replaced
    _copy(library, target)
    return _describe(target)


def back_up_before(library: Path, change: str) -> Path:
    """Copy the tables of a library to a file beside it that is named after a `change`; returns the file."""
    target = library.with_name(f"{library.name}{_BEFORE}{change}")
    _copy(library, target)
    return target


def list_backups(library: Path) -> list[Backup]:
    """The backups beside a library, the latest first."""
    backups = []
    for kind in (_BACKUP, _BEFORE):
        for name in glob.glob(f"{glob.escape(str(library))}{kind}*"):
            if not name.endswith(_NOT_BACKUPS):
                with contextlib.suppress(LibraryError):
                    backups.append(_describe(Path(name)))
    return sorted(backups, key=lambda backup: backup.path.stat().st_mtime_ns, reverse=True)


def require_backup(library: Path, backup: Path) -> None:
    """Raise LibraryError unless `backup` is a library other than `library`."""
    if library.exists() and backup.resolve() == library.resolve():
        raise LibraryError(f"{display_path(backup)} is the library itself: name a backup of it")
    open_unmigrated(backup).close()


def restore(library: Path, backup: Path) -> Path | None:
    """Replace the content of a library by that of a backup; returns the file that has the former content.

    A damaged library is put aside. Features are only added: they follow from the bytes of videos, and stay right.
    Raises LibraryError if the backup is damaged or made by a newer vtag, or if a scan or training is running.
    """
    require_backup(library, backup)
    _require_sound(backup)
    _refuse_running(library)
    former = library.with_name(f"{library.name}{_BEFORE}restore")
    if former.exists() and former.resolve() == backup.resolve():
        former = _dated(library)
    features = observations_path(library)  # before the library is there: then it has a file of its own
    if _is_sound(library):
        _copy(library, former)
        try:
            overwrite_database(backup, library)
        except sqlite3.Error as error:
            raise library_error(library, error) from error
    else:
        _put_aside(library, former)
        _copy(backup, library)
    _add_features(features, observations_path(backup))
    feature_cache.delete_cache(library)
    return former if former.exists() else None


def vacuum(library: LibraryWriter) -> list[VacuumedFile]:
    """Rewrite both files without unused space. Raises LibraryError if the disk lacks room for a copy of a file."""
    vacuumed = []
    for connection, path in (
        (library.connection, library.path),
        (library.observations, observations_path(library.path)),
    ):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before_bytes = path.stat().st_size
        require_room(path.parent, before_bytes, f"a copy of {display_path(path)}")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        vacuumed.append(VacuumedFile(path, before_bytes, path.stat().st_size))
    return vacuumed


def _dated(library: Path) -> Path:
    """A name for a backup: the library's, with the time to the second in UTC."""
    stamp = now()[:19].replace("-", "").replace(":", "")
    return library.with_name(f"{library.name}{_BACKUP}{stamp}Z")


def _describe(path: Path) -> Backup:
    with contextlib.closing(open_unmigrated(path)) as reader:
        schema = schema_steps(reader)[-1]
    return Backup(path, path.stat().st_size, schema, own_observations_path(path).is_file())


def _copy(source: Path, target: Path) -> None:
    try:
        copy_database(source, target)
    except (sqlite3.Error, OSError) as error:
        raise library_error(target, error) from error


def _is_sound(path: Path) -> bool:
    try:
        _require_sound(path)
    except LibraryError:
        return False
    return True


def _require_sound(path: Path) -> None:
    """Raise LibraryError if there is no library at `path`, or SQLite finds it damaged."""
    with contextlib.closing(open_unmigrated(path)) as reader:
        try:
            (verdict,) = reader.execute("PRAGMA quick_check(1)").fetchone()
        except sqlite3.Error as error:
            raise library_error(path, error) from error
    if verdict != "ok":
        raise LibraryError(f"{display_path(path)} is damaged ({' '.join(str(verdict).split())[:120]})")


def _refuse_running(library: Path) -> None:
    """Raise LibraryError if a scan or training of this machine writes to the library."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(_open_existing(library)) as reader:
        for run in runs.recent_runs(reader):
            if run.is_here and run.state in ("running", "paused"):
                raise LibraryError(f"a {run.kind} uses the library (process {run.pid}): end it first")


def _open_existing(library: Path) -> sqlite3.Connection:
    try:
        return open_unmigrated(library)
    except LibraryError as error:  # none, or damaged: nobody works with it
        raise sqlite3.OperationalError from error


def _put_aside(library: Path, former: Path) -> None:
    """Rename a damaged library and what SQLite keeps beside it."""
    for suffix in ("", *_SIDE_FILES):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{library}{suffix}", f"{former}{suffix}")


def _add_features(target: Path, source: Path) -> None:
    """Add the features of the file `source` to those of `target`, which is put aside if it is damaged."""
    if not source.is_file() or source == target:
        return
    try:
        connection = open_observations_for_writing(target)
    except LibraryError:
        _put_aside(target, target.with_name(f"{target.name}{_BEFORE}restore"))
        connection = open_observations_for_writing(target)
    with contextlib.closing(connection), contextlib.closing(open_observations(source)) as reader:
        observations.merge_file(connection, reader)
