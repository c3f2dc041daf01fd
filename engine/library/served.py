"""What a page may show of the library: moments and videos by id, and of files only those below its roots."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import NamedTuple


class Video(NamedTuple):
    """A content with a file of it that is there now and lies below a root; `path` is None where there is none."""

    id: int
    key: str
    path: bytes | None
    display: str
    duration_ms: int
    codec: str
    container: str
    recorded_at: str | None


class Count(NamedTuple):
    """How much a library holds."""

    videos: int
    video_ms: int
    moments: int
    failed: int


def video(reader: sqlite3.Connection, content_id: int) -> Video | None:
    """The video with this id, None where the library knows none."""
    row = reader.execute(
        "SELECT key, coalesce(duration_ms, 0), coalesce(codec, ''), coalesce(container, ''), recorded_at "
        "FROM contents WHERE id = ?",
        (content_id,),
    ).fetchone()
    if row is None:
        return None
    path, display = _file(reader, content_id)
    return Video(content_id, row[0], path, display, *row[1:])


def content_of_moment(reader: sqlite3.Connection, moment_id: int) -> tuple[int, int, int] | None:
    """Content id, start_ms and end_ms of a moment; None where there is none (ids are never used twice)."""
    row = reader.execute(
        "SELECT content_id, start_ms, end_ms FROM segments WHERE id = ?", (moment_id,)
    ).fetchone()
    return (row[0], row[1], row[2]) if row else None


def count(reader: sqlite3.Connection) -> Count:
    """Videos that were seen, their length, what was found in them, and how many could not be read."""
    videos, length = reader.execute(
        "SELECT count(*), coalesce(sum(duration_ms), 0) FROM contents WHERE error IS NULL "
        "AND EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)"
    ).fetchone()
    moments = reader.execute("SELECT count(*) FROM segments WHERE verdict IS NOT 'rejected'").fetchone()[0]
    failed = reader.execute("SELECT count(*) FROM contents WHERE error IS NOT NULL").fetchone()[0]
    return Count(videos, length, moments, failed)


def is_empty(reader: sqlite3.Connection) -> bool:
    """Whether no video was ever seen."""
    return reader.execute("SELECT 1 FROM contents LIMIT 1").fetchone() is None


def failures(reader: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    """Display path and reason of the videos that could not be read, the latest first."""
    rows = reader.execute(
        "SELECT f.display, c.error FROM contents c JOIN files f ON f.content_id = c.id "
        "WHERE c.error IS NOT NULL ORDER BY c.error_at DESC, f.id LIMIT ?",
        (limit,),
    )
    return list(rows)


def roots(reader: sqlite3.Connection) -> list[bytes]:
    """Absolute paths of the folders and files that scans were pointed at."""
    rows = reader.execute("SELECT v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id")
    return [os.path.normpath(os.path.join(mount, path)) for mount, path in rows]


def _file(reader: sqlite3.Connection, content_id: int) -> tuple[bytes | None, str]:
    rows = reader.execute(
        "SELECT v.mount, f.path, f.display FROM files f JOIN volumes v ON v.id = f.volume_id "
        "WHERE f.content_id = ? ORDER BY f.state DESC, f.id",
        (content_id,),
    ).fetchall()
    below = [os.path.realpath(root) for root in roots(reader)]
    for mount, path, display in rows:
        real = os.path.realpath(os.path.join(mount, path))  # a link must not lead out of the roots
        if any(real == root or real.startswith(os.path.join(root, b"")) for root in below) and _is_file(real):
            return real, display
    return None, rows[0][2] if rows else "a video that is gone"


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
