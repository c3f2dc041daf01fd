"""Finds the content of a file: by its path, or by its bytes if it was moved."""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.store.files import content_key
from vtag.engine.library.store.volumes import real_path
from vtag.engine.text import display_path


class ContentSummary(NamedTuple):
    """A content, its length, why it could not be read, if so, and its key."""

    id: int
    duration_ms: int | None
    error: str | None
    key: str


def content_at_path(reader: sqlite3.Connection, path: bytes) -> ContentSummary | None:
    """The content that the last scan found in the file at `path`, None if no scan found the file."""
    real = real_path(path)
    volumes = reader.execute("SELECT id, mount FROM volumes").fetchall()
    for volume_id, mount in sorted(volumes, key=lambda row: -len(row[1])):  # the innermost mount first
        prefix = os.path.join(mount, b"")
        if real.startswith(prefix):
            row = reader.execute(
                "SELECT c.id, c.duration_ms, c.error, c.key FROM files f JOIN contents c ON c.id = f.content_id "
                "WHERE f.volume_id = ? AND f.path = ?",
                (volume_id, real[len(prefix) :]),
            ).fetchone()
            if row:
                return ContentSummary(*row)
    return None


def content_with_key(reader: sqlite3.Connection, key: str) -> ContentSummary | None:
    """The content with this key, whatever its files are, None if there is none."""
    row = reader.execute("SELECT id, duration_ms, error, key FROM contents WHERE key = ?", (key,)).fetchone()
    return ContentSummary(*row) if row else None


def find_content(reader: sqlite3.Connection, path: bytes) -> ContentSummary | None:
    """The content of the file at `path`: by the path if a scan found it there, else by the file's bytes."""
    content = content_at_path(reader, path)
    if content is None and os.path.isfile(path):
        with suppress(OSError):
            content = content_with_key(reader, content_key(path))
    return content


def require_content(reader: sqlite3.Connection, path: bytes) -> ContentSummary:
    """As `find_content`. Raises LibraryError if the library does not know the file."""
    content = find_content(reader, path)
    if content is None:
        if os.path.isdir(path):
            raise LibraryError(f"{display_path(path)} is a folder: name one video of it")
        if not os.path.lexists(path):
            raise LibraryError(
                f"{display_path(path)} is neither in the library nor on the disk: name another file"
            )
        raise LibraryError(f"{display_path(path)} was not scanned: `vtag scan` looks at it")
    return content
