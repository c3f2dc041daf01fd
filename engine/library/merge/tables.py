"""Copies rows of one library into another: volumes, roots, contents, files, labels, models, settings.

Each function adds what the target lacks and leaves what it has, unless the source knows better. `db` is the target,
in a transaction; `source` reads the other library.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vtag.engine.library.store.runs import SPEED_PREFIX
from vtag.engine.swin.config import FINETUNED_PREFIX

_MODEL = "model"  # the setting that holds the id of a library's model
_JOBS = "jobs"  # the setting that holds a machine's waiting jobs
_FILE_COLUMNS = ("display", "size_bytes", "mtime_ns", "inode", "content_id", "state", "seen_at")


class TableConflict(NamedTuple):
    """Two values that contradict each other, as text to show; `kept` is the one that counts."""

    subject: str
    own: str
    other: str
    kept: str


def columns(db: sqlite3.Connection, table: str) -> list[str]:
    """The names of a table's columns but its id, also of those that later migrations add."""
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[1] != "id"]


def merge_volumes(db: sqlite3.Connection, source: sqlite3.Connection) -> dict[int, int]:
    """Add missing volumes; returns the source's ids to the target's. A known one stays where it is mounted."""
    _add_missing(db, source, "volumes")
    return _ids(db, source, "volumes", "key")


def merge_roots(db: sqlite3.Connection, source: sqlite3.Connection, volume_ids: dict[int, int]) -> None:
    """Add missing scanned folders."""
    _add_missing(db, source, "roots", volume_id=volume_ids)


def merge_contents(db: sqlite3.Connection, source: sqlite3.Connection) -> dict[int, int]:
    """Add missing contents, and what the target does not know of others; returns the source's ids to the target's.

    A content that one of the two could read is readable.
    """
    names = columns(db, "contents")
    query = f"SELECT {', '.join(names)} FROM contents"
    assignments = ", ".join(f"{name} = :{name}" for name in names)
    _add_missing(db, source, "contents")
    for row in source.execute(f"{query} ORDER BY id"):
        other = dict(zip(names, row, strict=True))
        own_row = db.execute(f"{query} WHERE key = ?", (other["key"],)).fetchone()
        own = dict(zip(names, own_row, strict=True))
        merged = _merged_content(own, other)
        if merged != own:
            db.execute(f"UPDATE contents SET {assignments} WHERE key = :key", merged)
    return _ids(db, source, "contents", "key")


def merge_files(
    db: sqlite3.Connection,
    source: sqlite3.Connection,
    volume_ids: dict[int, int],
    content_ids: dict[int, int],
) -> list[TableConflict]:
    """Add missing files; of two at one path the one that was seen last counts."""
    _add_missing(db, source, "files", volume_id=volume_ids, content_id=content_ids)
    conflicts = []
    names = ", ".join(_FILE_COLUMNS)
    assignments = ", ".join(f"{name} = ?" for name in _FILE_COLUMNS)
    for volume_id, path, *values in source.execute(f"SELECT volume_id, path, {names} FROM files ORDER BY id"):
        other = dict(zip(_FILE_COLUMNS, values, strict=True))
        other["content_id"] = content_ids[other["content_id"]]
        place = volume_ids[volume_id], path
        own_row = db.execute(f"SELECT {names} FROM files WHERE volume_id = ? AND path = ?", place).fetchone()
        own = dict(zip(_FILE_COLUMNS, own_row, strict=True))
        is_later = other["seen_at"] > own["seen_at"]
        if own["content_id"] != other["content_id"]:
            times = own["seen_at"], other["seen_at"]
            conflicts.append(TableConflict(f"the file {own['display']}", *times, max(times)))
        if is_later:
            db.execute(
                f"UPDATE files SET {assignments} WHERE volume_id = ? AND path = ?", (*other.values(), *place)
            )
    return conflicts


def merge_labels(
    db: sqlite3.Connection, source: sqlite3.Connection, spell: Callable[[str], str]
) -> list[TableConflict]:
    """Add missing labels, and thresholds where the target has none. `spell` gives the target's spelling."""
    names = {name: spell(name) for (name,) in source.execute("SELECT name FROM labels")}
    _add_missing(db, source, "labels", name=names)
    conflicts = []
    for other_name, other in source.execute("SELECT name, threshold FROM labels WHERE threshold IS NOT NULL"):
        name = names[other_name]
        (own,) = db.execute("SELECT threshold FROM labels WHERE name = ?", (name,)).fetchone()
        if own is None:
            db.execute("UPDATE labels SET threshold = ? WHERE name = ?", (other, name))
        elif own != other:
            subject = f"the threshold of the label {name}"
            conflicts.append(TableConflict(subject, str(own), str(other), str(own)))
    return conflicts


def merge_models(
    db: sqlite3.Connection, source: sqlite3.Connection
) -> tuple[dict[int, int], dict[int, int], list[TableConflict]]:
    """Add missing models; of two versions of a model that a person taught, only the later counts.

    Returns the source's ids to the target's, without versions that do not count; the target's models that are
    replaced, to what replaces them; conflicts.
    """
    names = columns(db, "models")
    conflicts = []
    ids: dict[int, int] = {}
    replaced: dict[int, int] = {}
    for source_id, *values in source.execute(f"SELECT id, {', '.join(names)} FROM models ORDER BY id"):
        other = dict(zip(names, values, strict=True))
        hashes = other["backbone_hash"], other["head_hash"]
        own = db.execute(
            "SELECT id, threshold FROM models WHERE backbone_hash = ? AND head_hash = ?", hashes
        ).fetchone()
        if own is None:
            versions = _taught_versions(db, other["source"]) if _is_taught(source, source_id) else []
            if any(added_at > other["added_at"] for _, added_at in versions):
                continue
            ids[source_id] = int(_insert(db, "models", names, values).lastrowid or 0)
            replaced |= {model_id: ids[source_id] for model_id, _ in versions}
            continue
        ids[source_id], threshold = own
        if threshold is None:
            db.execute("UPDATE models SET threshold = ? WHERE id = ?", (other["threshold"], own[0]))
        elif other["threshold"] not in (None, threshold):
            subject = f"the threshold of the model {other['name']}"
            conflicts.append(TableConflict(subject, str(threshold), str(other["threshold"]), str(threshold)))
    # the source may have two versions itself: of a model that was taught again, and not yet derived from
    return {source_id: i for source_id, i in ids.items() if i not in replaced}, replaced, conflicts


def merge_settings(
    db: sqlite3.Connection, source: sqlite3.Connection, model_ids: dict[int, int]
) -> list[TableConflict]:
    """Add missing settings, without those of a machine; the target's model stays the one that it uses."""
    conflicts = []
    for name, value in source.execute("SELECT key, value FROM settings ORDER BY key").fetchall():
        if name == _JOBS or name.startswith(SPEED_PREFIX):
            continue
        if name == _MODEL:
            model_id = model_ids.get(int(value)) or _later_version(db, source, int(value))
            if model_id is None:
                continue
            value = str(model_id)
        own = db.execute("SELECT value FROM settings WHERE key = ?", (name,)).fetchone()
        if own is None:
            db.execute("INSERT INTO settings (key, value) VALUES (?, ?)", (name, value))
        elif own[0] != value and name == _MODEL:
            named = [
                db.execute("SELECT name FROM models WHERE id = ?", (v,)).fetchone() for v in (own[0], value)
            ]
            own_name, other_name = (str(row[0]) if row else "" for row in named)
            conflicts.append(TableConflict("the library's model", own_name, other_name, own_name))
    return conflicts


def _merged_content(own: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """What is known of a content from both sides."""
    first, second = (other, own) if not _is_read(own) and _is_read(other) else (own, other)
    merged = {name: second[name] if value is None else value for name, value in first.items()}
    merged["added_at"] = min(own["added_at"], other["added_at"])
    if _is_read(first):
        merged["error"] = merged["error_at"] = None
    return merged


def _is_read(content: dict[str, Any]) -> bool:
    return content["duration_ms"] is not None and content["error"] is None


def _is_taught(db: sqlite3.Connection, model_id: int) -> bool:
    row = db.execute("SELECT json_extract(spec, '$.source') FROM models WHERE id = ?", (model_id,)).fetchone()
    return str(row[0] or "").startswith(FINETUNED_PREFIX)


def _later_version(db: sqlite3.Connection, source: sqlite3.Connection, model_id: int) -> int | None:
    """The target's version of a model that a person taught and of which the source's version does not count."""
    row = source.execute("SELECT source FROM models WHERE id = ?", (model_id,)).fetchone()
    versions = _taught_versions(db, row[0]) if row and _is_taught(source, model_id) else []
    return max(versions, key=lambda version: version[1])[0] if versions else None


def _taught_versions(db: sqlite3.Connection, source: str) -> list[tuple[int, str]]:
    """Id and date of each model that a person taught from `source`."""
    rows = db.execute("SELECT id, added_at FROM models WHERE source = ? ORDER BY id", (source,)).fetchall()
    return [row for row in rows if _is_taught(db, row[0])]


def _add_missing(
    db: sqlite3.Connection, source: sqlite3.Connection, table: str, **values: Mapping[Any, Any]
) -> None:
    """Add the rows of a table that the target lacks. `values` translate columns, such as ids of other tables."""
    names = columns(db, table)
    translations = [values.get(name) for name in names]
    rows = source.execute(f"SELECT {', '.join(names)} FROM {table} ORDER BY id")
    db.executemany(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) ON CONFLICT DO NOTHING",
        (
            [value if new is None else new[value] for value, new in zip(row, translations, strict=True)]
            for row in rows
        ),
    )


def _insert(
    db: sqlite3.Connection, table: str, names: Sequence[str], values: Sequence[Any]
) -> sqlite3.Cursor:
    return db.execute(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})", values
    )


def _ids(db: sqlite3.Connection, source: sqlite3.Connection, table: str, key: str) -> dict[int, int]:
    """The source's ids of a table's rows to the target's ids of the rows with the same key."""
    own = dict(db.execute(f"SELECT {key}, id FROM {table}").fetchall())
    return {row_id: own[value] for value, row_id in source.execute(f"SELECT {key}, id FROM {table}")}
