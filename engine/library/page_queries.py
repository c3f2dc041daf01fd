"""Queries of the page: moments and videos by id. It may read only files below the library's roots."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Iterable
from typing import NamedTuple

from vtag.engine.library.certainty import MARGIN_SQL, library_min_margin
from vtag.engine.library.search.rows import drop_duplicates
from vtag.engine.library.store.file_paths import content_files, displays_by_content
from vtag.engine.library.store.label_names import annotated_spellings
from vtag.engine.system.silent_disks import ask_in_time

_GONE = "a video that is gone"


class PlayableVideo(NamedTuple):
    """A content, and the path of one of its files that exists below a root; `path` is None if there is none."""

    id: int
    key: str
    path: bytes | None
    display: str
    duration_ms: int
    codec: str
    container: str
    recorded_at: str | None
    width: int  # 0 if unknown
    height: int


class MomentRow(NamedTuple):
    """A moment of a video with its verdict."""

    id: int
    label: str
    start_ms: int
    end_ms: int
    score: float
    model: str | None  # None: a person's own moment
    verdict: str  # "", confirmed, rejected
    sure: bool = True  # at the library's sensitivity

    @property
    def is_own(self) -> bool:
        """Whether a person added it and no model found it."""
        return self.model is None


class AnnotationRow(NamedTuple):
    """A person's annotation of a label, in a range of a video."""

    content: int
    display: str
    start_ms: int
    end_ms: int
    verdict: str


class VolumeRow(NamedTuple):
    """A volume, and the numbers of its stored and of its missing files."""

    key: str
    mount: bytes
    display: str
    files: int
    missing: int


class LibrarySize(NamedTuple):
    """The number of videos, their total length, and the number of unreadable ones."""

    videos: int
    video_ms: int
    failed: int


def find_video(reader: sqlite3.Connection, content_id: int) -> PlayableVideo | None:
    """The video with this content id, or None."""
    row = reader.execute(
        "SELECT key, coalesce(duration_ms, 0), coalesce(codec, ''), coalesce(container, ''), recorded_at, "
        "coalesce(width, 0), coalesce(height, 0) "
        "FROM contents WHERE id = ?",
        (content_id,),
    ).fetchone()
    if row is None:
        return None
    path, display = _file(reader, content_id)
    return PlayableVideo(content_id, row[0], path, display, *row[1:])


def video_names(reader: sqlite3.Connection, keys: Iterable[str]) -> dict[str, str]:
    """The file names of contents by their keys, as shown."""
    rows = reader.execute(
        "SELECT id, key FROM contents WHERE key IN (SELECT value FROM json_each(?))",
        (json.dumps(list(keys)),),
    ).fetchall()
    displays = displays_by_content(reader, [row[0] for row in rows])
    return {key: displays[content][0].rsplit("/", 1)[-1] for content, key in rows if content in displays}


def revision(reader: sqlite3.Connection) -> str:
    """A text that changes with the moments, the videos and the annotations of the library."""
    row = reader.execute(
        "SELECT (SELECT coalesce(max(id), 0) FROM segments), (SELECT value FROM versions WHERE name = 'videos'), "
        "(SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'words'), "
        "(SELECT coalesce(max(at), '') || coalesce(max(undone_at), '') FROM word_log)"
    ).fetchone()
    return "-".join(map(str, row))


def moment_range(reader: sqlite3.Connection, moment_id: int) -> tuple[int, int, int] | None:
    """Content id, start_ms and end_ms of a moment; None if it is gone, since ids are never used twice."""
    row = reader.execute(
        "SELECT content_id, start_ms, end_ms FROM segments WHERE id = ?", (moment_id,)
    ).fetchone()
    return (row[0], row[1], row[2]) if row else None


def moment_ranges(
    reader: sqlite3.Connection, moment_ids: Iterable[int]
) -> list[tuple[int, int | None, int | None]]:
    """Content id, start_ms and end_ms of each of these moments that is still there."""
    rows = reader.execute(
        "SELECT content_id, start_ms, end_ms FROM segments WHERE id IN (SELECT value FROM json_each(?)) ORDER BY id",
        (json.dumps(list(moment_ids)),),
    )
    return list(rows)


def video_moments(
    reader: sqlite3.Connection, content_id: int, *, min_margin: float | None = None
) -> list[MomentRow]:
    """The moments of a video by time, with rejected ones; of one with several sources, only the surest.

    Those of at least `min_margin`, by default the library's sure ones. `-math.inf` gives the less sure ones too.
    """
    sure_margin = library_min_margin(reader)
    rows = reader.execute(
        "SELECT s.id, l.name, s.start_ms, s.end_ms, s.score, m.name, coalesce(s.verdict, ''), "
        f"{MARGIN_SQL} >= ? AS is_sure FROM segments s "
        "JOIN labels l ON l.id = s.label_id LEFT JOIN models m ON m.id = s.model_id "
        f"WHERE s.content_id = ? AND {MARGIN_SQL} >= ? "
        "ORDER BY s.model_id IS NULL DESC, s.verdict IS NULL, is_sure DESC, s.score DESC, s.id",
        (sure_margin, content_id, sure_margin if min_margin is None else min_margin),
    )
    moments = drop_duplicates(
        map(MomentRow._make, rows),
        key=lambda m: (m.label, m.verdict == "rejected"),
        source=lambda m: m.model,
    )
    return sorted(moments, key=lambda m: (m.start_ms, m.label, m.end_ms))


def labels(reader: sqlite3.Connection) -> list[str]:
    """The names of all labels, sorted."""
    return [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]


def label_ids(reader: sqlite3.Connection) -> dict[str, int]:
    """The names of all labels, sorted, with their ids, which never change."""
    return dict(reader.execute("SELECT name, id FROM labels ORDER BY name"))


def library_size(reader: sqlite3.Connection) -> LibrarySize:
    """The size of the library, of videos that have a file."""
    videos, length = reader.execute(
        "SELECT count(*), coalesce(sum(duration_ms), 0) FROM contents WHERE error IS NULL "
        "AND EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)"
    ).fetchone()
    failed = reader.execute("SELECT count(*) FROM contents WHERE error IS NOT NULL").fetchone()[0]
    return LibrarySize(videos, length, failed)


def is_empty(reader: sqlite3.Connection) -> bool:
    """Whether the library has no content."""
    return reader.execute("SELECT 1 FROM contents LIMIT 1").fetchone() is None


def failures(reader: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    """Display path and error of the unreadable videos, the latest first."""
    rows = reader.execute(
        "SELECT f.display, c.error FROM contents c JOIN files f ON f.content_id = c.id "
        "WHERE c.error IS NOT NULL ORDER BY c.error_at DESC, f.id LIMIT ?",
        (limit,),
    )
    return list(rows)


def label_annotations(reader: sqlite3.Connection, label: str) -> list[AnnotationRow]:
    """The annotations of a label, in the order in which they were made."""
    names = annotated_spellings(reader, label)
    rows = reader.execute(
        "SELECT c.id, coalesce(w.start_ms, 0), coalesce(w.end_ms, c.duration_ms, 1000), w.verdict "
        "FROM words w JOIN contents c ON c.id = w.content_id "
        f"WHERE w.label IN ({', '.join('?' * len(names))}) "
        "ORDER BY w.said_at, w.id",
        names,
    ).fetchall()
    displays = displays_by_content(reader, {row[0] for row in rows})
    return [AnnotationRow(content, displays.get(content, [_GONE])[0], *rest) for content, *rest in rows]


def annotated_labels(reader: sqlite3.Connection) -> list[tuple[str, int]]:
    """The labels of a person's annotations with the number of examples, most first; rejections do not count."""
    rows = reader.execute(
        "SELECT label, count(*) FROM words WHERE verdict != 'rejected' GROUP BY label ORDER BY 2 DESC, 1"
    )
    return list(rows)


def latest_moment_id(reader: sqlite3.Connection) -> int:
    """The highest id of a moment. While it stays the same, no moment was added."""
    return int(reader.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()[0])


def volumes(reader: sqlite3.Connection) -> list[VolumeRow]:
    """The volumes that have stored files, sorted by mount point."""
    rows = reader.execute(
        "SELECT v.key, v.mount, v.display, count(*), sum(f.state = 'missing') FROM volumes v "
        "JOIN files f ON f.volume_id = v.id GROUP BY v.id ORDER BY v.display"
    )
    return [VolumeRow._make(row) for row in rows]


def videos_by_length(reader: sqlite3.Connection) -> list[int]:
    """Content ids of the readable videos, the shortest first."""
    rows = reader.execute(
        "SELECT id FROM contents WHERE error IS NULL AND duration_ms IS NOT NULL ORDER BY duration_ms, id"
    )
    return [row[0] for row in rows]


def models(reader: sqlite3.Connection) -> list[str]:
    """The names of all models, the latest first."""
    return [row[0] for row in reader.execute("SELECT name FROM models GROUP BY name ORDER BY max(id) DESC")]


def labels_with_moments(reader: sqlite3.Connection) -> list[str]:
    """The labels that have a sure moment, sorted; one look-up in the index for each label."""
    rows = reader.execute(
        "SELECT name FROM labels l WHERE EXISTS (SELECT 1 FROM sure_segments WHERE label_id = l.id) ORDER BY name"
    )
    return [row[0] for row in rows]


def roots(reader: sqlite3.Connection) -> list[bytes]:
    """Absolute paths of the folders and files that were scanned."""
    rows = reader.execute("SELECT v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id")
    return [os.path.normpath(os.path.join(mount, path)) for mount, path in rows]


def _file(reader: sqlite3.Connection, content_id: int) -> tuple[bytes | None, str]:
    """The real path of a content's file that exists below a root, or None; and its path for display."""
    files = content_files(reader, content_id)
    real_roots = [real for root in roots(reader) if (real := _real_path(root))]
    for file in files:
        real = _real_path(file.path)  # a link may lead out of the roots
        is_allowed = any(real == root or real.startswith(os.path.join(root, b"")) for root in real_roots)
        if is_allowed and _is_file(real):
            return real, file.display
    return None, files[0].display if files else _GONE


def _real_path(path: bytes) -> bytes:
    """`path` without links; empty if its file system does not answer."""
    try:
        return ask_in_time(os.path.realpath, path)
    except TimeoutError:
        return b""


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(ask_in_time(os.stat, path).st_mode)
    except OSError:
        return False
