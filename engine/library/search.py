"""Labels to moments, over the standard library's sqlite3 alone, so that a search starts at once."""

from __future__ import annotations

import heapq
import itertools
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vtag.engine.errors import QueryError
from vtag.engine.library.labels import has_letters
from vtag.engine.library.query import matching_labels, parse
from vtag.engine.library.volumes import real_path
from vtag.engine.text import printable

DEFAULT_LIMIT = 50


class Moment(NamedTuple):
    """A stretch of a video in which somebody or some model saw an action."""

    id: int
    path: bytes  # absolute
    label: str
    start_ms: int
    end_ms: int
    score: float
    model: str | None
    source: str  # model, user
    present: bool  # whether the file is there now


class _Row(NamedTuple):
    """A segment as the index gives it."""

    score: float
    id: int
    content_id: int
    label_id: int
    model_id: int | None
    start_ms: int
    end_ms: int


_COLUMNS = "score, id, content_id, label_id, model_id, start_ms, end_ms"


def search(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int = DEFAULT_LIMIT,
    model: str | None = None,
) -> list[Moment]:
    """Moments of the labels that fit `query`, best first; none that a person rejected.

    A moment that several models saw is there once, with its best score. `model` (a name or a path) leaves only what
    that one saw. Raises QueryError.
    """
    where, parameters = "verdict IS NOT 'rejected' AND score >= ?", [min_score]
    if model is not None:
        where += f" AND model_id IN ({_models(reader, model)})"
    # each label's segments lie sorted in the index: merging them reads no more than is shown, however many there are
    by_label = [
        map(
            _Row._make,
            reader.execute(
                f"SELECT {_COLUMNS} FROM segments WHERE label_id = ? AND {where} ORDER BY score DESC, id",
                (label, *parameters),
            ),
        )
        for label in matching_labels(reader, parse(query))
    ]
    rows = by_label[0] if len(by_label) == 1 else heapq.merge(*by_label, key=lambda row: (-row.score, row.id))
    return list(itertools.islice(_moments(reader, _once(rows)), limit))


def moments_of(reader: sqlite3.Connection, content_id: int, path: bytes | None = None) -> list[Moment]:
    """All moments of one content by time, as those of `path` where it is given."""
    rows = reader.execute(
        f"SELECT {_COLUMNS} FROM segments WHERE content_id = ? AND verdict IS NOT 'rejected' "
        "ORDER BY score DESC, id",
        (content_id,),
    )
    moments = list(_moments(reader, _once(map(_Row._make, rows)), path))
    return sorted(moments, key=lambda m: (m.start_ms, m.label, m.end_ms))


def _once(rows: Iterable[_Row]) -> Iterator[_Row]:
    """Best first in, best first out; what overlaps another model's better one of the same label is left out."""
    kept: dict[tuple[int, int], list[_Row]] = {}
    for row in rows:
        better = kept.setdefault((row.content_id, row.label_id), [])
        if not any(
            b.model_id != row.model_id and b.start_ms < row.end_ms and row.start_ms < b.end_ms for b in better
        ):
            better.append(row)
            yield row


def _moments(reader: sqlite3.Connection, rows: Iterable[_Row], path: bytes | None = None) -> Iterator[Moment]:
    labels = dict(reader.execute("SELECT id, name FROM labels"))
    models = dict(reader.execute("SELECT id, name FROM models"))
    places: dict[int, tuple[bytes, bool] | None] = {}
    for row in rows:
        if row.content_id not in places:
            places[row.content_id] = (path, os.path.lexists(path)) if path else _place(reader, row.content_id)
        place = places[row.content_id]
        if place is None:  # nothing but a person's words is left of it
            continue
        model = models[row.model_id] if row.model_id is not None else None
        yield Moment(
            row.id,
            place[0],
            labels[row.label_id],
            row.start_ms,
            row.end_ms,
            row.score,
            model,
            "user" if model is None else "model",
            place[1],
        )


def _place(reader: sqlite3.Connection, content_id: int) -> tuple[bytes, bool] | None:
    """Where a content lies, and whether it is there now: of several copies one that is."""
    rows = reader.execute(
        "SELECT v.mount, f.path FROM files f JOIN volumes v ON v.id = f.volume_id WHERE f.content_id = ? "
        "ORDER BY f.state DESC, f.id",  # present before missing
        (content_id,),
    )
    paths = [os.path.join(mount, path) for mount, path in rows]
    for path in paths:
        if os.path.lexists(path):
            return path, True
    return (paths[0], False) if paths else None


def _models(reader: sqlite3.Connection, name: str) -> str:
    """Ids of the models called `name`, or loaded from that path, for an IN. Raises QueryError."""
    rows = reader.execute("SELECT id, name, source FROM models").fetchall()
    ids = [i for i, known, source in rows if name == known or source in (name, os.path.abspath(name))]
    if not ids:
        known = ", ".join(sorted({printable(row[1]) for row in rows})) or "none"
        raise QueryError(f"this library knows no model {printable(name)!r}; it knows {known}")
    return ", ".join(map(str, ids))


class SeenContent(NamedTuple):
    """A content as a timeline needs it."""

    id: int
    duration_ms: int | None
    error: str | None


def content_of(reader: sqlite3.Connection, path: bytes) -> SeenContent | None:
    """The content that the file at `path` held when it was last seen; of one never seen there, by what it holds."""
    real = real_path(path)
    volumes = reader.execute("SELECT id, mount FROM volumes").fetchall()
    for volume, mount in sorted(volumes, key=lambda row: -len(row[1])):
        prefix = os.path.join(mount, b"")
        if real.startswith(prefix):
            row = reader.execute(
                "SELECT c.id, c.duration_ms, c.error FROM files f JOIN contents c ON c.id = f.content_id "
                "WHERE f.volume_id = ? AND f.path = ?",
                (volume, real[len(prefix) :]),
            ).fetchone()
            if row:
                return SeenContent(*row)
    return None


def content_with_key(reader: sqlite3.Connection, key: str) -> SeenContent | None:
    """The content with this key, wherever its files lie."""
    row = reader.execute("SELECT id, duration_ms, error FROM contents WHERE key = ?", (key,)).fetchone()
    return SeenContent(*row) if row else None


def label_counts(reader: sqlite3.Connection, word: str | None = None) -> list[tuple[str, int]]:
    """Labels (all, or those that a word fits) and how many moments each has, most first."""
    names: Sequence[tuple[int, str]] = reader.execute("SELECT id, name FROM labels").fetchall()
    if word is not None:
        fits = set(matching_labels(reader, parse(word))) if has_letters(word) else set()
        names = [(i, name) for i, name in names if i in fits or word.lower() in name.lower()]
    # all from the sorted index, less the few that a person judged
    counts = dict(reader.execute("SELECT label_id, count(*) FROM segments GROUP BY label_id"))
    rejected = dict(
        reader.execute(
            "SELECT label_id, count(*) FROM segments WHERE verdict IS NOT NULL AND verdict = 'rejected' "
            "GROUP BY label_id"
        )
    )
    found = [(name, counts.get(i, 0) - rejected.get(i, 0)) for i, name in names]
    return sorted(found, key=lambda row: (-row[1], row[0]))
