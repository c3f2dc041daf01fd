"""Files and their contents: content keys, and rows of files, contents and scanned roots."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter, now
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.library.store.volumes import Volume, Volumes, real_path
from vtag.engine.system.silent_disks import ask_in_time
from vtag.engine.text import display_path

_BLOCK_BYTES = 64 * 1024
_INNER_BLOCKS = 16  # between the first and the last block


def content_key(path: bytes) -> str:
    """The key of a file's content: its size, and a hash of its first and last block and of 16 blocks between.

    A file of at most 18 blocks (1.2 MB) is hashed completely. Raises OSError if the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= (_INNER_BLOCKS + 2) * _BLOCK_BYTES:
            while block := file.read(_BLOCK_BYTES):
                digest.update(block)
        else:
            last = size - _BLOCK_BYTES
            for i in range(_INNER_BLOCKS + 2):
                file.seek(last * i // (_INNER_BLOCKS + 1))
                digest.update(file.read(_BLOCK_BYTES))
    return f"{size}-{digest.hexdigest()}"


class StoredFile(NamedTuple):
    """A file and its content as the library stores them."""

    size_bytes: int
    mtime_ns: int
    state: str
    content_id: int
    content_key: str
    content_error: str | None
    duration_ms: int | None


class StoredContent(NamedTuple):
    """A content as the library stores it."""

    id: int
    error: str | None
    error_at: str | None
    duration_ms: int | None
    key: str


class FileStat(Protocol):
    """Path, size, date and inode of a file, in the ranges of `file_stat`."""

    @property
    def path(self) -> bytes: ...  # absolute
    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def inode(self) -> int: ...


class _PathStat(NamedTuple):
    path: bytes
    size_bytes: int
    mtime_ns: int
    inode: int


def register_file(library: LibraryWriter, path: bytes) -> int:
    """The content id of the file at `path`, after adding the file to the library if it is new or has changed.

    Raises LibraryError if there is no such file or it cannot be read.
    """
    path = real_path(path)
    try:
        info = os.stat(path)
        if not stat.S_ISREG(info.st_mode):
            raise LibraryError(f"{display_path(path)} is no file")
        file = _PathStat(path, *file_stat(info))
        volume = Volumes().volume_of(path)
        row = library.connection.execute(
            "SELECT f.size_bytes, f.mtime_ns, f.state, f.content_id FROM files f "
            "JOIN volumes v ON v.id = f.volume_id WHERE v.key = ? AND f.path = ?",
            (volume.key, volume.relative(path)),
        ).fetchone()
        if row and row[:3] == (file.size_bytes, file.mtime_ns, "present"):
            return int(row[3])
        key = content_key(path)
    except OSError as error:
        raise LibraryError(f"{display_path(path)} cannot be read: {error.strerror or error}") from error
    with library.transaction():
        content_id = save_content(library, key, {})
        save_file(library, volume, file, content_id)
    return content_id


def stored_files(library: LibraryWriter, volume: Volume) -> dict[bytes, StoredFile]:
    """All stored files of a volume, by their path below its mount point."""
    rows = library.connection.execute(
        """
        SELECT f.path, f.size_bytes, f.mtime_ns, f.state, c.id, c.key, c.error, c.duration_ms
        FROM files f JOIN volumes v ON v.id = f.volume_id JOIN contents c ON c.id = f.content_id WHERE v.key = ?
        """,
        (volume.key,),
    )
    return {row[0]: StoredFile(*row[1:]) for row in rows}


def find_content(library: LibraryWriter, key: str) -> StoredContent | None:
    """The content with this key, or None."""
    row = library.connection.execute(
        "SELECT id, error, error_at, duration_ms, key FROM contents WHERE key = ?", (key,)
    ).fetchone()
    return StoredContent(*row) if row else None


def get_content(library: LibraryWriter, content_id: int) -> StoredContent:
    """The content with this id, which exists."""
    row = library.connection.execute(
        "SELECT id, error, error_at, duration_ms, key FROM contents WHERE id = ?", (content_id,)
    ).fetchone()
    return StoredContent(*row)


def save_content(library: LibraryWriter, key: str, columns: dict[str, object]) -> int:
    """Store a content with the given values of columns, and return its id; other columns of an old row stay."""
    size = int(key.split("-")[0])
    with library.transaction() as db:
        db.execute(
            "INSERT INTO contents (key, size_bytes, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (key, size, now()),
        )
        assignments = ", ".join(f"{name} = :{name}" for name in columns)
        if assignments:
            db.execute(f"UPDATE contents SET {assignments} WHERE key = :key", {**columns, "key": key})
        return int(db.execute("SELECT id FROM contents WHERE key = ?", (key,)).fetchone()[0])


def update_mount(library: LibraryWriter, volume: Volume) -> None:
    """Store where a volume is mounted now, and update the displayed paths of its files and roots."""
    db = library.connection
    row = db.execute("SELECT id, mount FROM volumes WHERE key = ?", (volume.key,)).fetchone()
    if row is None or row[1] == volume.mount:
        return
    with library.transaction():
        db.execute(
            "UPDATE volumes SET mount = ?, display = ? WHERE id = ?",
            (volume.mount, display_path(volume.mount), row[0]),
        )
        for table in ("files", "roots"):
            paths = db.execute(f"SELECT id, path FROM {table} WHERE volume_id = ?", (row[0],)).fetchall()
            db.executemany(
                f"UPDATE {table} SET display = ? WHERE id = ?",
                [(display_path(volume.absolute(path)), row_id) for row_id, path in paths],
            )


def save_file(library: LibraryWriter, volume: Volume, file: FileStat, content_id: int) -> None:
    """Store that a path has a content. The content that it had before stays in the library."""
    with library.transaction() as db:
        db.execute(
            "INSERT INTO volumes (key, mount, display) VALUES (?, ?, ?) "
            "ON CONFLICT (key) DO UPDATE SET mount = excluded.mount, display = excluded.display",
            (volume.key, volume.mount, display_path(volume.mount)),
        )
        db.execute(
            """
            INSERT INTO files (volume_id, path, display, size_bytes, mtime_ns, inode, content_id, seen_at)
            SELECT id, ?, ?, ?, ?, ?, ?, ? FROM volumes WHERE key = ?
            ON CONFLICT (volume_id, path) DO UPDATE SET
                size_bytes = excluded.size_bytes, mtime_ns = excluded.mtime_ns, inode = excluded.inode,
                content_id = excluded.content_id, state = 'present', seen_at = excluded.seen_at
            """,
            (
                volume.relative(file.path),
                display_path(file.path),
                file.size_bytes,
                file.mtime_ns,
                file.inode,
                content_id,
                now(),
                volume.key,
            ),
        )


def add_roots(library: LibraryWriter, roots: Iterable[bytes]) -> None:
    """Store the folders and files that a scan was given."""
    volumes = Volumes()
    with library.transaction() as db:
        for root in roots:
            volume = volumes.volume_of(root)
            db.execute(
                "INSERT INTO volumes (key, mount, display) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (volume.key, volume.mount, display_path(volume.mount)),
            )
            db.execute(
                "INSERT INTO roots (volume_id, path, display, added_at) "
                "SELECT id, ?, ?, ? FROM volumes WHERE key = ? ON CONFLICT DO NOTHING",
                (volume.relative(root), display_path(root), now(), volume.key),
            )


def mark_missing(library: LibraryWriter, roots: Iterable[bytes], existing_paths: set[bytes]) -> int:
    """Mark stored files below `roots` as missing if they are gone; returns how many.

    `existing_paths` (absolute) are not looked up again. Nothing below a missing root or on an unmounted volume is
    marked, because the disk may be unplugged. No row is deleted.
    """
    folder_by_root = {root: os.path.join(real_path(root), b"") for root in roots if os.path.isdir(root)}
    folders = tuple(folder_by_root.values())
    volumes = Volumes()
    gone: list[tuple[Volume, bytes, int]] = []
    for volume_id, key, mount in library.connection.execute("SELECT id, key, mount FROM volumes").fetchall():
        volume = Volume(key, mount)
        if not volumes.is_mounted(volume):
            continue
        rows = library.connection.execute(
            "SELECT id, path FROM files WHERE volume_id = ? AND state = 'present'", (volume_id,)
        )
        for file_id, relative in rows:
            path = volume.absolute(relative)
            if path.startswith(folders) and path not in existing_paths and is_missing(path):
                gone.append((volume, path, file_id))
    # a root or volume that went away during the search took its files along: check again
    volumes = Volumes()
    remaining_folders = tuple(folder for root, folder in folder_by_root.items() if os.path.isdir(root))
    mounted = {volume for volume in {volume for volume, *_ in gone} if volumes.is_mounted(volume)}
    missing_ids = [
        (file_id,)
        for volume, path, file_id in gone
        if path.startswith(remaining_folders) and volume in mounted
    ]
    with library.transaction() as db:
        db.executemany("UPDATE files SET state = 'missing' WHERE id = ?", missing_ids)
    return len(missing_ids)


def mark_moved(library: LibraryWriter, contents: Iterable[int], volumes: Volumes) -> None:
    """Mark the old files of contents as missing that a scan just found at new paths, if the old files are gone."""
    gone_ids = []
    for content_id in contents:
        rows = library.connection.execute(
            "SELECT f.id, v.key, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id "
            "WHERE f.content_id = ? AND f.state = 'present'",
            (content_id,),
        ).fetchall()
        for file_id, key, mount, path in rows:
            volume = Volume(key, mount)
            if is_missing(volume.absolute(path)) and volumes.is_mounted(volume):
                gone_ids.append((file_id,))
    with library.transaction() as db:
        db.executemany("UPDATE files SET state = 'missing' WHERE id = ?", gone_ids)


def is_missing(path: bytes) -> bool:
    """Whether there is certainly no file to read: it is gone, or it is a link to one that is not there now."""
    return _is_absent(os.stat, path)


def is_gone(path: bytes) -> bool:
    """Whether there is certainly no file and no link; in an unreadable folder there may still be one."""
    return _is_absent(os.lstat, path)


def _is_absent(read: Callable[[bytes], object], path: bytes) -> bool:
    try:
        ask_in_time(read, path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
