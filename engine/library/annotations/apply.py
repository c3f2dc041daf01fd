"""Applies annotations to segments: gives each segment its verdict, and adds the moments that only a person saw."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vtag.engine.library.ranges import COVERED_SHARE, END_OF_TIME_MS, covers
from vtag.engine.library.store.duplicates import is_same_range, with_duplicates

if TYPE_CHECKING:
    from vtag.engine.library.database import LibraryWriter

_SHOWN_MS = 1000  # length of the segment of an annotation on a whole video whose length is not known yet


class AnnotatedRange(NamedTuple):
    """An annotation without its label; one on a whole video ends at END_OF_TIME_MS."""

    annotation_id: int
    start_ms: int
    end_ms: int
    verdict: str  # added, confirmed, rejected


class _LabelledSegment(NamedTuple):
    id: int
    label: str
    start_ms: int
    end_ms: int
    verdict: str | None
    model_id: int | None  # None: a person's own moment
    is_sure: bool  # at its label's threshold


def apply_annotations(library: LibraryWriter, content_id: int) -> None:
    """Update the segments of a content by the annotations on it and on its duplicates.

    Each derived segment takes the latest verdict that covers at least half of it; a less sure one only a rejection.
    An annotation that is added, or confirmed and not sure by any model (any more), gets a segment of its own, unless
    a later one rejects it.
    """
    with library.transaction() as db:
        _apply(db, content_id)


def apply_all_annotations(db: sqlite3.Connection) -> None:
    """Update the segments of every annotated content, in the caller's transaction."""
    annotated = [row[0] for row in db.execute("SELECT DISTINCT content_id FROM words")]
    for content_id in sorted({same for content in annotated for same in with_duplicates(db, content)}):
        _apply(db, content_id)


def verdict_for_range(start_ms: int, end_ms: int, annotations: Sequence[AnnotatedRange]) -> str | None:
    """The verdict on a range, "confirmed" or "rejected": that of the latest annotations that cover half of it.

    `annotations` are in the order in which they were made. Those of one verdict add up: two that cover a quarter
    each cover half.
    """
    overlaps: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for annotation in reversed(annotations):
        start, end = max(start_ms, annotation.start_ms), min(end_ms, annotation.end_ms)
        if start < end:
            verdict = "rejected" if annotation.verdict == "rejected" else "confirmed"
            overlaps[verdict].append((start, end))
            if _union_length(overlaps[verdict]) >= COVERED_SHARE * (end_ms - start_ms):
                return verdict
    return None


def unrejected_ranges(reader: sqlite3.Connection, key: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end (ms) of a content's sure segments of any of `labels`, without rejected ones."""
    marks = ", ".join("?" * len(labels))
    rows = reader.execute(
        "SELECT s.start_ms, s.end_ms FROM sure_segments s JOIN labels l ON l.id = s.label_id "
        f"JOIN contents c ON c.id = s.content_id WHERE c.key = ? AND l.name IN ({marks}) "
        "AND s.verdict IS NOT 'rejected'",
        (key, *labels),
    )
    return rows.fetchall()


def _apply(db: sqlite3.Connection, content_id: int) -> None:
    annotations = _annotations_by_label(db, content_id)
    rows = db.execute(
        "SELECT s.id, l.name, s.start_ms, s.end_ms, s.verdict, s.model_id, s.margin >= 0 FROM segments s "
        "JOIN labels l ON l.id = s.label_id WHERE s.content_id = ?",
        (content_id,),
    )
    segments = [_LabelledSegment(*row) for row in rows]
    if not annotations and all(s.verdict is None and s.model_id is not None for s in segments):
        return
    derived = [segment for segment in segments if segment.model_id is not None]
    verdicts = [_verdict_for_segment(s, annotations.get(s.label, ())) for s in derived]
    db.executemany(
        "UPDATE segments SET verdict = ? WHERE id = ?",
        [(verdict, s.id) for s, verdict in zip(derived, verdicts, strict=True) if verdict != s.verdict],
    )
    sure = [segment for segment in derived if segment.is_sure]
    _write_own_segments(db, content_id, _own_segments(db, content_id, annotations, sure))


def _verdict_for_segment(segment: _LabelledSegment, annotations: Sequence[AnnotatedRange]) -> str | None:
    """A less sure segment is not confirmed: its range is a guess, and the person's own moment has the true one."""
    verdict = verdict_for_range(segment.start_ms, segment.end_ms, annotations)
    return None if verdict == "confirmed" and not segment.is_sure else verdict


def _annotations_by_label(db: sqlite3.Connection, content_id: int) -> dict[str, list[AnnotatedRange]]:
    """The annotations on a content and its duplicates, the earliest first."""
    content_ids = with_duplicates(db, content_id)
    rows = db.execute(
        "SELECT label, id, coalesce(start_ms, 0), coalesce(end_ms, ?), verdict FROM words "
        f"WHERE content_id IN ({', '.join('?' * len(content_ids))}) ORDER BY said_at, id",
        (END_OF_TIME_MS, *content_ids),
    )
    by_label: dict[str, list[AnnotatedRange]] = defaultdict(list)
    for label, *annotation in rows:
        by_label[label].append(AnnotatedRange(*annotation))
    return dict(by_label)


def _own_segments(
    db: sqlite3.Connection,
    content_id: int,
    annotations_by_label: Mapping[str, Sequence[AnnotatedRange]],
    derived: Sequence[_LabelledSegment],
) -> set[tuple[int, str, int, int]]:
    """Annotation id, label, start and end (ms) of each segment that no model but a person asks for."""
    (duration_ms,) = db.execute("SELECT duration_ms FROM contents WHERE id = ?", (content_id,)).fetchone()
    derived_ranges: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for segment in derived:
        derived_ranges[segment.label].append((segment.start_ms, segment.end_ms))
    segments = set()
    for label, label_annotations in annotations_by_label.items():
        for annotation_id, start_ms, end_ms, verdict in _without_twins(db, content_id, label_annotations):
            is_derived = any(covers(start_ms, end_ms, *range_ms) for range_ms in derived_ranges[label])
            if verdict == "added" or (verdict == "confirmed" and not is_derived):
                shown_end_ms = _shown_end(start_ms, end_ms, duration_ms)
                if verdict_for_range(start_ms, shown_end_ms, label_annotations) != "rejected":
                    segments.add((annotation_id, label, start_ms, shown_end_ms))
    return segments


def _shown_end(start_ms: int, end_ms: int, duration_ms: int | None) -> int:
    """Where the segment of an annotation ends: with the video, if the video's length is known."""
    if duration_ms:
        return duration_ms if start_ms < duration_ms < end_ms else end_ms
    return start_ms + _SHOWN_MS if end_ms == END_OF_TIME_MS else end_ms


def _without_twins(
    db: sqlite3.Connection, content_id: int, annotations: Sequence[AnnotatedRange]
) -> list[AnnotatedRange]:
    """`annotations` of one label without those that repeat, on a duplicate, what was said of the same range.

    That on the content itself counts, so that a change to its moment changes its own annotation.
    """
    of_content = dict(
        db.execute(
            "SELECT id, content_id FROM words WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps([annotation.annotation_id for annotation in annotations]),),
        )
    )
    kept: list[AnnotatedRange] = []
    for annotation in sorted(annotations, key=lambda a: of_content[a.annotation_id] != content_id):
        if annotation.verdict == "rejected" or not any(
            of_content[other.annotation_id] != of_content[annotation.annotation_id]
            and is_same_range(other.start_ms, other.end_ms, annotation.start_ms, annotation.end_ms)
            for other in kept
            if other.verdict != "rejected"
        ):
            kept.append(annotation)
    return kept


def _write_own_segments(
    db: sqlite3.Connection, content_id: int, segments: set[tuple[int, str, int, int]]
) -> None:
    """Make a content's own segments those in `segments`; unchanged ones keep their ids."""
    rows = db.execute(
        "SELECT s.word_id, l.name, s.start_ms, s.end_ms, s.id FROM segments s "
        "JOIN labels l ON l.id = s.label_id WHERE s.content_id = ? AND s.model_id IS NULL",
        (content_id,),
    )
    existing_ids = {tuple(segment): segment_id for *segment, segment_id in rows}
    obsolete = [(existing_ids[segment],) for segment in existing_ids.keys() - segments]
    db.executemany("DELETE FROM segments WHERE id = ?", obsolete)
    new = sorted(segments - existing_ids.keys())
    db.executemany(
        "INSERT INTO labels (name) VALUES (?) ON CONFLICT DO NOTHING", [(label,) for _, label, *_ in new]
    )
    db.executemany(
        "INSERT INTO segments (content_id, word_id, label_id, start_ms, end_ms, score, verdict) "
        "VALUES (?, ?, (SELECT id FROM labels WHERE name = ?), ?, ?, 1, 'confirmed')",
        [(content_id, *segment) for segment in new],
    )


def _union_length(ranges: Iterable[tuple[int, int]]) -> int:
    total = end_so_far = 0
    for start, end in sorted(ranges):
        total += max(0, end - max(start, end_so_far))
        end_so_far = max(end_so_far, end)
    return total
