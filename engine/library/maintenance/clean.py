"""Clears away what is known of files that are gone, and moves what is known when a folder came back elsewhere."""

from __future__ import annotations

import os
from dataclasses import dataclass

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import Library
from vtag.engine.library.maintenance.forget import remove_contents
from vtag.engine.library.store.files import is_gone
from vtag.engine.library.store.volumes import Volume, Volumes, real_path
from vtag.engine.text import display_path


@dataclass(frozen=True)
class CleanPlan:
    """What a cleaning would remove, and what it leaves."""

    files: tuple[tuple[int, str], ...]  # id and path as people read it
    contents: tuple[int, ...]  # that no file holds then; of which a person spoke, the words stay
    annotations: int  # said of those contents: they stay
    stale_observations: int  # observations of no content, or of a backbone that no model has
    absent_roots: tuple[
        tuple[str, int], ...
    ]  # roots that are gone as a whole, and how many files are left alone there


@dataclass(frozen=True)
class _File:
    id: int
    content_id: int
    path: bytes
    display: str
    missing: bool


def plan_clean(library: Library) -> CleanPlan:
    """What is known of files that surely are gone: on a volume that is there, below a root that is there.

    A root that is gone, or that lost all of its files at once, may be a disk that is not plugged in.
    """
    volumes = Volumes()
    known = [_File(*row) for row in _files(library, volumes)]
    found = {file.content_id for file in known if not file.missing}
    absent = _absent_roots(library, volumes, known)
    removed, left = [], dict.fromkeys(absent, 0)
    for file in known:
        if not file.missing:
            continue
        root = next((root for root in absent if _below(file.path, root)), None)
        if root is None or file.content_id in found:  # what lies elsewhere, too, was moved
            removed.append(file)
        else:
            left[root] += 1
    ids = {file.id for file in removed}
    held = {file.content_id for file in known if file.id not in ids}
    contents = [row[0] for row in library.connection.execute("SELECT id FROM contents")]
    words = dict(library.connection.execute("SELECT content_id, count(*) FROM words GROUP BY content_id"))
    lost = [content for content in contents if content not in held]
    emptied = [content for content in lost if content not in words or _has_more(library, content)]
    return CleanPlan(
        tuple((file.id, file.display) for file in removed),
        tuple(emptied),
        sum(words.get(content, 0) for content in emptied),
        len(_stale(library)),
        tuple((display_path(root), count) for root, count in left.items() if count),
    )


def clean(library: Library, plan: CleanPlan) -> None:
    """Remove what `look` found; no word goes with it."""
    with library.transaction() as db:
        db.executemany("DELETE FROM files WHERE id = ?", [(file,) for file, _ in plan.files])
    remove_contents(library, plan.contents)
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.executemany("DELETE FROM observations WHERE id = ?", [(i,) for i in _stale(library)])
    library.observations.commit()


def relocate(library: Library, old: bytes, new: bytes) -> tuple[int, int]:
    """Take what is known below `old` for being below `new` from now on: how many files, and how many are there.

    For a disk that came back under another name. Raises LibraryError where nothing is known below `old`, or none of
    it is below `new`.
    """
    old, new = os.path.abspath(old), real_path(new)
    if not os.path.isdir(new):
        raise LibraryError(f"{display_path(new)} is no folder that is there")
    volumes = Volumes()
    moves = []
    for row, path, size in _all(library, "files", "f.id, v.mount, f.path, f.size_bytes", old):
        target = _moved(path, old, new)
        moves.append((row, target, _size(target) == size))
    there = sum(is_there for _, _, is_there in moves)
    if not moves:
        raise LibraryError(f"nothing is known below {display_path(old)}")
    if not there:
        raise LibraryError(
            f"none of the {len(moves)} files known below {display_path(old)} is in {display_path(new)}"
        )
    with library.transaction():
        for row, target, _ in moves:
            _move(library, "files", row, target, volumes)
        for row, path, _ in _all(library, "roots", "f.id, v.mount, f.path, 0", old):
            _move(library, "roots", row, _moved(path, old, new), volumes)
    return len(moves), there


def _files(library: Library, volumes: Volumes) -> list[tuple[int, int, bytes, str, bool]]:
    """All known files, and whether each surely is gone now."""
    rows = library.connection.execute(
        "SELECT f.id, f.content_id, v.key, v.mount, f.path, f.display FROM files f "
        "JOIN volumes v ON v.id = f.volume_id"
    ).fetchall()
    mounted: dict[str, bool] = {}
    known = []
    for file_id, content_id, key, mount, relative, display in rows:
        volume = Volume(key, mount)
        if key not in mounted:
            mounted[key] = volumes.is_mounted(volume)
        path = volume.absolute(relative)
        known.append((file_id, content_id, path, display, mounted[key] and is_gone(path)))
    return known


def _absent_roots(library: Library, volumes: Volumes, known: list[_File]) -> list[bytes]:
    """Roots that are not there, and those all of whose files are gone."""
    absent = []
    rows = library.connection.execute(
        "SELECT v.key, v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id"
    ).fetchall()
    for key, mount, relative in rows:
        volume = Volume(key, mount)
        root = os.path.normpath(volume.absolute(relative))
        below = [file.missing for file in known if _below(file.path, root)]
        if not volumes.is_mounted(volume) or not os.path.lexists(root) or (below and all(below)):
            absent.append(root)
    return absent


def _has_more(library: Library, content_id: int) -> bool:
    """Whether more than words is kept of a content."""
    row = library.connection.execute(
        "SELECT EXISTS (SELECT 1 FROM derivations WHERE content_id = ?)", (content_id,)
    ).fetchone()
    return bool(row[0])


def _stale(library: Library) -> list[int]:
    keys = {row[0] for row in library.connection.execute("SELECT key FROM contents")}
    backbones = {row[0] for row in library.connection.execute("SELECT backbone_hash FROM models")}
    rows = library.observations.execute("SELECT id, content_key, backbone_hash FROM observations")
    return [row[0] for row in rows if row[1] not in keys or row[2] not in backbones]


def _all(library: Library, table: str, columns: str, old: bytes) -> list[tuple[int, bytes, int]]:
    rows = library.connection.execute(f"SELECT {columns} FROM {table} f JOIN volumes v ON v.id = f.volume_id")
    paths = [(row[0], os.path.normpath(os.path.join(row[1], row[2])), row[3]) for row in rows]
    return [entry for entry in paths if _below(entry[1], old)]


def _move(library: Library, table: str, row: int, target: bytes, volumes: Volumes) -> None:
    """Give a row a new path; where that path is known already, what is known of it there is newer."""
    volume = volumes.volume_of(target)
    db = library.connection
    db.execute(
        "INSERT INTO volumes (key, mount, display) VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET "
        "mount = excluded.mount, display = excluded.display",
        (volume.key, volume.mount, display_path(volume.mount)),
    )
    (volume_id,) = db.execute("SELECT id FROM volumes WHERE key = ?", (volume.key,)).fetchone()
    changed = db.execute(
        f"UPDATE OR IGNORE {table} SET volume_id = ?, path = ?, display = ? WHERE id = ?",
        (volume_id, volume.relative(target), display_path(target), row),
    )
    if not changed.rowcount:
        db.execute(f"DELETE FROM {table} WHERE id = ?", (row,))


def _moved(path: bytes, old: bytes, new: bytes) -> bytes:
    return new if path == old else os.path.join(new, path[len(os.path.join(old, b"")) :])


def _below(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(os.path.join(folder, b""))


def _size(path: bytes) -> int | None:
    try:
        return os.stat(path).st_size
    except OSError:
        return None
