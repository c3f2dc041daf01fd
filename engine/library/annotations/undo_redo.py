"""Undo and redo of the changes in the log of annotations."""

from __future__ import annotations

import sqlite3

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.annotation_log import (
    AnnotationChange,
    next_time,
    read_changes,
    replace_annotations,
)
from vtag.engine.library.database import LibraryWriter


def undo(library: LibraryWriter, change_id: int | None = None) -> AnnotationChange:
    """Undo the latest change that was not undone yet.

    Raises LibraryError if there is none, or if it is not `change_id`: another person or program changed something.
    """
    with library.transaction() as db:
        change = _expected_change(undoable_change(db), change_id, "undo")
        replace_annotations(library, old=change.after, new=change.before)
        db.execute("UPDATE word_log SET undone_at = ? WHERE id = ?", (next_time(db), change.id))
    return change


def redo(library: LibraryWriter, change_id: int | None = None) -> AnnotationChange:
    """Make the change again that was undone last. Raises LibraryError as `undo` does."""
    with library.transaction() as db:
        change = _expected_change(redoable_change(db), change_id, "redo")
        replace_annotations(library, old=change.before, new=change.after)
        db.execute("UPDATE word_log SET undone_at = NULL WHERE id = ?", (change.id,))
    return change


def undoable_change(reader: sqlite3.Connection) -> AnnotationChange | None:
    """The change that `undo` takes back: the latest that was not undone yet; None if there is none."""
    return next(iter(read_changes(reader, "WHERE undone_at IS NULL ORDER BY id DESC LIMIT 1")), None)


def redoable_change(reader: sqlite3.Connection) -> AnnotationChange | None:
    """The change that `redo` makes again: the one that was undone last, unless something was changed since."""
    is_later = "WHERE id > (SELECT coalesce(max(id), 0) FROM word_log WHERE undone_at IS NULL)"
    return next(iter(read_changes(reader, f"{is_later} ORDER BY undone_at DESC, id LIMIT 1")), None)


def _expected_change(change: AnnotationChange | None, change_id: int | None, action: str) -> AnnotationChange:
    if change is None:
        raise LibraryError(f"there is nothing to {action}")
    if change_id not in (None, change.id):
        raise LibraryError("something else was changed meanwhile: look at what it is, and press again")
    return change
