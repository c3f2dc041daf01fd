"""Contents with the same video although their bytes differ: the same video packets in a rewritten container."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from vtag.engine.library.store import observations

if TYPE_CHECKING:
    from vtag.engine.library.database import LibraryWriter

_LENGTH_TOLERANCE_MS = 100  # containers round times differently


def packets_keys(library: LibraryWriter) -> set[str]:
    """The packets keys of all contents that have one."""
    rows = library.connection.execute("SELECT packets_key FROM contents WHERE packets_key IS NOT NULL")
    return {row[0] for row in rows}


def find_duplicate(
    library: LibraryWriter, packets: str, shown_as: str, duration_ms: int, backbone_hash: str, sampling: str
) -> str | None:
    """The key of an observed content with the same packets, shown the same way and as long; None without one."""
    rows = library.connection.execute(
        "SELECT key FROM contents WHERE packets_key = ? AND shown_as = ? AND abs(duration_ms - ?) <= ? "
        "AND error IS NULL",
        (packets, shown_as, duration_ms, _LENGTH_TOLERANCE_MS),
    ).fetchall()
    for (key,) in rows:
        if observations.get(library, key, backbone_hash, sampling) is not None:
            return str(key)
    return None


def with_duplicates(db: sqlite3.Connection, content_id: int) -> list[int]:
    """The ids of a content and of those with the same video packets and duration, sorted."""
    rows = db.execute(
        "SELECT b.id FROM contents a JOIN contents b ON b.packets_key = a.packets_key "
        "AND abs(coalesce(b.duration_ms, a.duration_ms, 0) - coalesce(a.duration_ms, b.duration_ms, 0)) <= ? "
        "WHERE a.id = ? AND b.id <> a.id",
        (_LENGTH_TOLERANCE_MS, content_id),
    )
    return sorted({content_id, *(row[0] for row in rows)})


def is_same_range(start_ms: int, end_ms: int, other_start_ms: int, other_end_ms: int) -> bool:
    """Whether a range of one content is that of its duplicate, whose times are rounded differently."""
    return (
        abs(start_ms - other_start_ms) <= _LENGTH_TOLERANCE_MS
        and abs(end_ms - other_end_ms) <= _LENGTH_TOLERANCE_MS
    )
