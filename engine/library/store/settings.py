"""Settings of the library: texts by name."""

from __future__ import annotations

import sqlite3

from vtag.engine.library.database import Library


def read_setting(reader: sqlite3.Connection, name: str) -> str | None:
    """The setting `name`, None if it was never kept."""
    row = reader.execute("SELECT value FROM settings WHERE key = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def save_setting(library: Library, name: str, value: str) -> None:
    """Keep a setting in the place of what it was."""
    with library.transaction() as db:
        db.execute("INSERT OR REPLACE INTO settings (key, value) VALUES (?, ?)", (name, value))
