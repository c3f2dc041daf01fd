"""Labels to moments, over the standard library's sqlite3 alone, so that a search starts at once."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vtag.engine.library.search.evaluate import QueryEvaluator, label_ids_of_term, model_condition
from vtag.engine.library.search.labels import clean, matching_label_ids
from vtag.engine.library.search.query import LabelTerm, Node, TextTerm, parse, terms_of
from vtag.engine.library.search.rows import BY_LENGTH, BY_SCORE, COLUMNS, Condition, SegmentRow
from vtag.engine.library.store.volumes import real_path

DEFAULT_LIMIT = 50
SORTS = ("score", "date", "length")
_CHUNK = 256  # videos that are looked into at once


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


def search(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
) -> list[Moment]:
    """Moments that fit `query` (docs/search.md), best first; none that a person rejected.

    A moment that several models saw is there once, as the first of them in the order. `sort` is one of SORTS. `model`
    (a name or a path) leaves only what that one saw; `limit` None leaves all. Raises QueryError.
    """
    rows = _rows(QueryEvaluator(reader), parse(query), _where(reader, min_score, model), None, sort)
    return list(itertools.islice(_moments(reader, rows), limit))


def search_videos(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
) -> list[list[Moment]]:
    """As `search`, by video: each with all its moments that fit, by time; `limit` is of videos."""
    matcher, node, where = QueryEvaluator(reader), parse(query), _where(reader, min_score, model)
    firsts: dict[int, list[Moment]] = {}
    places = _Locations(reader)
    for row in _rows(matcher, node, where, None, sort):
        if row.content_id not in firsts and places.of(row.content_id):
            if limit is not None and len(firsts) >= limit:
                break
            firsts[row.content_id] = []
    chosen = _once(matcher.rows(node, where, set(firsts), BY_SCORE))
    rows = sorted(chosen, key=lambda row: (row.content_id, row.start_ms, row.id))
    for content, group in itertools.groupby(rows, key=lambda row: row.content_id):
        firsts[content] = list(_moments(reader, group))
    return list(firsts.values())


def _where(reader: sqlite3.Connection, min_score: float, model: str | None) -> Condition:
    where = Condition("score >= ?", (min_score,)) if min_score > 0 else Condition()
    return where if model is None else where.and_(model_condition(reader, model))


def _rows(
    matcher: QueryEvaluator, node: Node, where: Condition, within: set[int] | None, sort: str
) -> Iterator[SegmentRow]:
    if sort == "date":
        return _newest_first(matcher, node, where)
    return _once(matcher.rows(node, where, within, BY_LENGTH if sort == "length" else BY_SCORE))


def _newest_first(matcher: QueryEvaluator, node: Node, where: Condition) -> Iterator[SegmentRow]:
    """By the date of the video, then by time; looks into no more videos than are shown."""
    dates = matcher.dates()
    contents = sorted(
        matcher.contents(node, where, None), key=lambda content: (dates.get(content, -math.inf), content)
    )
    while contents:
        chunk, contents = contents[-_CHUNK:], contents[:-_CHUNK]
        place = {content: at for at, content in enumerate(reversed(chunk))}
        rows = _once(matcher.rows(node, where, set(chunk), BY_SCORE))
        yield from sorted(rows, key=lambda row: (place[row.content_id], row.start_ms, row.id))


def match_terms(reader: sqlite3.Connection, query: str) -> list[tuple[str, bool]]:
    """The terms of a query, each as a person wrote it, and whether any label fits it. Raises QueryError."""
    return [(_text(term), bool(label_ids_of_term(reader, term))) for term in terms_of(parse(query))]


def _text(term: TextTerm | LabelTerm) -> str:
    return term.name if isinstance(term, LabelTerm) else " ".join(term.texts)


def content_moments(reader: sqlite3.Connection, content_id: int, path: bytes | None = None) -> list[Moment]:
    """All moments of one content by time, as those of `path` where it is given."""
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE content_id = ? AND verdict IS NOT 'rejected' "
        "ORDER BY score DESC, id",
        (content_id,),
    )
    moments = list(_moments(reader, _once(itertools.starmap(SegmentRow, rows)), path))
    return sorted(moments, key=lambda m: (m.start_ms, m.label, m.end_ms))


def _once(rows: Iterable[SegmentRow]) -> Iterator[SegmentRow]:
    """In the order in which they come; what overlaps another model's earlier one of the same label is left out.

    So is what two alternatives of a query found.
    """
    kept: dict[tuple[int, ...], list[SegmentRow]] = {}
    seen: set[tuple[int, ...]] = set()
    for row in rows:
        ids = tuple(step.id for step in row.steps) or (row.id,)
        if ids in seen:
            continue
        seen.add(ids)
        labels = (row.label_id,) if not row.steps else tuple(step.label_id for step in row.steps)
        before = kept.setdefault((row.content_id, *labels), [])
        models = _models(row)
        if not any(
            b.start_ms < row.end_ms and row.start_ms < b.end_ms and _models(b) != models for b in before
        ):
            before.append(row)
            yield row


def _models(row: SegmentRow) -> tuple[int | None, ...]:
    return tuple(step.model_id for step in row.steps) or (row.model_id,)


class _Locations:
    """Where contents lie, and whether they are there now; each is looked for once."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._known: dict[int, tuple[bytes, bool] | None] = {}

    def of(self, content_id: int) -> tuple[bytes, bool] | None:
        if content_id not in self._known:
            self._known[content_id] = locate_content(self._reader, content_id)
        return self._known[content_id]


def _moments(
    reader: sqlite3.Connection, rows: Iterable[SegmentRow], path: bytes | None = None
) -> Iterator[Moment]:
    labels = dict(reader.execute("SELECT id, name FROM labels"))
    models = dict(reader.execute("SELECT id, name FROM models"))
    places = _Locations(reader)
    for row in rows:
        place = (path, os.path.lexists(path)) if path else places.of(row.content_id)
        if place is None:  # nothing but a person's words is left of it
            continue
        steps = row.steps or (row,)
        names = dict.fromkeys(models[step.model_id] for step in steps if step.model_id is not None)
        yield Moment(
            row.id,
            place[0],
            " THEN ".join(labels[step.label_id] for step in steps),
            row.start_ms,
            row.end_ms,
            row.score,
            ", ".join(names) or None,
            "model" if names else "user",
            place[1],
        )


def locate_content(reader: sqlite3.Connection, content_id: int) -> tuple[bytes, bool] | None:
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


class ContentSummary(NamedTuple):
    """A content as a timeline needs it."""

    id: int
    duration_ms: int | None
    error: str | None


def content_at_path(reader: sqlite3.Connection, path: bytes) -> ContentSummary | None:
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
                return ContentSummary(*row)
    return None


def content_with_key(reader: sqlite3.Connection, key: str) -> ContentSummary | None:
    """The content with this key, wherever its files lie."""
    row = reader.execute("SELECT id, duration_ms, error FROM contents WHERE key = ?", (key,)).fetchone()
    return ContentSummary(*row) if row else None


def label_counts(reader: sqlite3.Connection, word: str | None = None) -> list[tuple[str, int]]:
    """Labels (all, or those that a word fits) and how many moments each has, most first."""
    names: Sequence[tuple[int, str]] = reader.execute("SELECT id, name FROM labels").fetchall()
    if word is not None:
        fits = matching_label_ids(reader, clean(word).split())
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
