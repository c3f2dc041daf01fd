"""What a page may show of the library: moments and videos by id, and of files only those below its roots."""

from __future__ import annotations

import os
import sqlite3
import stat
from typing import NamedTuple

from vtag.engine.library.search.moments import Moment
from vtag.engine.library.search.rows import drop_duplicates


class VideoFile(NamedTuple):
    """A content with a file of it that is there now and lies below a root; `path` is None where there is none."""

    id: int
    key: str
    path: bytes | None
    display: str
    duration_ms: int
    codec: str
    container: str
    recorded_at: str | None


class MomentRow(NamedTuple):
    """A moment of a video with what a person said of it."""

    id: int
    label: str
    start_ms: int
    end_ms: int
    score: float
    model: str | None  # None: a person's own
    verdict: str  # "", confirmed, rejected

    @property
    def is_own(self) -> bool:
        """Whether a person said it and no model does."""
        return self.model is None


class AnnotationRow(NamedTuple):
    """A person's word on a stretch of a video."""

    content: int
    display: str
    start_ms: int
    end_ms: int
    verdict: str


class VolumeRow(NamedTuple):
    """A volume, and how many files of it are known, and gone."""

    key: str
    mount: bytes
    display: str
    files: int
    missing: int


class LibrarySize(NamedTuple):
    """How much a library holds."""

    videos: int
    video_ms: int
    failed: int


def find_video(reader: sqlite3.Connection, content_id: int) -> VideoFile | None:
    """The video with this id, None where the library knows none."""
    row = reader.execute(
        "SELECT key, coalesce(duration_ms, 0), coalesce(codec, ''), coalesce(container, ''), recorded_at "
        "FROM contents WHERE id = ?",
        (content_id,),
    ).fetchone()
    if row is None:
        return None
    path, display = _file(reader, content_id)
    return VideoFile(content_id, row[0], path, display, *row[1:])


def moment_range(reader: sqlite3.Connection, moment_id: int) -> tuple[int, int, int] | None:
    """Content id, start_ms and end_ms of a moment; None where there is none (ids are never used twice)."""
    row = reader.execute(
        "SELECT content_id, start_ms, end_ms FROM segments WHERE id = ?", (moment_id,)
    ).fetchone()
    return (row[0], row[1], row[2]) if row else None


def video_moments(reader: sqlite3.Connection, content_id: int) -> list[MomentRow]:
    """All moments of a video by time, the rejected too; one that several models saw is there once, at its best."""
    rows = reader.execute(
        "SELECT s.id, l.name, s.start_ms, s.end_ms, s.score, m.name, coalesce(s.verdict, '') FROM segments s "
        "JOIN labels l ON l.id = s.label_id LEFT JOIN models m ON m.id = s.model_id WHERE s.content_id = ? "
        "ORDER BY s.model_id IS NULL DESC, s.score DESC, s.id",
        (content_id,),
    )
    moments = drop_duplicates(
        map(MomentRow._make, rows), key=lambda m: (m.label, m.verdict), source=lambda m: m.model
    )
    return sorted(moments, key=lambda m: (m.start_ms, m.label, m.end_ms))


def labels(reader: sqlite3.Connection) -> list[str]:
    """The names of all labels, by name."""
    return [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]


def library_size(reader: sqlite3.Connection) -> LibrarySize:
    """Videos that were seen, their length, and how many could not be read."""
    videos, length = reader.execute(
        "SELECT count(*), coalesce(sum(duration_ms), 0) FROM contents WHERE error IS NULL "
        "AND EXISTS (SELECT 1 FROM files WHERE content_id = contents.id)"
    ).fetchone()
    failed = reader.execute("SELECT count(*) FROM contents WHERE error IS NOT NULL").fetchone()[0]
    return LibrarySize(videos, length, failed)


def is_empty(reader: sqlite3.Connection) -> bool:
    """Whether no video was ever seen."""
    return reader.execute("SELECT 1 FROM contents LIMIT 1").fetchone() is None


def failures(reader: sqlite3.Connection, limit: int) -> list[tuple[str, str]]:
    """Display path and reason of the videos that could not be read, the latest first."""
    rows = reader.execute(
        "SELECT f.display, c.error FROM contents c JOIN files f ON f.content_id = c.id "
        "WHERE c.error IS NOT NULL ORDER BY c.error_at DESC, f.id LIMIT ?",
        (limit,),
    )
    return list(rows)


def label_annotations(reader: sqlite3.Connection, label: str) -> list[AnnotationRow]:
    """What a person said of a label, in the order in which it was said."""
    rows = reader.execute(
        "SELECT c.id, coalesce((SELECT display FROM files WHERE content_id = c.id ORDER BY state DESC, id LIMIT 1), "
        "'a video that is gone'), coalesce(w.start_ms, 0), coalesce(w.end_ms, c.duration_ms, 1000), w.verdict "
        "FROM words w JOIN contents c ON c.id = w.content_id WHERE w.label = ? COLLATE NOCASE "
        "ORDER BY w.said_at, w.id",
        (label,),
    )
    return [AnnotationRow._make(row) for row in rows]


def annotated_labels(reader: sqlite3.Connection) -> list[tuple[str, int]]:
    """The labels that a person used, and how many examples of each there are, most first."""
    rows = reader.execute(
        "SELECT label, count(*) FROM words WHERE verdict != 'rejected' GROUP BY label ORDER BY 2 DESC, 1"
    )
    return list(rows)


def latest_moments(reader: sqlite3.Connection, limit: int) -> list[Moment]:
    """The moments that were found or said last, one a label and video, newest first; none that was rejected."""
    rows = reader.execute(
        "SELECT s.id, s.content_id, l.name, s.start_ms, s.end_ms, s.score, m.name FROM segments s "
        "JOIN labels l ON l.id = s.label_id LEFT JOIN models m ON m.id = s.model_id "
        "WHERE s.verdict IS NOT 'rejected' ORDER BY s.id DESC LIMIT ?",
        (8 * limit,),
    )
    once: dict[tuple[int, str], Moment] = {}
    for moment, content, label, start_ms, end_ms, score, model in rows:
        if len(once) < limit and (content, label) not in once:
            path, display = _file(reader, content)
            said_by = "user" if model is None else "model"
            place = path if path is not None else os.fsencode(display)
            once[content, label] = Moment(
                moment, place, label, start_ms, end_ms, score, model, said_by, path is not None
            )
    return list(once.values())


def latest_moment_id(reader: sqlite3.Connection) -> int:
    """The id of the moment that was written last: while it stays, what was found is the same."""
    return int(reader.execute("SELECT coalesce(max(id), 0) FROM segments").fetchone()[0])


def volumes(reader: sqlite3.Connection) -> list[VolumeRow]:
    """The volumes that files were seen on."""
    rows = reader.execute(
        "SELECT v.key, v.mount, v.display, count(*), sum(f.state = 'missing') FROM volumes v "
        "JOIN files f ON f.volume_id = v.id GROUP BY v.id ORDER BY v.display"
    )
    return [VolumeRow._make(row) for row in rows]


def models(reader: sqlite3.Connection) -> list[str]:
    """The names of the models that said something, the latest first."""
    return [row[0] for row in reader.execute("SELECT name FROM models GROUP BY name ORDER BY max(id) DESC")]


def videos_by_length(reader: sqlite3.Connection) -> list[int]:
    """Content ids of the videos that could be read, the shortest first."""
    rows = reader.execute(
        "SELECT id FROM contents WHERE error IS NULL AND duration_ms IS NOT NULL ORDER BY duration_ms, id"
    )
    return [row[0] for row in rows]


def latest_videos(reader: sqlite3.Connection, limit: int) -> list[tuple[int, str, int]]:
    """Content id, display path and length in ms of the videos that were seen last; those without a file left out."""
    rows = reader.execute(
        "SELECT c.id, (SELECT display FROM files WHERE content_id = c.id ORDER BY state DESC, id LIMIT 1) AS place, "
        "c.duration_ms FROM contents c WHERE c.error IS NULL AND c.duration_ms > 0 AND place IS NOT NULL "
        "ORDER BY c.id DESC LIMIT ?",
        (limit,),
    )
    return list(rows)


def labels_with_moments(reader: sqlite3.Connection) -> list[str]:
    """The labels of which there is a moment, by name: one look into the index for each."""
    rows = reader.execute(
        "SELECT name FROM labels l WHERE EXISTS (SELECT 1 FROM segments WHERE label_id = l.id) ORDER BY name"
    )
    return [row[0] for row in rows]


def roots(reader: sqlite3.Connection) -> list[bytes]:
    """Absolute paths of the folders and files that scans were pointed at."""
    rows = reader.execute("SELECT v.mount, r.path FROM roots r JOIN volumes v ON v.id = r.volume_id")
    return [os.path.normpath(os.path.join(mount, path)) for mount, path in rows]


def _file(reader: sqlite3.Connection, content_id: int) -> tuple[bytes | None, str]:
    rows = reader.execute(
        "SELECT v.mount, f.path, f.display FROM files f JOIN volumes v ON v.id = f.volume_id "
        "WHERE f.content_id = ? ORDER BY f.state DESC, f.id",
        (content_id,),
    ).fetchall()
    below = [os.path.realpath(root) for root in roots(reader)]
    for mount, path, display in rows:
        real = os.path.realpath(os.path.join(mount, path))  # a link must not lead out of the roots
        if any(real == root or real.startswith(os.path.join(root, b"")) for root in below) and _is_file(real):
            return real, display
    return None, rows[0][2] if rows else "a video that is gone"


def _is_file(path: bytes) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return False
