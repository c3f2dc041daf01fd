"""A person's words as a file of their own: one JSON object a line, by content, which merges with what is there."""

from __future__ import annotations

import base64
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.annotation_log import Annotation
from vtag.engine.library.database import Library
from vtag.engine.library.timestamps import format_timestamp
from vtag.engine.text import display_path

LONGEST_LINE = 64 * 1024  # bytes; a path takes at most a few thousand
_KEY = re.compile(r"\d{1,19}-[0-9a-f]{32}")
_PACKETS = re.compile(r"[0-9a-f]{32}")
_LAST_MS = 1 << 53


class _Line(NamedTuple):
    word: Annotation
    path: str | None  # as people read it
    packets: str | None


def export_lines(reader: sqlite3.Connection) -> Iterator[str]:
    """All words, a line each, in the order in which they were said; with the path where each content was last."""
    spoken = annotation_log.list_annotations(reader)
    where = content_paths(reader, (word.content for word in spoken))
    packets = dict(reader.execute("SELECT key, packets_key FROM contents WHERE packets_key IS NOT NULL"))
    for word in spoken:
        entry: dict[str, object] = {"content": word.content}
        path, display = where.get(word.content, (None, None))
        if path is not None:
            text = path.decode("utf-8", "replace")
            entry["path"] = text
            if text.encode() != path:
                entry["path_bytes"] = base64.b64encode(path).decode()
        elif display is not None:
            entry["path"] = display
        if word.content in packets:
            entry["packets"] = packets[word.content]
        entry |= {"label": word.label, "start_ms": word.start_ms, "end_ms": word.end_ms}
        yield json.dumps({**entry, "verdict": word.verdict, "said_at": word.said_at}, ensure_ascii=False)


def import_lines(
    library: Library, lines: Iterable[bytes], name: str
) -> tuple[annotation_log.AnnotationChange, int]:
    """Add the words in `lines` to those that are there; returns what changed and how many words were read.

    All or nothing. A content that is not known yet keeps its words until a scan finds it. Raises LibraryError, which
    says the line of the file called `name`.
    """
    read = [_parse(line, f"{name}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    with library.transaction() as db:
        change = annotation_log.merge_annotations(library, (line.word for line in read))
        for line in read:
            db.execute(
                "UPDATE contents SET was_at = coalesce(was_at, ?), packets_key = coalesce(packets_key, ?) "
                "WHERE key = ? AND NOT EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)",
                (line.path, line.packets, line.word.content),
            )
    return change, len(read)


def content_paths(
    reader: sqlite3.Connection, keys: Iterable[str]
) -> dict[str, tuple[bytes | None, str | None]]:
    """Where each content is, or was last: path (None where no file is known), and as people read it."""
    found = {}
    for key in dict.fromkeys(keys):
        row = reader.execute(
            "SELECT v.mount, f.path, coalesce(f.display, c.was_at) FROM contents c "
            "LEFT JOIN files f ON f.content_id = c.id LEFT JOIN volumes v ON v.id = f.volume_id "
            "WHERE c.key = ? ORDER BY f.state DESC, f.id LIMIT 1",  # present before missing
            (key,),
        ).fetchone()
        known = row is not None and row[0] is not None
        found[key] = (os.path.join(row[0], row[1]) if known else None, row[2] if row else None)
    return found


def orphaned_annotations(reader: sqlite3.Connection) -> list[tuple[Annotation, str | None]]:
    """Words on contents that no known file holds any more, nor one that shows the same; and where they were last."""
    rows = reader.execute(
        """
        SELECT DISTINCT c.key FROM words w JOIN contents c ON c.id = w.content_id
        WHERE NOT EXISTS (
            SELECT 1 FROM contents t JOIN files f ON f.content_id = t.id
            WHERE f.state = 'present' AND (t.id = c.id OR t.packets_key = c.packets_key)
        )
        """
    )
    where = content_paths(reader, (row[0] for row in rows))
    return [
        (word, where[word.content][1])
        for word in annotation_log.list_annotations(reader)
        if word.content in where
    ]


def _parse(line: bytes, where: str) -> _Line:
    if len(line) > LONGEST_LINE:
        raise LibraryError(f"{where} is too long to be a word")
    try:
        entry = json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        raise LibraryError(f"{where} is no JSON: `vtag words export` writes one object a line") from None
    if not isinstance(entry, dict):
        raise LibraryError(f"{where} is no JSON object")
    label = entry.get("label")
    if not isinstance(label, str) or not annotation_log.is_valid_label(label):
        raise LibraryError(f"{where}: its label is none")
    start: Any = entry.get("start_ms")
    end: Any = entry.get("end_ms")
    if (start, end) != (None, None) and not (_time(start) and _time(end) and start < end):
        raise LibraryError(f"{where}: start_ms and end_ms have to be whole numbers in order, or both null")
    if entry.get("verdict") not in annotation_log.VERDICTS:
        raise LibraryError(f"{where}: its verdict has to be one of {', '.join(annotation_log.VERDICTS)}")
    key, packets, path = entry.get("content"), entry.get("packets"), entry.get("path")
    if not isinstance(key, str) or not _KEY.fullmatch(key) or int(key.split("-")[0]) >= 1 << 63:
        raise LibraryError(f"{where}: its content is no key of a content")
    return _Line(
        Annotation(key, label, start, end, entry["verdict"], _date(entry.get("said_at"), where)),
        display_path(path) if isinstance(path, str) and "\0" not in path else None,
        packets if isinstance(packets, str) and _PACKETS.fullmatch(packets) else None,
    )


def _time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _LAST_MS


def _date(value: Any, where: str) -> str:
    """A date in UTC, as the library writes it."""
    try:
        return format_timestamp(datetime.fromisoformat(value))
    except (TypeError, ValueError, OverflowError):
        raise LibraryError(f"{where}: said_at {str(value)[:40]!r} is no date") from None
