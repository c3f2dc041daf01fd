"""Identity: what a file holds (its content key), on which volume it lies, and which files are known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from vtag.engine.library.database import Library, now
from vtag.engine.text import display_path

_BLOCK = 64 * 1024
_BETWEEN = 16  # blocks between head and tail


def content_key(path: bytes) -> str:
    """What a file holds, as text: its size and a hash of blocks at head, tail and sixteen places between.

    A file of at most eighteen blocks (1.2 MB) is hashed whole. Raises OSError where it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size <= (_BETWEEN + 2) * _BLOCK:
            while block := file.read(_BLOCK):
                digest.update(block)
        else:
            last = size - _BLOCK
            for i in range(_BETWEEN + 2):
                file.seek(last * i // (_BETWEEN + 1))
                digest.update(file.read(_BLOCK))
    return f"{size}-{digest.hexdigest()}"


@dataclass(frozen=True)
class Volume:
    """A mounted file system: `key` stays when it is mounted elsewhere, where the system tells."""

    key: str
    mount: bytes

    def relative(self, path: bytes) -> bytes:
        """`path` (absolute) below the mount point."""
        return os.path.relpath(path, self.mount) if self.mount != b"/" else path[1:]


class Volumes:
    """The volumes of paths, each file system asked once."""

    def __init__(self) -> None:
        self._by_device: dict[tuple[int, bytes], Volume] = {}
        self._by_folder: dict[bytes, Volume] = {}
        self._uuids = _device_uuids()

    def of(self, path: bytes) -> Volume:
        """The volume that holds `path` (absolute)."""
        folder = os.path.dirname(path)
        if folder not in self._by_folder:
            mount = _mount_point(folder)
            device = os.stat(mount).st_dev
            name = self._uuids.get(device)
            key = f"uuid:{name}" if name else f"mount:{display_path(mount)}"
            self._by_folder[folder] = self._by_device.setdefault((device, mount), Volume(key, mount))
        return self._by_folder[folder]


def _mount_point(folder: bytes) -> bytes:
    """The topmost folder on the same device as `folder`, by its real path's parents."""
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    device = os.stat(folder).st_dev
    while (parent := os.path.dirname(folder)) != folder and os.stat(parent).st_dev == device:
        folder = parent
    return folder


def _device_uuids() -> dict[int, str]:
    """Device numbers to file system UUIDs, where the system lists them (Linux)."""
    try:
        return {os.stat(entry.path).st_rdev: entry.name for entry in os.scandir("/dev/disk/by-uuid")}
    except OSError:
        return {}


class KnownFile(NamedTuple):
    """A file as the library remembers it."""

    size_bytes: int
    mtime_ns: int
    state: str
    content_id: int
    content_key: str
    content_error: str | None


class Content(NamedTuple):
    """A content as the library remembers it."""

    id: int
    error: str | None
    duration_ms: int | None


class FileFacts(Protocol):
    """What a folder listing tells of a file."""

    @property
    def path(self) -> bytes: ...  # absolute
    @property
    def size_bytes(self) -> int: ...
    @property
    def mtime_ns(self) -> int: ...
    @property
    def inode(self) -> int: ...


def known_files(library: Library, volume: Volume) -> dict[bytes, KnownFile]:
    """All known files of a volume by their path below its mount point."""
    rows = library.connection.execute(
        """
        SELECT f.path, f.size_bytes, f.mtime_ns, f.state, c.id, c.key, c.error
        FROM files f JOIN volumes v ON v.id = f.volume_id JOIN contents c ON c.id = f.content_id WHERE v.key = ?
        """,
        (volume.key,),
    )
    return {row[0]: KnownFile(*row[1:]) for row in rows}


def content_by_key(library: Library, key: str) -> Content | None:
    """The content with this key, if it is known."""
    row = library.connection.execute(
        "SELECT id, error, duration_ms FROM contents WHERE key = ?", (key,)
    ).fetchone()
    return Content(*row) if row else None


def keep_content(library: Library, key: str, facts: dict[str, object]) -> int:
    """Write down what is known of a content (a column each) and return its id."""
    size = int(key.split("-")[0])
    with library.transaction() as db:
        db.execute(
            "INSERT INTO contents (key, size_bytes, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (key, size, now()),
        )
        columns = ", ".join(f"{name} = :{name}" for name in facts)
        if columns:
            db.execute(f"UPDATE contents SET {columns} WHERE key = :key", {**facts, "key": key})
        return int(db.execute("SELECT id FROM contents WHERE key = ?", (key,)).fetchone()[0])


def record_file(library: Library, volume: Volume, found: FileFacts, content_id: int) -> None:
    """Write down that a path holds a content; what it held before stays known by itself."""
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
                volume.relative(found.path),
                display_path(found.path),
                found.size_bytes,
                found.mtime_ns,
                _signed(found.inode),
                content_id,
                now(),
                volume.key,
            ),
        )


def add_roots(library: Library, roots: Iterable[bytes]) -> None:
    """Remember what was scanned."""
    volumes = Volumes()
    with library.transaction() as db:
        for root in roots:
            volume = volumes.of(root)
            db.execute(
                "INSERT INTO volumes (key, mount, display) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (volume.key, volume.mount, display_path(volume.mount)),
            )
            db.execute(
                "INSERT INTO roots (volume_id, path, display, added_at) "
                "SELECT id, ?, ?, ? FROM volumes WHERE key = ? ON CONFLICT DO NOTHING",
                (volume.relative(root), display_path(root), now(), volume.key),
            )


def mark_missing(library: Library, roots: Iterable[bytes], seen: set[bytes]) -> int:
    """Files below scanned folders that were not `seen` (absolute paths) and are gone: marked, never deleted.

    A root that itself is gone marks nothing: a disk that was unplugged is no deletion.
    """
    volumes = Volumes()
    gone = []
    for root in roots:
        if not os.path.isdir(root):
            continue
        volume = volumes.of(root + b"/x")
        prefix = os.path.join(root, b"")
        for relative, known in known_files(library, volume).items():
            path = os.path.join(volume.mount, relative)
            if (
                known.state == "present"
                and path.startswith(prefix)
                and path not in seen
                and not os.path.lexists(path)
            ):
                gone.append((volume.key, relative))
    with library.transaction() as db:
        db.executemany(
            "UPDATE files SET state = 'missing' WHERE path = ?2 "
            "AND volume_id = (SELECT id FROM volumes WHERE key = ?1)",
            gone,
        )
    return len(gone)


def _signed(inode: int) -> int:
    """SQLite's integers are signed; some file systems number with all 64 bits."""
    return inode - 2**64 if inode >= 2**63 else inode


def absolute(mount: bytes, relative: bytes) -> Path:
    """A stored path as the system takes it."""
    return Path(os.fsdecode(os.path.join(mount, relative)))
