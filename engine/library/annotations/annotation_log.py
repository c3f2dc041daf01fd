"""A person's annotations, and a log of every change to them, which can be undone.

An annotation is a verdict on a label in a range of a content. It never depends on a model. Whenever annotations or
derived segments change, `apply` updates the verdicts of the segments. Only a person's command changes an annotation.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.annotations.validation import checked_range, resolve_label
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.library.store.duplicates import is_same_range, with_duplicates
from vtag.engine.library.store.label_names import annotated_spellings
from vtag.engine.library.timestamps import normalize_timestamp, now, now_after
from vtag.engine.text import printable

VERDICTS = ("added", "confirmed", "rejected")
_HIGHEST_ID = 1 << 53  # no moment has a higher id; SQLite refuses integers of more than 64 bits
_SELECT = (
    "SELECT c.key, w.label, w.start_ms, w.end_ms, w.verdict, w.said_at FROM words w "
    "JOIN contents c ON c.id = w.content_id"
)
_SELECT_CHANGES = "SELECT id, at, action, before, after, undone_at FROM word_log"


class Annotation(NamedTuple):
    """A verdict on `label` in a content, from `start_ms` to `end_ms`; None and None stand for all of it.

    The fields are the keys of the log's JSON and of `vtag words --json`.
    """

    content: str  # the content's key
    label: str
    start_ms: int | None
    end_ms: int | None
    verdict: str
    said_at: str  # as `timestamps` writes it

    @property
    def range_ms(self) -> tuple[int, int]:
        """Start and end; a whole video ends at END_OF_TIME_MS."""
        return self.start_ms or 0, END_OF_TIME_MS if self.end_ms is None else self.end_ms

    @property
    def slot(self) -> Slot:
        """What identifies the annotation: there is at most one with the same slot."""
        return self.content, self.label, self.start_ms, self.end_ms


class AnnotationChange(NamedTuple):
    """An entry of the log: the annotations that a change touched, as they were before and after it.

    The fields are the keys of `vtag tag log --json`.
    """

    id: int
    at: str
    action: str  # added, confirmed, rejected, renamed, moved, imported, forgotten
    before: tuple[Annotation, ...]
    after: tuple[Annotation, ...]
    undone_at: str | None


Slot = tuple[str, str, int | None, int | None]  # content key, label, start_ms, end_ms


# --- a person's commands --------------------------------------------------------------------------------------


def record_verdict(
    library: LibraryWriter,
    content_id: int,
    label: str,
    verdict: str,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> AnnotationChange:
    """Record a verdict on `label` in a content: in all of it, or from `start_ms` to `end_ms`.

    It overrules every earlier verdict. Raises LibraryError if the label or the range is invalid.
    """
    slot = _slot(library, content_id, resolve_label(library, label), start_ms, end_ms)
    return _record_verdicts(library, verdict, {slot: verdict})


def add(
    library: LibraryWriter,
    content_id: int,
    label: str,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> AnnotationChange:
    """Add `label` to a content or to a range of it. Raises LibraryError if the label or the range is invalid."""
    return record_verdict(library, content_id, label, "added", start_ms, end_ms)


def confirm(library: LibraryWriter, moment_ids: Iterable[int]) -> AnnotationChange:
    """Confirm the labels of moments. Raises LibraryError if there is no such moment."""
    moments = _moments(library, moment_ids)
    return _record_verdicts(library, "confirmed", {m.slot: m.own_verdict or "confirmed" for m in moments})


def reject(library: LibraryWriter, moment_ids: Iterable[int]) -> AnnotationChange:
    """Reject the labels of moments. Raises LibraryError if there is no such moment."""
    moments = _moments(library, moment_ids)
    return _record_verdicts(library, "rejected", {moment.slot: "rejected" for moment in moments})


def add_ranges(
    library: LibraryWriter, ranges: Iterable[tuple[int, int | None, int | None]], label: str
) -> AnnotationChange:
    """Add `label` to ranges (content id, start_ms, end_ms) as one change.

    Raises LibraryError if the label or a range is invalid.
    """
    label = resolve_label(library, label)
    slots = [_slot(library, content_id, label, start_ms, end_ms) for content_id, start_ms, end_ms in ranges]
    return _record_verdicts(library, "added", dict.fromkeys(slots, "added"))


def move(library: LibraryWriter, moment_id: int, start_ms: int, end_ms: int) -> AnnotationChange:
    """Give a moment another range. A model's moment is rejected, and its label added to the new range.

    Raises LibraryError if there is no such moment, or if the range is invalid.
    """
    (moment,) = _moments(library, [moment_id])
    (content_id,) = library.connection.execute(
        "SELECT content_id FROM segments WHERE id = ?", (moment_id,)
    ).fetchone()
    new = (moment.content, *_slot(library, content_id, moment.label, start_ms, end_ms)[1:])
    verdicts: dict[Slot, str | None] = {moment.slot: None if moment.own_verdict == "added" else "rejected"}
    return _record_verdicts(library, "moved", verdicts | {new: "added"})


def rename(library: LibraryWriter, moment_ids: Iterable[int], label: str) -> AnnotationChange:
    """Reject the labels of moments and add `label` instead.

    Raises LibraryError if there is no such moment, or if it has this label already.
    """
    label = resolve_label(library, label)
    verdicts: dict[Slot, str | None] = {}
    for moment in _moments(library, moment_ids):
        if moment.label == label:
            raise LibraryError(f"moment {moment.id} is called {printable(label)} already")
        verdicts[moment.slot] = None if moment.own_verdict == "added" else "rejected"
        if moment.own_verdict == "added":
            verdicts |= dict.fromkeys(_slots_on_duplicates(library, moment))
        verdicts[(moment.content, label, moment.start_ms, moment.end_ms)] = "added"
    return _record_verdicts(library, "renamed", verdicts)


def remove_annotations(library: LibraryWriter, content_ids: Iterable[int]) -> AnnotationChange:
    """Remove all annotations of contents, as a person asked; `undo` brings them back."""
    with library.transaction() as db:
        removed = []
        for content_id in content_ids:
            rows = db.execute(f"{_SELECT} WHERE w.content_id = ? ORDER BY w.said_at, w.id", (content_id,))
            removed += [Annotation(*row) for row in rows]
        return record_change(library, "forgotten", removed, [])


def rename_label(library: LibraryWriter, label: str, name: str) -> AnnotationChange:
    """Give the annotations of `label` the label `name`; of two on the same range the later one counts.

    Raises LibraryError if `label` has no annotation, or if `name` is no valid label.
    """
    name = resolve_label(library, name)
    with library.transaction() as db:
        old = _of_label(db, label)
        if all(annotation.label == name for annotation in old):
            raise LibraryError(f"it is called {printable(name)} already")
        renamed = [annotation._replace(label=name) for annotation in old]
        new = {annotation.slot: annotation for annotation in renamed}
        for slot in new:
            if (existing := _find(db, slot)) and existing not in old:
                old.append(existing)
                new[slot] = max(new[slot], existing, key=lambda annotation: annotation.said_at)
        return record_change(library, "renamed", old, list(new.values()))


def remove_label(library: LibraryWriter, label: str) -> AnnotationChange:
    """Remove all annotations of a label; `undo` brings them back. Raises LibraryError if there is none."""
    with library.transaction() as db:
        return record_change(library, "forgotten", _of_label(db, label), [])


# --- reading --------------------------------------------------------------------------------------------------


def list_changes(reader: sqlite3.Connection, limit: int = -1) -> list[AnnotationChange]:
    """The changes, the latest first; -1 stands for no limit."""
    return read_changes(reader, "ORDER BY id DESC LIMIT ?", limit)


def read_changes(reader: sqlite3.Connection, condition: str, *parameters: object) -> list[AnnotationChange]:
    """The changes of an SQL condition with its order."""
    rows = reader.execute(f"{_SELECT_CHANGES} {condition}", parameters)
    return [_change(row) for row in rows]


def list_annotations(reader: sqlite3.Connection) -> list[Annotation]:
    """All annotations, in the order in which they were made."""
    return [Annotation(*row) for row in reader.execute(f"{_SELECT} ORDER BY w.said_at, w.id")]


def _of_label(db: sqlite3.Connection, label: str) -> list[Annotation]:
    """All annotations of a label, in the order in which they were made. Raises LibraryError if there is none."""
    names = annotated_spellings(db, label)
    rows = db.execute(
        f"{_SELECT} WHERE w.label IN ({', '.join('?' * len(names))}) ORDER BY w.said_at, w.id", names
    )
    if not (annotations := [Annotation(*row) for row in rows]):
        raise LibraryError(f"there is no annotation of yours with the label {printable(label)[:40]!r}")
    return annotations


def _slot(
    library: LibraryWriter, content_id: int, label: str, start_ms: int | None, end_ms: int | None
) -> Slot:
    """The slot of a label in a content. Raises LibraryError if the range is invalid."""
    row = library.connection.execute(
        "SELECT key, duration_ms FROM contents WHERE id = ?", (content_id,)
    ).fetchone()
    if row is None:
        raise LibraryError("this video is gone from the library: search again")
    clock = content_clock(library.connection, content_id)
    return (row[0], label, *checked_range(start_ms, end_ms, row[1], clock))


def _find(db: sqlite3.Connection, slot: Slot) -> Annotation | None:
    row = db.execute(
        f"{_SELECT} WHERE c.key = ? AND w.label = ? AND w.start_ms IS ? AND w.end_ms IS ?", slot
    ).fetchone()
    return Annotation(*row) if row else None


class _AnnotatedMoment(NamedTuple):
    id: int
    content: str
    label: str
    start_ms: int | None
    end_ms: int | None
    own_verdict: str | None  # that of the annotation that made the moment; None if a model found it

    @property
    def slot(self) -> Slot:
        return self.content, self.label, self.start_ms, self.end_ms


def _moments(library: LibraryWriter, moment_ids: Iterable[int]) -> list[_AnnotatedMoment]:
    """The moments with these ids; a person's own have the range of their annotation.

    Raises LibraryError if there is no such moment.
    """
    moments = []
    for moment_id in dict.fromkeys(moment_ids):
        row = library.connection.execute(
            "SELECT s.id, coalesce(wc.key, c.key), l.name, s.start_ms, s.end_ms, w.start_ms, w.end_ms, w.verdict "
            "FROM segments s JOIN contents c ON c.id = s.content_id JOIN labels l ON l.id = s.label_id "
            "LEFT JOIN words w ON w.id = s.word_id LEFT JOIN contents wc ON wc.id = w.content_id WHERE s.id = ?",
            (min(max(moment_id, -1), _HIGHEST_ID),),
        ).fetchone()
        if row is None:
            raise LibraryError(
                f"there is no moment {moment_id} (any more): `vtag search` lists the current ids"
            )
        start_ms, end_ms = row[3:5] if row[7] is None else row[5:7]
        moments.append(_AnnotatedMoment(row[0], row[1], row[2], start_ms, end_ms, row[7]))
    return moments


def _slots_on_duplicates(library: LibraryWriter, moment: _AnnotatedMoment) -> list[Slot]:
    """The slots that add a moment's label to the same range of its content's duplicates."""
    content_ids = with_duplicates(library.connection, _content_id(library.connection, moment.content))
    rows = library.connection.execute(
        f"{_SELECT} WHERE w.content_id IN ({', '.join('?' * len(content_ids))}) AND c.key <> ? AND w.label = ? "
        "AND w.verdict = 'added'",
        (*content_ids, moment.content, moment.label),
    )
    own = Annotation(*moment.slot, "added", "")
    annotations = [Annotation(*row) for row in rows]
    return [a.slot for a in annotations if is_same_range(*a.range_ms, *own.range_ms)]


def _change(row: tuple[int, str, str, str | None, str | None, str | None]) -> AnnotationChange:
    change_id, changed_at, action, *texts, undone_at = row
    old, new = (tuple(Annotation(**entry) for entry in json.loads(text or "[]")) for text in texts)
    return AnnotationChange(change_id, changed_at, action, old, new, undone_at)


# --- writing --------------------------------------------------------------------------------------------------


def _record_verdicts(
    library: LibraryWriter, action: str, verdicts: Mapping[Slot, str | None]
) -> AnnotationChange:
    """Write a verdict for each slot, as one entry of the log; None removes the annotation there."""
    with library.transaction() as db:
        said_at = next_time(db)
        old = [annotation for slot in verdicts if (annotation := _find(db, slot))]
        new = [
            Annotation(*slot, verdict, said_at) for slot, verdict in verdicts.items() if verdict is not None
        ]
        is_unchanged = [annotation._replace(said_at=said_at) for annotation in old] == new
        if is_unchanged and not any(is_overruled(db, annotation) for annotation in old):
            old = new = []
        return record_change(library, action, old, new)


def record_change(
    library: LibraryWriter, action: str, old: Sequence[Annotation], new: Sequence[Annotation]
) -> AnnotationChange:
    """Replace `old` annotations with `new` ones and log it; nothing to replace is no change, with the id 0."""
    with library.transaction() as db:
        if not old and not new:
            return AnnotationChange(0, next_time(db), action, (), (), None)
        replace_annotations(library, old=old, new=new)
        changed_at = next_time(db)
        cursor = db.execute(
            "INSERT INTO word_log (at, action, before, after) VALUES (?, ?, ?, ?)",
            (changed_at, action, annotations_as_json(old), annotations_as_json(new)),
        )
        return AnnotationChange(int(cursor.lastrowid or 0), changed_at, action, tuple(old), tuple(new), None)


def replace_annotations(
    library: LibraryWriter, *, old: Iterable[Annotation], new: Iterable[Annotation]
) -> None:
    """Remove annotations and write others, and apply them to every content that they concern.

    A slot has one annotation: what is written replaces what another process left there.
    """
    with library.transaction() as db:
        changed_ids = set()
        new = latest_of_each_slot(new)
        for annotation in (*old, *new):
            content_id = _content_id(db, annotation.content)
            changed_ids.add(content_id)
            db.execute(
                "DELETE FROM words WHERE content_id = ? AND label = ? AND start_ms IS ? AND end_ms IS ?",
                (content_id, annotation.label, annotation.start_ms, annotation.end_ms),
            )
        for annotation in new:
            content_id = _content_id(db, annotation.content)
            db.execute(
                "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (content_id, *annotation[1:]),
            )
        for content_id in {same for changed_id in changed_ids for same in with_duplicates(db, changed_id)}:
            apply_annotations(library, content_id)


def latest_of_each_slot(annotations: Iterable[Annotation]) -> list[Annotation]:
    """The latest annotation of each slot, ordered by time."""
    comparable = [a._replace(said_at=normalize_timestamp(a.said_at)) for a in annotations]
    by_time = sorted(comparable, key=lambda annotation: annotation.said_at)
    latest = {annotation.slot: annotation for annotation in by_time}
    return [annotation for annotation in by_time if latest[annotation.slot] is annotation]


def next_time(db: sqlite3.Connection) -> str:
    """A timestamp later than those of all annotations and changes, whatever clock wrote them."""
    (latest,) = db.execute(
        "SELECT max(coalesce((SELECT max(said_at) FROM words), ''), "
        "coalesce((SELECT at FROM word_log ORDER BY id DESC LIMIT 1), ''))"
    ).fetchone()
    return now_after(latest)


def is_overruled(db: sqlite3.Connection, annotation: Annotation) -> bool:
    """Whether a later annotation contradicts this one in a part of its range; then repeating it is a change."""
    content_ids = with_duplicates(db, _content_id(db, annotation.content))
    start_ms, end_ms = annotation.range_ms
    later = db.execute(
        f"SELECT 1 FROM words WHERE content_id IN ({', '.join('?' * len(content_ids))}) AND label = ? "
        "AND said_at >= ? AND (verdict = 'rejected') <> ? "
        "AND coalesce(start_ms, 0) < ? AND coalesce(end_ms, ?) > ? LIMIT 1",
        (
            *content_ids,
            annotation.label,
            annotation.said_at,
            annotation.verdict == "rejected",
            end_ms,
            END_OF_TIME_MS,
            start_ms,
        ),
    )
    return later.fetchone() is not None


def _content_id(db: sqlite3.Connection, key: str) -> int:
    """The id of the content with this key; an unknown content gets a row, which holds its annotations."""
    db.execute(
        "INSERT INTO contents (key, size_bytes, added_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (key, int(key.split("-")[0]), now()),
    )
    return int(db.execute("SELECT id FROM contents WHERE key = ?", (key,)).fetchone()[0])


def annotations_as_json(annotations: Iterable[Annotation]) -> str:
    return json.dumps([annotation._asdict() for annotation in annotations], ensure_ascii=False)
