"""Removes rows of files that are gone, and moves rows of a folder that is elsewhere now."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.forget import remove_contents
from vtag.engine.library.store.files import is_gone
from vtag.engine.library.store.volumes import Volume, Volumes, real_path
from vtag.engine.text import display_path, pluralize


@dataclass(frozen=True)
class CleanPlan:
    """What `clean` would remove, and what it would leave."""

    files: tuple[tuple[int, str], ...]  # id and path for display
    contents: tuple[int, ...]  # without any file left; annotated ones keep their row and their annotations
    annotations: int  # of those contents; they stay
    stale_observations: int  # of no content, or of a backbone that no model has
    absent_roots: tuple[tuple[str, int], ...]  # roots without any file, and how many files of each stay


@dataclass(frozen=True)
class _CheckedFile:
    id: int
    content_id: int
    path: bytes
    display: str
    is_missing: bool


def plan_clean(library: LibraryWriter) -> CleanPlan:
    """Plan to remove the files that are certainly gone: on a mounted volume, below a root that is not absent.

    A root is absent if it is gone or has lost all of its files at once: its disk may be unplugged.
    """
    volumes = Volumes()
    files = _stored_files(library, volumes)
    absent_roots = _absent_roots(library, volumes, files)
    removed, left_counts = _split_missing(files, absent_roots)
    removed_ids = {file.id for file in removed}
    remaining_contents = {file.content_id for file in files if file.id not in removed_ids}
    annotation_counts = dict(
        library.connection.execute("SELECT content_id, count(*) FROM words GROUP BY content_id")
    )
    contents = [
        content
        for (content,) in library.connection.execute("SELECT id FROM contents").fetchall()
        if content not in remaining_contents
        and (content not in annotation_counts or _has_derivation(library, content))
    ]
    return CleanPlan(
        tuple((file.id, file.display) for file in removed),
        tuple(contents),
        sum(annotation_counts.get(content, 0) for content in contents),
        len(_stale_observations(library)),
        tuple((display_path(root), count) for root, count in left_counts.items() if count),
    )


def clean(library: LibraryWriter, plan: CleanPlan) -> None:
    """Remove what `plan_clean` found and what is still so; annotations stay.

    A person may take minutes to confirm the plan, and a file may come back and be scanned meanwhile.
    """
    current = plan_clean(library)
    file_ids = {file_id for file_id, _ in plan.files} & {file_id for file_id, _ in current.files}
    with library.transaction() as db:
        db.executemany("DELETE FROM files WHERE id = ?", [(file_id,) for file_id in file_ids])
    remove_contents(library, plan.contents)
    stale_ids = [(observation_id,) for observation_id in _stale_observations(library)]
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.executemany("DELETE FROM observations WHERE id = ?", stale_ids)
    library.observations.commit()


class RelocatePlan(NamedTuple):
    """Rows of files with their new paths, and how many of these files exist."""

    moves: tuple[tuple[int, bytes], ...]
    present: int


def plan_relocate(library: LibraryWriter, old: bytes, new: bytes) -> RelocatePlan:
    """Plan to move the rows of files below the folder `old` to `new`. Raises LibraryError as `relocate` does."""
    old, new = os.path.abspath(old), real_path(new)
    if not os.path.isdir(new):
        raise LibraryError(f"there is no folder {display_path(new)}")
    moves, present_count = [], 0
    for row_id, path, size in _rows_below(library, "files", "f.id, v.mount, f.path, f.size_bytes", old):
        target = _moved(path, old, new)
        moves.append((row_id, target))
        present_count += _file_size(target) == size
    if not moves:
        raise LibraryError(f"nothing is known below {display_path(old)}")
    if not present_count:
        raise LibraryError(
            f"not one of {pluralize(len(moves), 'file')} known below {display_path(old)} is in {display_path(new)}"
        )
    return RelocatePlan(tuple(moves), present_count)


def relocate(library: LibraryWriter, old: bytes, new: bytes) -> tuple[int, int]:
    """Move the rows of files below the folder `old` to `new`; returns how many, and how many files exist there.

    For a disk that came back under another name. Raises LibraryError if there are no rows below `old`, or none of
    their files is below `new`.
    """
    plan, volumes = plan_relocate(library, old, new), Volumes()
    old, new = os.path.abspath(old), real_path(new)
    with library.transaction():
        for row_id, target in plan.moves:
            _move(library, "files", row_id, target, volumes)
        for row_id, path, _ in _rows_below(library, "roots", "f.id, v.mount, f.path, 0", old):
            _move(library, "roots", row_id, _moved(path, old, new), volumes)
    return len(plan.moves), plan.present


def _stored_files(library: LibraryWriter, volumes: Volumes) -> list[_CheckedFile]:
    """All stored files; one on an unmounted volume is not missing."""
    rows = library.connection.execute(
        "SELECT f.id, f.content_id, v.key, v.mount, f.path, f.display FROM files f "
        "JOIN volumes v ON v.id = f.volume_id"
    ).fetchall()
    is_mounted: dict[str, bool] = {}
    files = []
    for file_id, content_id, key, mount, relative, display in rows:
        volume = Volume(key, mount)
        if key not in is_mounted:
            is_mounted[key] = volumes.is_mounted(volume)
        path = volume.absolute(relative)
        files.append(_CheckedFile(file_id, content_id, path, display, is_mounted[key] and is_gone(path)))
    return files


def _split_missing(
    files: Sequence[_CheckedFile], absent_roots: Sequence[bytes]
) -> tuple[list[_CheckedFile], dict[bytes, int]]:
    """The missing files to remove, and how many stay below each absent root."""
    present_contents = {file.content_id for file in files if not file.is_missing}
    removed: list[_CheckedFile] = []
    left_counts = dict.fromkeys(absent_roots, 0)
    for file in files:
        if not file.is_missing:
            continue
        root = next((root for root in absent_roots if _is_below(file.path, root)), None)
        if root is None or file.content_id in present_contents:  # a content that is elsewhere, too, was moved
            removed.append(file)
        else:
            left_counts[root] += 1
    return removed, left_counts


def _absent_roots(library: LibraryWriter, volumes: Volumes, files: Sequence[_CheckedFile]) -> list[bytes]:
    """Roots that do not exist, that are on an unmounted volume, or all of whose files are missing."""
    absent_roots = []
    rows = library.connection.execute(
        "SELECT v.key, v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id"
    ).fetchall()
    for key, mount, relative in rows:
        volume = Volume(key, mount)
        root = os.path.normpath(volume.absolute(relative))
        missing = [file.is_missing for file in files if _is_below(file.path, root)]
        if not volumes.is_mounted(volume) or is_gone(root) or (missing and all(missing)):
            absent_roots.append(root)
    return absent_roots


def _has_derivation(library: LibraryWriter, content_id: int) -> bool:
    """Whether a model's segments of a content are stored."""
    row = library.connection.execute(
        "SELECT EXISTS (SELECT 1 FROM derivations WHERE content_id = ?)", (content_id,)
    ).fetchone()
    return bool(row[0])


def _stale_observations(library: LibraryWriter) -> list[int]:
    """Ids of the observations of unknown contents, and of backbones without a model.

    The observations are read first: a scan stores a content before its features.
    """
    rows = library.observations.execute("SELECT id, content_key, backbone_hash FROM observations").fetchall()
    keys = {row[0] for row in library.connection.execute("SELECT key FROM contents")}
    backbones = {row[0] for row in library.connection.execute("SELECT backbone_hash FROM models")}
    return [row[0] for row in rows if row[1] not in keys or row[2] not in backbones]


def _rows_below(
    library: LibraryWriter, table: str, columns: str, folder: bytes
) -> list[tuple[int, bytes, int]]:
    """Id, absolute path and last column of each row of `table` whose path is `folder` or below it."""
    rows = library.connection.execute(f"SELECT {columns} FROM {table} f JOIN volumes v ON v.id = f.volume_id")
    paths = [(row[0], os.path.normpath(os.path.join(row[1], row[2])), row[3]) for row in rows]
    return [row for row in paths if _is_below(row[1], folder)]


def _move(library: LibraryWriter, table: str, row_id: int, target: bytes, volumes: Volumes) -> None:
    """Give a row a new path; if there is a row with that path, it is newer, and the old row is deleted."""
    volume = volumes.volume_of(target)
    db = library.connection
    db.execute(
        "INSERT INTO volumes (key, mount, display) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "mount = excluded.mount, display = excluded.display",
        (volume.key, volume.mount, display_path(volume.mount)),
    )
    (volume_id,) = db.execute("SELECT id FROM volumes WHERE key = ?", (volume.key,)).fetchone()
    cursor = db.execute(
        f"UPDATE OR IGNORE {table} SET volume_id = ?, path = ?, display = ? WHERE id = ?",
        (volume_id, volume.relative(target), display_path(target), row_id),
    )
    if not cursor.rowcount:
        db.execute(f"DELETE FROM {table} WHERE id = ?", (row_id,))


def _moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new if path == old else os.path.join(new, path[len(os.path.join(old, b"")) :])


def _is_below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(os.path.join(folder, b""))


def _file_size(path: bytes) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
