"""Settings of the library: a text for each name."""

from __future__ import annotations

import sqlite3

from vtag.engine.library.database import LibraryWriter


def read_setting(reader: sqlite3.Connection, name: str) -> str | None:
    """The value of the setting `name`, None if it was never saved."""
    row = reader.execute("SELECT value FROM settings WHERE key = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def save_setting(library: LibraryWriter, name: str, value: str) -> None:
    """Save a setting, in place of an earlier value."""
    with library.transaction() as db:
        db.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (name, value))
