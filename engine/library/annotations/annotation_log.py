"""A person's word: what was added, confirmed and rejected, with a log in which every change can be undone.

A word is a verdict on a label in a stretch of a content. It never depends on a model; what it means for the segments
is settled (`verdicts`) whenever either changed. Nothing but a person's own command changes a word.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import Library
from vtag.engine.library.search.labels import has_letters
from vtag.engine.library.store.duplicates import with_duplicates
from vtag.engine.library.timestamps import normalize_timestamp, now, now_after
from vtag.engine.swin.config import NONE_OF_THESE
from vtag.engine.text import printable

VERDICTS = ("added", "confirmed", "rejected")
_MOST_MS = 1 << 53  # above it, readers of JSON may round
_LONGEST_LABEL = 200
_WORDS = (
    "SELECT c.key, w.label, w.start_ms, w.end_ms, w.verdict, w.said_at FROM words w "
    "JOIN contents c ON c.id = w.content_id"
)


class Annotation(NamedTuple):
    """What a person said of `label` in a content, from `start_ms` to `end_ms` (None, None: in all of it)."""

    content: str  # the content's key
    label: str
    start_ms: int | None
    end_ms: int | None
    verdict: str
    said_at: str  # as `timestamps` writes it


class AnnotationChange(NamedTuple):
    """One entry of the log: the words that it touched, as they were before and after."""

    id: int
    at: str
    action: str  # added, confirmed, rejected, renamed, imported, forgotten
    before: tuple[Annotation, ...]
    after: tuple[Annotation, ...]
    undone_at: str | None


Place = tuple[str, str, int | None, int | None]  # content key, label, start_ms, end_ms: one word each


# --- what a person does ---------------------------------------------------------------------------------------


def record_verdict(
    library: Library,
    content_id: int,
    label: str,
    verdict: str,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> AnnotationChange:
    """Record a verdict on `label` in a content: in all of it, or from `start_ms` to `end_ms`.

    It counts before every verdict that was recorded earlier. Raises LibraryError if the label or the range is none.
    """
    row = library.connection.execute(
        "SELECT key, duration_ms FROM contents WHERE id = ?", (content_id,)
    ).fetchone()
    if row is None:
        raise LibraryError("this video is gone from the library: search again")
    start_ms, end_ms = _checked_range(start_ms, end_ms, row[1])
    place = (row[0], resolve_label(library, label), start_ms, end_ms)
    return _record_verdicts(library, verdict, {place: verdict})


def add(
    library: Library, content_id: int, label: str, start_ms: int | None = None, end_ms: int | None = None
) -> AnnotationChange:
    """Say that `label` is seen in a content, in all of it or from `start_ms` to `end_ms`.

    Raises LibraryError where the label or the range is none.
    """
    return record_verdict(library, content_id, label, "added", start_ms, end_ms)


def confirm(library: Library, moments: Iterable[int]) -> AnnotationChange:
    """Say that moments (by their ids) are what they are called. Raises LibraryError where one is not there."""
    verdicts = {_place(m): m.own or "confirmed" for m in _moments(library, moments)}
    return _record_verdicts(library, "confirmed", verdicts)


def reject(library: Library, moments: Iterable[int]) -> AnnotationChange:
    """Say that moments are not what they are called. Raises LibraryError where one is not there."""
    return _record_verdicts(library, "rejected", {_place(m): "rejected" for m in _moments(library, moments)})


def rename(library: Library, moments: Iterable[int], label: str) -> AnnotationChange:
    """Say that moments are `label` and not what they are called. Raises LibraryError."""
    label = resolve_label(library, label)
    named: dict[Place, str | None] = {}
    for moment in _moments(library, moments):
        if moment.label == label:
            raise LibraryError(f"moment {moment.id} is called {printable(label)} already")
        named[_place(moment)] = None if moment.own == "added" else "rejected"
        named[(moment.content, label, moment.start_ms, moment.end_ms)] = "added"
    return _record_verdicts(library, "renamed", named)


def undo(library: Library) -> AnnotationChange:
    """Take back the latest change that was not taken back. Raises LibraryError where there is none."""
    with library.transaction() as db:
        row = db.execute(
            "SELECT id, at, action, before, after, undone_at FROM word_log WHERE undone_at IS NULL "
            "ORDER BY id DESC LIMIT 1"
        ).fetchone()
        if row is None:
            raise LibraryError("there is nothing to undo")
        change = _change(row)
        _put(library, removed=change.after, written=change.before)
        db.execute("UPDATE word_log SET undone_at = ? WHERE id = ?", (_next_time(db), change.id))
    return change


# --- what there is --------------------------------------------------------------------------------------------


def list_changes(reader: sqlite3.Connection, limit: int = -1) -> list[AnnotationChange]:
    """The changes, latest first."""
    rows = reader.execute(
        "SELECT id, at, action, before, after, undone_at FROM word_log ORDER BY id DESC LIMIT ?", (limit,)
    )
    return [_change(row) for row in rows]


def list_annotations(reader: sqlite3.Connection) -> list[Annotation]:
    """All words, in the order in which they were said."""
    return [Annotation(*row) for row in reader.execute(f"{_WORDS} ORDER BY w.said_at, w.id")]


def merge_annotations(
    library: Library, annotations: Iterable[Annotation], action: str = "imported"
) -> AnnotationChange:
    """Add words from elsewhere; of two on the same place the later one counts, in whatever order they come.

    The same words again change nothing: then the change has the id 0 and is not in the log.
    A content that the library has not seen yet keeps its words until it is.
    """
    with library.transaction() as db:
        known = {_at(word): word for word in list_annotations(db)}
        taken: dict[Place, Annotation] = {}
        present = _next_time(db)
        for word in _latest(annotations):
            other = known.get(_at(word))
            if word.said_at > present:
                # a date to come would count before all that is said until then: the word is of today, and only once
                if other and other.verdict == word.verdict and not _is_overruled(db, other):
                    continue
                present = now_after(present)
                word = word._replace(said_at=present)
            if other is None or word.said_at > other.said_at:
                taken[_at(word)] = word
        return _record(library, action, [known[at] for at in taken if at in known], list(taken.values()))


def _latest(words: Iterable[Annotation]) -> list[Annotation]:
    """The latest word of each place, by time."""
    comparable = [word._replace(said_at=normalize_timestamp(word.said_at)) for word in words]
    by_time = sorted(comparable, key=lambda word: word.said_at)
    latest = {_at(word): word for word in by_time}
    return [word for word in by_time if latest[_at(word)] is word]


def remove_annotations(library: Library, content_ids: Iterable[int]) -> AnnotationChange:
    """Take all words on contents away, which a person has to have asked for; `undo` brings them back."""
    with library.transaction() as db:
        gone = []
        for content_id in content_ids:
            rows = db.execute(f"{_WORDS} WHERE w.content_id = ? ORDER BY w.said_at, w.id", (content_id,))
            gone += [Annotation(*row) for row in rows]
        return _record(library, "forgotten", gone, [])


def rename_label(library: Library, label: str, name: str) -> AnnotationChange:
    """Call all that was said of a label by another name; where both are on one place, the later counts.

    Raises LibraryError where nothing was said of it, or where the name can be no label.
    """
    name = resolve_label(library, name)
    with library.transaction() as db:
        before = _of_label(db, label)
        if name == before[0].label:
            raise LibraryError(f"it is called {printable(name)} already")
        renamed = {_at(word._replace(label=name)): word._replace(label=name) for word in before}
        for at in renamed:
            if other := _known(db, at):
                before.append(other)
                renamed[at] = max(renamed[at], other, key=lambda word: word.said_at)
        return _record(library, "renamed", before, list(renamed.values()))


def remove_label(library: Library, label: str) -> AnnotationChange:
    """Take all that was said of a label away; `undo` brings it back. Raises LibraryError where that is nothing."""
    with library.transaction() as db:
        return _record(library, "forgotten", _of_label(db, label), [])


def _of_label(db: sqlite3.Connection, label: str) -> list[Annotation]:
    rows = db.execute(f"{_WORDS} WHERE w.label = ? COLLATE NOCASE ORDER BY w.said_at, w.id", (label.strip(),))
    if not (found := [Annotation(*row) for row in rows]):
        raise LibraryError(f"you said nothing of {printable(label)[:40]!r}")
    return found


def is_valid_label(text: str) -> bool:
    """Whether `text` can be a label: letters, on one line, not too long, and not what stands for no label."""
    return (
        has_letters(text)
        and len(text) <= _LONGEST_LABEL
        and printable(text) == text == " ".join(text.split())
        and text.casefold() != NONE_OF_THESE
    )


def resolve_label(library: Library, label: str) -> str:
    """`label` as the library spells it, or as a new one. Raises LibraryError where it cannot be one."""
    label = " ".join(label.split())
    if not is_valid_label(label):
        raise LibraryError(
            f"{printable(label[:40])!r} cannot be a label: one has letters, at most {_LONGEST_LABEL} of them"
        )
    spellings = {name.casefold(): name for (name,) in library.connection.execute("SELECT name FROM labels")}
    return str(spellings.get(label.casefold(), label))


# --- writing --------------------------------------------------------------------------------------------------


def _record_verdicts(library: Library, action: str, verdicts: Mapping[Place, str | None]) -> AnnotationChange:
    """Write a verdict for each place; None takes the word there away. One entry of the log for all."""
    with library.transaction() as db:
        at = _next_time(db)
        before = [word for place in verdicts if (word := _known(db, place))]
        after = [
            Annotation(*place, verdict, at) for place, verdict in verdicts.items() if verdict is not None
        ]
        is_known = [word._replace(said_at=at) for word in before] == after
        if is_known and not any(_is_overruled(db, word) for word in before):
            before = after = []
        return _record(library, action, before, after)


def _next_time(db: sqlite3.Connection) -> str:
    """A timestamp that is later than those of all words and changes, whatever clocks they were given by."""
    (latest,) = db.execute(
        "SELECT max(coalesce((SELECT max(said_at) FROM words), ''), "
        "coalesce((SELECT at FROM word_log ORDER BY id DESC LIMIT 1), ''))"
    ).fetchone()
    return now_after(latest)


def _is_overruled(db: sqlite3.Connection, word: Annotation) -> bool:
    """Whether a later word says something else of a part of its range: said again, the word counts anew."""
    content_ids = with_duplicates(db, _content(db, word.content))
    later = db.execute(
        f"SELECT 1 FROM words WHERE content_id IN ({', '.join('?' * len(content_ids))}) AND label = ? "
        "AND said_at >= ? AND (verdict = 'rejected') <> ? "
        "AND coalesce(start_ms, 0) < ? AND coalesce(end_ms, ?) > ? LIMIT 1",
        (
            *content_ids,
            word.label,
            word.said_at,
            word.verdict == "rejected",
            _MOST_MS if word.end_ms is None else word.end_ms,
            _MOST_MS,
            word.start_ms or 0,
        ),
    )
    return later.fetchone() is not None


def _known(db: sqlite3.Connection, place: Place) -> Annotation | None:
    row = db.execute(
        f"{_WORDS} WHERE c.key = ? AND w.label = ? AND w.start_ms IS ? AND w.end_ms IS ?", place
    ).fetchone()
    return Annotation(*row) if row else None


def _record(
    library: Library, action: str, before: Sequence[Annotation], after: Sequence[Annotation]
) -> AnnotationChange:
    with library.transaction() as db:
        if not before and not after:
            return AnnotationChange(0, _next_time(db), action, (), (), None)
        _put(library, removed=before, written=after)
        at = _next_time(db)
        cursor = db.execute(
            "INSERT INTO word_log (at, action, before, after) VALUES (?, ?, ?, ?)",
            (at, action, _as_text(before), _as_text(after)),
        )
        return AnnotationChange(int(cursor.lastrowid or 0), at, action, tuple(before), tuple(after), None)


def _put(library: Library, *, removed: Iterable[Annotation], written: Iterable[Annotation]) -> None:
    """Take words away and write others, in one transaction, and settle every content that hears of them."""
    with library.transaction() as db:
        touched = set()
        for word in removed:
            content_id = _content(db, word.content)
            touched.add(content_id)
            db.execute(
                "DELETE FROM words WHERE content_id = ? AND label = ? AND start_ms IS ? AND end_ms IS ?",
                (content_id, word.label, word.start_ms, word.end_ms),
            )
        for word in written:
            content_id = _content(db, word.content)
            touched.add(content_id)
            db.execute(
                "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (content_id, word.label, word.start_ms, word.end_ms, word.verdict, word.said_at),
            )
        for content_id in {twin for at in touched for twin in with_duplicates(db, at)}:
            apply_annotations(library, content_id)


def _content(db: sqlite3.Connection, key: str) -> int:
    """The id of the content with this key; one that is not known (any more) is written down to hold its words."""
    db.execute(
        "INSERT INTO contents (key, size_bytes, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (key, int(key.split("-")[0]), now()),
    )
    return int(db.execute("SELECT id FROM contents WHERE key = ?", (key,)).fetchone()[0])


class _AnnotatedMoment(NamedTuple):
    id: int
    content: str
    label: str
    start_ms: int | None
    end_ms: int | None
    own: str | None  # the verdict of the word that it comes from, where no model saw it


def _moments(library: Library, ids: Iterable[int]) -> list[_AnnotatedMoment]:
    """The moments with these ids; of a person's own the range that was said. Raises LibraryError."""
    found = []
    for moment in dict.fromkeys(ids):
        row = library.connection.execute(
            "SELECT s.id, coalesce(wc.key, c.key), l.name, s.start_ms, s.end_ms, w.start_ms, w.end_ms, w.verdict "
            "FROM segments s JOIN contents c ON c.id = s.content_id JOIN labels l ON l.id = s.label_id "
            "LEFT JOIN words w ON w.id = s.word_id LEFT JOIN contents wc ON wc.id = w.content_id WHERE s.id = ?",
            (min(moment, _MOST_MS),),
        ).fetchone()
        if row is None:
            raise LibraryError(
                f"there is no moment {moment} (any more): `vtag search` gives the ids of today"
            )
        start_ms, end_ms = row[3:5] if row[7] is None else row[5:7]
        found.append(_AnnotatedMoment(row[0], row[1], row[2], start_ms, end_ms, row[7]))
    return found


def _place(moment: _AnnotatedMoment) -> Place:
    return moment.content, moment.label, moment.start_ms, moment.end_ms


def _at(word: Annotation) -> Place:
    return word.content, word.label, word.start_ms, word.end_ms


def _checked_range(
    start_ms: int | None, end_ms: int | None, duration_ms: int | None
) -> tuple[int | None, int | None]:
    if start_ms is None and end_ms is None:
        return None, None
    start = start_ms or 0
    end = end_ms if end_ms is not None else duration_ms
    if end is None:
        raise LibraryError("the length of this video is not known yet: say --to, too")
    if duration_ms is not None:
        end = min(end, duration_ms)
        if start >= duration_ms:
            raise LibraryError(f"the video ends at {duration_ms / 1000:.1f} s, before that moment begins")
    if start < 0 or end <= start or end >= _MOST_MS:
        raise LibraryError("a moment has to end after it begins")
    return start, end


def _change(row: tuple[int, str, str, str | None, str | None, str | None]) -> AnnotationChange:
    before, after = (tuple(Annotation(**entry) for entry in json.loads(text or "[]")) for text in row[3:5])
    return AnnotationChange(row[0], row[1], row[2], before, after, row[5])


def _as_text(words: Iterable[Annotation]) -> str:
    return json.dumps([word._asdict() for word in words], ensure_ascii=False)
