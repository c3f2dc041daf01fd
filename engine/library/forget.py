"""Forgets files: all that is known of them, but never silently what a person said."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import Library
from vtag.engine.text import display_path


@dataclass(frozen=True)
class Forgettable:
    """What forgetting a path would remove."""

    files: tuple[int, ...]
    contents: tuple[int, ...]  # that no other file holds
    words: int


def look(library: Library, path: bytes) -> Forgettable:
    """What is known at or below `path` (absolute). Raises LibraryError where nothing is."""
    inside = os.path.join(path, b"")
    files, held = [], set()
    for file_id, content_id, mount, relative in library.connection.execute(
        "SELECT f.id, f.content_id, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id"
    ):
        where = os.path.join(mount, relative)
        if where == path or where.startswith(inside):
            files.append(file_id)
            held.add(content_id)
    if not files:
        raise LibraryError(f"nothing is known of {display_path(path)}")
    chosen = set(files)
    contents = [
        content
        for content in sorted(held)
        if all(
            row[0] in chosen
            for row in library.connection.execute("SELECT id FROM files WHERE content_id = ?", (content,))
        )
    ]
    words = sum(
        library.connection.execute("SELECT count(*) FROM words WHERE content_id = ?", (c,)).fetchone()[0]
        for c in contents
    )
    return Forgettable(tuple(files), tuple(contents), words)


def forget(library: Library, what: Forgettable) -> None:
    """Remove files, contents, segments, observations and words; a content that lies elsewhere too stays."""
    with library.transaction() as db:
        db.executemany("DELETE FROM files WHERE id = ?", [(f,) for f in what.files])
        for content in what.contents:
            (key,) = db.execute("SELECT key FROM contents WHERE id = ?", (content,)).fetchone()
            library.observations.execute("DELETE FROM observations WHERE content_key = ?", (key,))
            db.execute("DELETE FROM segments WHERE content_id = ?", (content,))
            db.execute("DELETE FROM words WHERE content_id = ?", (content,))
            db.execute("DELETE FROM contents WHERE id = ?", (content,))
        db.execute(
            "DELETE FROM roots WHERE NOT EXISTS (SELECT 1 FROM files WHERE volume_id = roots.volume_id)"
        )
