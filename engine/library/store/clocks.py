"""The clocks of contents, as scans stored them: how the library's times relate to those of players and editors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from vtag.engine.library.database import LibraryWriter
from vtag.engine.video_clock import VideoClock


def find_clock(reader: sqlite3.Connection, content_id: int) -> VideoClock | None:
    """The clock of a content; None if it was scanned by an older vtag, or not yet."""
    row = reader.execute("SELECT clock FROM contents WHERE id = ?", (content_id,)).fetchone()
    return VideoClock.from_json(row[0]) if row and row[0] else None


def content_clock(reader: sqlite3.Connection, content_id: int) -> VideoClock:
    """The clock of a content; one that begins with the first picture if none is stored."""
    clock = find_clock(reader, content_id)
    if clock is not None:
        return clock
    row = reader.execute("SELECT frame_rate FROM contents WHERE id = ?", (content_id,)).fetchone()
    return VideoClock.assumed(row[0] if row else None)


def clock_of_key(reader: sqlite3.Connection, key: str) -> VideoClock:
    """The clock of the content with this key, as `content_clock` returns it."""
    row = reader.execute("SELECT id FROM contents WHERE key = ?", (key,)).fetchone()
    return content_clock(reader, row[0] if row else 0)


def contents_without_clock(reader: sqlite3.Connection, content_ids: Iterable[int]) -> list[int]:
    """Those of the contents whose clock is not stored, although they could be read."""
    missing = {
        row[0] for row in reader.execute("SELECT id FROM contents WHERE clock IS NULL AND error IS NULL")
    }
    return [content_id for content_id in dict.fromkeys(content_ids) if content_id in missing]


def save_clock(library: LibraryWriter, content_id: int, clock: VideoClock) -> None:
    """Store the clock of a content."""
    with library.transaction() as db:
        db.execute("UPDATE contents SET clock = ? WHERE id = ?", (clock.to_json(), content_id))
