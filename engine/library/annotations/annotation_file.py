"""Annotations as a file: one JSON object on each line, keyed by content, which merges with existing annotations."""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_log, merging
from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
from vtag.engine.library.annotations.validation import is_valid_label
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.store.file_paths import content_files
from vtag.engine.library.timestamps import format_timestamp
from vtag.engine.text import display_path, normalize_label, to_json

LONGEST_LINE = 64 * 1024  # bytes; a path takes at most a few thousand
_CONTENT_KEY = re.compile(r"\d{1,19}-[0-9a-f]{32}")
_PACKETS_KEY = re.compile(r"[0-9a-f]{32}")


class _FileLine(NamedTuple):
    annotation: Annotation
    path: str | None  # for display
    packets_key: str | None


def export_lines(reader: sqlite3.Connection) -> Iterator[str]:
    """A line for each annotation, the earliest first, with the path where its content was last."""
    annotations = annotation_log.list_annotations(reader)
    paths = content_paths(reader, (annotation.content for annotation in annotations))
    packets_keys = dict(reader.execute("SELECT key, packets_key FROM contents WHERE packets_key IS NOT NULL"))
    for annotation in annotations:
        entry: dict[str, object] = {"content": annotation.content}
        path, display = paths.get(annotation.content, (None, None))
        if path is not None:
            text = path.decode("utf-8", "replace")
            entry["path"] = text
            if text.encode() != path:
                entry["path_bytes"] = base64.b64encode(path).decode()
        elif display is not None:
            entry["path"] = display
        if annotation.content in packets_keys:
            entry["packets"] = packets_keys[annotation.content]
        entry |= {"label": annotation.label, "start_ms": annotation.start_ms, "end_ms": annotation.end_ms}
        entry |= {"verdict": annotation.verdict, "said_at": annotation.said_at}
        yield to_json(entry)


def import_lines(library: LibraryWriter, lines: Iterable[bytes], name: str) -> tuple[AnnotationChange, int]:
    """Merge the annotations in `lines` into the library; returns the change and how many were read.

    All or nothing. An annotation of an unknown content waits for a scan to find the content. Raises LibraryError,
    which names the line of the file called `name`.
    """
    parsed = [_parse(line, f"{name}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    with library.transaction() as db:
        change = merging.merge_annotations(library, (line.annotation for line in parsed))
        for line in parsed:
            db.execute(
                "UPDATE contents SET was_at = coalesce(was_at, ?), packets_key = coalesce(packets_key, ?) "
                "WHERE key = ? AND NOT EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)",
                (line.path, line.packets_key, line.annotation.content),
            )
    return change, len(parsed)


def content_paths(
    reader: sqlite3.Connection, keys: Iterable[str]
) -> dict[str, tuple[bytes | None, str | None]]:
    """Content keys to the path, present or last known, and to the same for display; None if there is none."""
    paths: dict[str, tuple[bytes | None, str | None]] = {}
    for key in dict.fromkeys(keys):
        content_id, was_at = reader.execute(
            "SELECT id, was_at FROM contents WHERE key = ? UNION ALL SELECT 0, NULL", (key,)
        ).fetchone()
        file = next(iter(content_files(reader, content_id)), None)
        paths[key] = (file.path, file.display) if file else (None, was_at)
    return paths


def orphaned_annotations(reader: sqlite3.Connection) -> list[tuple[Annotation, str | None]]:
    """Annotations whose content no present file holds, nor a file with the same video; each with its last path."""
    rows = reader.execute(
        """
        SELECT DISTINCT c.key FROM words w JOIN contents c ON c.id = w.content_id
        WHERE NOT EXISTS (
            SELECT 1 FROM contents t JOIN files f ON f.content_id = t.id
            WHERE f.state = 'present' AND (t.id = c.id OR t.packets_key = c.packets_key)
        )
        """
    )
    paths = content_paths(reader, (row[0] for row in rows))
    annotations = annotation_log.list_annotations(reader)
    return [(a, paths[a.content][1]) for a in annotations if a.content in paths]


def _parse(line: bytes, position: str) -> _FileLine:
    """One line of the file. Raises LibraryError, which begins with `position`, if it is no annotation."""
    entry = _json_object(line, position)
    label, verdict = entry.get("label"), entry.get("verdict")
    label = normalize_label(label) if isinstance(label, str) else ""
    if not is_valid_label(label):
        raise LibraryError(f"{position}: its label is invalid")
    start: Any = entry.get("start_ms")
    end: Any = entry.get("end_ms")
    if (start, end) != (None, None) and not (_is_time_ms(start) and _is_time_ms(end) and start < end):
        raise LibraryError(f"{position}: start_ms and end_ms have to be whole numbers in order, or both null")
    if verdict not in annotation_log.VERDICTS:
        raise LibraryError(f"{position}: its verdict has to be one of {', '.join(annotation_log.VERDICTS)}")
    key, packets_key, path = entry.get("content"), entry.get("packets"), entry.get("path")
    # SQLite's integers have 63 bits and a sign: a larger size would not fit
    if not isinstance(key, str) or not _CONTENT_KEY.fullmatch(key) or int(key.split("-")[0]) >= 1 << 63:
        raise LibraryError(f"{position}: its content is no key of a video")
    return _FileLine(
        Annotation(key, label, start, end, verdict, _timestamp(entry.get("said_at"), position)),
        display_path(path) if isinstance(path, str) and "\0" not in path else None,
        packets_key if isinstance(packets_key, str) and _PACKETS_KEY.fullmatch(packets_key) else None,
    )


def _json_object(line: bytes, position: str) -> dict[str, Any]:
    if len(line) > LONGEST_LINE:
        raise LibraryError(f"{position} is too long for an annotation")
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise LibraryError(
            f"{position} is no JSON: `vtag words export` writes one object on each line"
        ) from None
    if not isinstance(entry, dict):
        raise LibraryError(f"{position} is no JSON object")
    return entry


def _is_time_ms(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < END_OF_TIME_MS


def _timestamp(value: Any, position: str) -> str:
    """A timestamp in the library's format."""
    try:
        return format_timestamp(datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):
        raise LibraryError(f"{position}: said_at {str(value)[:40]!r} is no date") from None
