"""Contents that show the same although their bytes differ: the same video packets in a rewritten container."""

from __future__ import annotations

import sqlite3

_SAME_LENGTH_MS = 100  # containers round times in their own ways


def twins(db: sqlite3.Connection, content_id: int) -> list[int]:
    """A content and those with the same video packets and duration, by id."""
    rows = db.execute(
        "SELECT b.id FROM contents a JOIN contents b ON b.packets_key = a.packets_key "
        "AND abs(coalesce(b.duration_ms, a.duration_ms, 0) - coalesce(a.duration_ms, b.duration_ms, 0)) <= ? "
        "WHERE a.id = ? AND b.id <> a.id",
        (_SAME_LENGTH_MS, content_id),
    )
    return sorted({content_id, *(row[0] for row in rows)})
