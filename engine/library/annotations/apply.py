"""A content's segments held against what a person said of it: which word covers what, and what is theirs alone."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from vtag.engine.library.database import Library
from vtag.engine.library.store.duplicates import with_duplicates

_COVERS = 0.5  # a word covers what it overlaps by half
_ALL_MS = 1 << 53  # the end of a word on a whole video
_SHOWN_MS = 1000  # of a word on a whole video whose length is not known yet


def apply_annotations(library: Library, content_id: int) -> None:
    """Hold the segments of a content against the words on it and on its twins.

    Each derived segment takes the latest verdict that covers it by half. What a person added or confirmed and no
    model sees (any more) is there as a segment of its own, of source user, unless it was rejected since.
    """
    with library.transaction() as db:
        _settle(db, content_id)


def apply_all_annotations(db: sqlite3.Connection) -> None:
    """Settle every content that a person spoke of, in the caller's transaction."""
    spoken_of = [row[0] for row in db.execute("SELECT DISTINCT content_id FROM words")]
    for content_id in sorted({twin for spoken in spoken_of for twin in with_duplicates(db, spoken)}):
        _settle(db, content_id)


def _settle(db: sqlite3.Connection, content_id: int) -> None:
    spoken: dict[str, list[AnnotatedRange]] = defaultdict(list)
    kin = with_duplicates(db, content_id)
    rows = db.execute(
        "SELECT id, label, start_ms, end_ms, verdict FROM words "
        f"WHERE content_id IN ({', '.join('?' * len(kin))}) ORDER BY said_at, id",
        kin,
    ).fetchall()
    for row in rows:
        spoken[row[1]].append(
            AnnotatedRange(row[0], row[2] or 0, _ALL_MS if row[3] is None else row[3], row[4])
        )
    segments = db.execute(
        "SELECT s.id, l.name, s.start_ms, s.end_ms, s.verdict, s.model_id FROM segments s "
        "JOIN labels l ON l.id = s.label_id WHERE s.content_id = ?",
        (content_id,),
    ).fetchall()
    if not rows and all(s[4] is None and s[5] is not None for s in segments):
        return
    derived = [s for s in segments if s[5] is not None]
    judged = [(s[0], s[4], verdict_for_range(s[2], s[3], spoken[s[1]])) for s in derived]
    db.executemany(
        "UPDATE segments SET verdict = ? WHERE id = ?",
        [(now_, i) for i, was, now_ in judged if was != now_],
    )
    _show_own(db, content_id, spoken, derived)


def unrejected_ranges(reader: sqlite3.Connection, key: str, labels: Sequence[str]) -> list[tuple[int, int]]:
    """Start and end in milliseconds of a content's moments of any of `labels`, without those that were rejected."""
    marks = ", ".join("?" * len(labels))
    rows = reader.execute(
        "SELECT s.start_ms, s.end_ms FROM segments s JOIN labels l ON l.id = s.label_id "
        f"JOIN contents c ON c.id = s.content_id WHERE c.key = ? AND l.name IN ({marks}) "
        "AND s.verdict IS NOT 'rejected'",
        (key, *labels),
    )
    return rows.fetchall()


class AnnotatedRange(NamedTuple):
    """A word as `verdict_on` needs it; one on a whole video ends at the end of time."""

    word_id: int
    start_ms: int
    end_ms: int
    verdict: str


def verdict_for_range(start_ms: int, end_ms: int, annotations: Sequence[AnnotatedRange]) -> str | None:
    """What is to be held of a segment: of the words in the order they were said, the latest that cover half of it.

    Words of one verdict cover together what each of them does.
    """
    covered: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for word in reversed(annotations):
        start, end = max(start_ms, word.start_ms), min(end_ms, word.end_ms)
        if start < end:
            verdict = "rejected" if word.verdict == "rejected" else "confirmed"
            covered[verdict].append((start, end))
            if _length(covered[verdict]) >= _COVERS * (end_ms - start_ms):
                return verdict
    return None


def _length(spans: Iterable[tuple[int, int]]) -> int:
    total = reach = 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reach))
        reach = max(reach, end)
    return total


def _show_own(
    db: sqlite3.Connection,
    content_id: int,
    spoken: dict[str, list[AnnotatedRange]],
    derived: Sequence[tuple[int, str, int, int, str | None, int]],
) -> None:
    """Make the segments of source user what the words ask for; those that stay keep their ids."""
    (duration_ms,) = db.execute("SELECT duration_ms FROM contents WHERE id = ?", (content_id,)).fetchone()
    by_label: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for _, label, start, end, *_ in derived:
        by_label[label].append((start, end))
    wanted = set()
    for label, said_of in spoken.items():
        for word in said_of:
            seen = any(_half(word, start, end) for start, end in by_label[label])
            if word.verdict == "added" or (word.verdict == "confirmed" and not seen):
                whole = duration_ms or word.start_ms + _SHOWN_MS
                end = whole if word.start_ms < whole < word.end_ms else word.end_ms
                if verdict_for_range(word.start_ms, end, said_of) != "rejected":
                    wanted.add((word.word_id, label, word.start_ms, end))
    there = {
        (word, label, start, end): segment
        for segment, word, label, start, end in db.execute(
            "SELECT s.id, s.word_id, l.name, s.start_ms, s.end_ms FROM segments s "
            "JOIN labels l ON l.id = s.label_id WHERE s.content_id = ? AND s.model_id IS NULL",
            (content_id,),
        )
    }
    gone = [(there[key],) for key in there.keys() - wanted]
    db.executemany("DELETE FROM segments WHERE id = ?", gone)
    new = sorted(wanted - there.keys())
    db.executemany("INSERT INTO labels (name) VALUES (?) ON CONFLICT DO NOTHING", [(row[1],) for row in new])
    db.executemany(
        "INSERT INTO segments (content_id, word_id, label_id, start_ms, end_ms, score, verdict) "
        "VALUES (?, ?, (SELECT id FROM labels WHERE name = ?), ?, ?, 1, 'confirmed')",
        [(content_id, *row) for row in new],
    )


def _half(word: AnnotatedRange, start_ms: int, end_ms: int) -> bool:
    """Whether a word covers half of a segment."""
    return min(end_ms, word.end_ms) - max(start_ms, word.start_ms) >= _COVERS * (end_ms - start_ms)
