"""How much of each content a scan has covered; a coarse pass leaves gaps that later passes fill."""

from __future__ import annotations

import sqlite3
from typing import NamedTuple

from vtag.engine.library.database import LibraryWriter


class Coverage(NamedTuple):
    """The number of partly covered videos, and their covered and total length."""

    videos: int
    seen_ms: int
    length_ms: int


def mark_partial(
    library: LibraryWriter, content_id: int, backbone_hash: str, sampling: str, seen_ms: int, length_ms: int
) -> None:
    """Record that a scan has covered `seen_ms` of the `length_ms` of a content."""
    with library.transaction() as db:
        db.execute(
            "INSERT OR REPLACE INTO unfinished (content_id, backbone_hash, sampling, seen_ms, length_ms) "
            "VALUES (?, ?, ?, ?, ?)",
            (content_id, backbone_hash, sampling, seen_ms, length_ms),
        )


def mark_complete(library: LibraryWriter, content_id: int, backbone_hash: str, sampling: str) -> None:
    """Record that a scan has covered all of a content."""
    with library.transaction() as db:
        db.execute(
            "DELETE FROM unfinished WHERE content_id = ? AND backbone_hash = ? AND sampling = ?",
            (content_id, backbone_hash, sampling),
        )


def partial_contents(library: LibraryWriter, backbone_hash: str, sampling: str) -> set[int]:
    """Ids of the contents that are covered only in part with this backbone and sampling."""
    rows = library.connection.execute(
        "SELECT content_id FROM unfinished WHERE backbone_hash = ? AND sampling = ?",
        (backbone_hash, sampling),
    )
    return {content_id for (content_id,) in rows}


def is_partial(library: LibraryWriter, content_id: int, backbone_hash: str, sampling: str) -> bool:
    """Whether a content is covered only in part with this backbone and sampling."""
    row = library.connection.execute(
        "SELECT EXISTS (SELECT 1 FROM unfinished WHERE content_id = ? AND backbone_hash = ? AND sampling = ?)",
        (content_id, backbone_hash, sampling),
    ).fetchone()
    return bool(row[0])


def copy_partial(library: LibraryWriter, content_id: int, to_id: int) -> None:
    """Record that a content with copied observations is covered in part where the other is."""
    with library.transaction() as db:
        db.execute(
            "INSERT OR IGNORE INTO unfinished (content_id, backbone_hash, sampling, seen_ms, length_ms) "
            "SELECT ?, backbone_hash, sampling, seen_ms, length_ms FROM unfinished WHERE content_id = ?",
            (to_id, content_id),
        )


def partial_coverage(reader: sqlite3.Connection) -> Coverage | None:
    """The coverage of the present videos that are covered only in part; None if there are none.

    A content whose segments come from another sampling or backbone, which covers it, does not count.
    """
    row = reader.execute(
        "SELECT count(*), sum(u.seen_ms), sum(u.length_ms) FROM unfinished u "
        "WHERE EXISTS (SELECT 1 FROM files f WHERE f.content_id = u.content_id AND f.state = 'present') "
        "AND EXISTS (SELECT 1 FROM derivations d JOIN models m ON m.id = d.model_id WHERE "
        "d.content_id = u.content_id AND d.sampling = u.sampling AND m.backbone_hash = u.backbone_hash)"
    ).fetchone()
    return Coverage(*row) if row[0] else None
