"""Forgets files: all that is known of them, but never silently what a person said."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.annotation_log import remove_annotations
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import Library
from vtag.engine.library.store import feature_cache, heads
from vtag.engine.library.store.duplicates import with_duplicates
from vtag.engine.library.store.volumes import real_path
from vtag.engine.text import display_path

# beside the library; each picture's name begins with its content's key
THUMBNAIL_FOLDER = "thumbnails"


@dataclass(frozen=True)
class ForgetPlan:
    """What forgetting a path would remove: ids, and how much a person said of it."""

    files: tuple[int, ...]
    contents: tuple[int, ...]  # that no other file holds
    roots: tuple[int, ...]
    annotations: int


def plan_forget(library: Library, path: bytes) -> ForgetPlan:
    """What is known at or below `path`, which may be gone already. Raises LibraryError where nothing is."""
    places = {real_path(path), os.path.realpath(path)}
    db = library.connection
    files = _below(
        db, places, "SELECT f.id, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id"
    )
    if not files:
        raise LibraryError(f"nothing is known of {display_path(path)}")
    roots = _below(
        db, places, "SELECT r.id, v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id"
    )
    chosen = set(files)
    holders: dict[int, set[int]] = {}
    for content, file in db.execute("SELECT content_id, id FROM files"):
        holders.setdefault(content, set()).add(file)
    contents = tuple(content for content, held_by in holders.items() if held_by <= chosen)
    words = sum(
        db.execute("SELECT count(*) FROM words WHERE content_id = ?", (content,)).fetchone()[0]
        for content in contents
    )
    return ForgetPlan(files, contents, roots, words)


def forget(library: Library, plan: ForgetPlan, *, with_annotations: bool = False) -> None:
    """Remove files, contents, segments, observations and thumbnails; a content that lies elsewhere too stays.

    Raises LibraryError where a person said something of it, unless `words` tells to remove that as well.
    """
    refuse_annotation_loss(plan, is_confirmed=with_annotations)
    with library.transaction() as db:
        if plan.annotations:
            remove_annotations(library, plan.contents)
        db.executemany("DELETE FROM files WHERE id = ?", _each(plan.files))
        db.executemany("DELETE FROM roots WHERE id = ?", _each(plan.roots))
    remove_contents(library, plan.contents)


def forget_model(library: Library, model_id: int) -> int:
    """Remove what a model said and nothing else: neither what was seen nor what a person said. How many moments."""
    with library.transaction() as db:
        said = db.execute("SELECT count(*) FROM segments WHERE model_id = ?", (model_id,)).fetchone()[0]
        db.execute("DELETE FROM models WHERE id = ?", (model_id,))  # its segments and derivations go with it
        db.execute("DELETE FROM settings WHERE key = 'model' AND value = ?", (str(model_id),))
        for (content_id,) in db.execute("SELECT DISTINCT content_id FROM words").fetchall():
            for twin in with_duplicates(db, content_id):
                apply_annotations(library, twin)  # what a person confirmed is there without it, too
    return int(said)


def forget_replaced_models(library: Library, model_id: int) -> None:
    """Remove what a person's own model said before it was taught anew; where it was the library's, the new one is."""
    with library.transaction():
        in_use = heads.library_model(library)
        for old in heads.replaced_models(library, model_id):
            forget_model(library, old)
            if old == in_use:
                heads.use_model(library, model_id)


def remove_contents(library: Library, contents: Sequence[int]) -> None:
    """Remove what was seen and found in contents; one of which a person spoke stays to hold the words."""
    keys = []
    with library.transaction() as db:
        for content in contents:
            keys += db.execute("SELECT key FROM contents WHERE id = ?", (content,)).fetchall()
            db.execute("DELETE FROM segments WHERE content_id = ? AND model_id IS NOT NULL", (content,))
            db.execute("DELETE FROM derivations WHERE content_id = ?", (content,))
            if db.execute("SELECT 1 FROM words WHERE content_id = ?", (content,)).fetchone():
                apply_annotations(library, content)
            else:
                db.execute("DELETE FROM contents WHERE id = ?", (content,))
    # after the library has let go of them: what can be made again is lost last
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.executemany("DELETE FROM observations WHERE content_key = ?", keys)
    library.observations.commit()
    if keys:
        feature_cache.delete_cache(library.path)
    _remove_thumbnails(library.path.parent / THUMBNAIL_FOLDER, {key for (key,) in keys})


def refuse_annotation_loss(plan: ForgetPlan, *, is_confirmed: bool) -> None:
    """Raise LibraryError where a person's words would be lost and nobody told to."""
    if plan.annotations and not is_confirmed:
        raise LibraryError(
            f"you said {plan.annotations} {'word' if plan.annotations == 1 else 'words'} of it, which would be lost: "
            "say --words to forget them too"
        )


def _below(db: sqlite3.Connection, places: set[bytes], query: str) -> tuple[int, ...]:
    inside = tuple(os.path.join(place, b"") for place in places)
    found = []
    for row_id, mount, relative in db.execute(query):
        where = os.path.join(mount, relative)
        if where in places or where.startswith(inside):
            found.append(row_id)
    return tuple(found)


def _each(ids: Sequence[int]) -> list[tuple[int]]:
    return [(row_id,) for row_id in ids]


def _remove_thumbnails(folder: Path, keys: set[str]) -> None:
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file.name.split(".")[0].split("_")[0] in keys:
                file.unlink(missing_ok=True)
