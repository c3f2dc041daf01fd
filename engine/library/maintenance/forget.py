"""Removes all rows of files, contents and models that a person wants to forget; annotations only on request."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.annotation_log import remove_annotations
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import feature_cache, heads
from vtag.engine.library.store.duplicates import with_duplicates
from vtag.engine.library.store.volumes import real_path
from vtag.engine.text import display_path, pluralize

# beside the library; each picture's name begins with its content's key
THUMBNAIL_FOLDER = "thumbnails"


@dataclass(frozen=True)
class ForgetPlan:
    """What `forget` would remove: ids of rows, and the number of annotations."""

    files: tuple[int, ...]
    contents: tuple[int, ...]  # that no other file has
    roots: tuple[int, ...]
    annotations: int


def plan_forget(library: LibraryWriter, path: bytes) -> ForgetPlan:
    """Plan to forget the files at or below `path`, which need not exist. Raises LibraryError if there are no rows."""
    paths = {real_path(path), os.path.realpath(path)}
    db = library.connection
    files = _ids_below(
        db, paths, "SELECT f.id, v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id"
    )
    if not files:
        raise LibraryError(f"nothing is known of {display_path(path)}")
    roots = _ids_below(
        db, paths, "SELECT r.id, v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id"
    )
    return _plan(db, files, roots)


def plan_forget_contents(library: LibraryWriter, content_ids: Collection[int]) -> ForgetPlan:
    """Plan to forget contents with all their files. Raises LibraryError if there are none."""
    db = library.connection
    files = tuple(
        row[0]
        for row in db.execute(
            "SELECT id FROM files WHERE content_id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(content_ids)),),
        )
    )
    if not files:
        raise LibraryError("these videos are gone from the library already")
    return _plan(db, files, ())


def _plan(db: sqlite3.Connection, files: tuple[int, ...], roots: tuple[int, ...]) -> ForgetPlan:
    files_by_content: dict[int, set[int]] = {}
    for content, file in db.execute("SELECT content_id, id FROM files"):
        files_by_content.setdefault(content, set()).add(file)
    planned = set(files)
    contents = tuple(content for content, file_ids in files_by_content.items() if file_ids <= planned)
    annotation_count = sum(
        db.execute("SELECT count(*) FROM words WHERE content_id = ?", (content,)).fetchone()[0]
        for content in contents
    )
    return ForgetPlan(files, contents, roots, annotation_count)


def forget(library: LibraryWriter, plan: ForgetPlan, *, with_annotations: bool = False) -> None:
    """Remove the planned files and contents with their segments, observations and thumbnails.

    Raises LibraryError if annotations would be lost, unless `with_annotations`.
    """
    refuse_annotation_loss(plan, is_confirmed=with_annotations)
    with library.transaction() as db:
        if plan.annotations:
            remove_annotations(library, plan.contents)
        db.executemany("DELETE FROM files WHERE id = ?", _as_rows(plan.files))
        db.executemany("DELETE FROM roots WHERE id = ?", _as_rows(plan.roots))
    remove_contents(library, plan.contents)


def forget_model(library: LibraryWriter, model_id: int) -> int:
    """Remove a model and its segments, and return how many; observations and annotations stay."""
    with library.transaction() as db:
        segment_count = db.execute(
            "SELECT count(*) FROM sure_segments WHERE model_id = ?", (model_id,)
        ).fetchone()[0]
        db.execute("DELETE FROM models WHERE id = ?", (model_id,))  # its segments and derivations go with it
        db.execute("DELETE FROM settings WHERE key = 'model' AND value = ?", (str(model_id),))
        for (content_id,) in db.execute("SELECT DISTINCT content_id FROM words").fetchall():
            for same_id in with_duplicates(db, content_id):
                apply_annotations(library, same_id)  # a confirmed moment stays without the model, too
    return int(segment_count)


def forget_replaced_models(library: LibraryWriter, model_id: int) -> None:
    """Remove the earlier versions of a model that a person taught again; it becomes the library's if they were."""
    with library.transaction():
        used_id = heads.library_model(library)
        for old_id in heads.replaced_models(library, model_id):
            forget_model(library, old_id)
            if old_id == used_id:
                heads.use_model(library, model_id)


def remove_contents(library: LibraryWriter, contents: Sequence[int]) -> None:
    """Remove contents with their segments and observations; an annotated content keeps its row.

    One that a scan has found in a file meanwhile stays.
    """
    keys = []
    with library.transaction() as db:
        for content in contents:
            if db.execute("SELECT 1 FROM files WHERE content_id = ?", (content,)).fetchone():
                continue
            keys += db.execute("SELECT key FROM contents WHERE id = ?", (content,)).fetchall()
            db.execute("DELETE FROM segments WHERE content_id = ? AND model_id IS NOT NULL", (content,))
            db.execute("DELETE FROM derivations WHERE content_id = ?", (content,))
            if db.execute("SELECT 1 FROM words WHERE content_id = ?", (content,)).fetchone():
                apply_annotations(library, content)
            else:
                db.execute("DELETE FROM contents WHERE id = ?", (content,))
    # last, and outside of the transaction: observations can be computed again
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.executemany("DELETE FROM observations WHERE content_key = ?", keys)
    library.observations.commit()
    if keys:
        feature_cache.delete_cache(library.path)
    _remove_thumbnails(library.path.parent / THUMBNAIL_FOLDER, {key for (key,) in keys})


def refuse_annotation_loss(plan: ForgetPlan, *, is_confirmed: bool) -> None:
    """Raise LibraryError if annotations would be lost and the loss is not confirmed."""
    if plan.annotations and not is_confirmed:
        raise LibraryError(
            f"this would remove {pluralize(plan.annotations, 'annotation')} of yours: add --words to forget them, too"
        )


def _ids_below(db: sqlite3.Connection, paths: set[bytes], query: str) -> tuple[int, ...]:
    """Ids of the rows of `query` (id, mount, relative path) that are at or below one of `paths`."""
    folders = tuple(os.path.join(path, b"") for path in paths)
    ids = []
    for row_id, mount, relative in db.execute(query):
        path = os.path.join(mount, relative)
        if path in paths or path.startswith(folders):
            ids.append(row_id)
    return tuple(ids)


def _as_rows(ids: Sequence[int]) -> list[tuple[int]]:
    return [(row_id,) for row_id in ids]


def _remove_thumbnails(folder: Path, keys: set[str]) -> None:
    with contextlib.suppress(OSError):
        for file in folder.iterdir():
            if file.name.split(".")[0].split("_")[0] in keys:
                file.unlink(missing_ok=True)
