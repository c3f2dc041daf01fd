"""Searches moments with the standard library's sqlite3 alone, so that a search starts at once."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from vtag.engine.library.search.copies import Copies, Location
from vtag.engine.library.search.evaluate import (
    QueryEvaluator,
    everyday_term_labels,
    label_ids_of_term,
    model_condition,
)
from vtag.engine.library.search.labels import matching_label_ids, normalize_text
from vtag.engine.library.search.query import LabelTerm, Node, Term, parse, terms_of
from vtag.engine.library.search.rows import (
    BY_LENGTH,
    BY_SCORE,
    COLUMNS,
    Condition,
    SegmentRow,
    drop_duplicates,
)
from vtag.engine.library.store.volumes import real_path
from vtag.engine.text import normalize_label

DEFAULT_LIMIT = 50
SORTS = ("score", "date", "length")
_VIDEO_CHUNK = 256  # videos that are searched at once


class Moment(NamedTuple):
    """A range of a video that a model or a person gave a label."""

    id: int
    path: bytes  # absolute
    label: str
    start_ms: int
    end_ms: int
    score: float
    model: str | None
    source: str  # model, user
    present: bool  # whether the file exists
    copies: tuple[bytes, ...] = ()  # all files of the content that the query fits, the one at `path` first


def search(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
) -> list[Moment]:
    """Moments that match `query` (docs/search.md), best first, without those that a person rejected.

    If several models found a moment, only the first in the order is returned. `sort` is one of SORTS. `model` (a name
    or a path) restricts the search to that model. `limit` None returns all moments. Raises QueryError.
    """
    evaluator = QueryEvaluator(reader)
    node = evaluator.parse(query)
    rows = _sorted_rows(evaluator, node, _condition(reader, min_score, model), sort)
    return list(
        itertools.islice(moments_of_rows(reader, rows, copies=Copies(reader, evaluator, node)), limit)
    )


def search_rows(reader: sqlite3.Connection, query: str, *, sort: str = "score") -> Iterator[SegmentRow]:
    """As `search`, but the rows of the segments, read as they are consumed. Raises QueryError."""
    evaluator = QueryEvaluator(reader)
    return _sorted_rows(evaluator, evaluator.parse(query), Condition(), sort)


def search_videos(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
) -> list[list[Moment]]:
    """As `search`, but by video: for each at most `limit` videos, all its matching moments by time."""
    evaluator, condition = QueryEvaluator(reader), _condition(reader, min_score, model)
    node = evaluator.parse(query)
    by_content: dict[int, list[Moment]] = {}
    copies = Copies(reader, evaluator, node)
    for row in _sorted_rows(evaluator, node, condition, sort):
        if row.content_id not in by_content and copies.locate(row):
            if limit is not None and len(by_content) >= limit:
                break
            by_content[row.content_id] = []
    unsorted = _distinct(evaluator.rows(node, condition, set(by_content), BY_SCORE))
    rows = sorted(unsorted, key=lambda row: (row.content_id, row.start_ms, row.id))
    for content_id, group in itertools.groupby(rows, key=lambda row: row.content_id):
        by_content[content_id] = list(moments_of_rows(reader, group, copies=copies))
    return list(by_content.values())


def _condition(reader: sqlite3.Connection, min_score: float, model: str | None) -> Condition:
    condition = Condition("score >= ?", (min_score,)) if min_score > 0 else Condition()
    return condition if model is None else condition.and_(model_condition(reader, model))


def _sorted_rows(
    evaluator: QueryEvaluator, node: Node, condition: Condition, sort: str
) -> Iterator[SegmentRow]:
    if sort == "date":
        return _newest_first(evaluator, node, condition)
    return _distinct(evaluator.rows(node, condition, None, BY_LENGTH if sort == "length" else BY_SCORE))


def _newest_first(evaluator: QueryEvaluator, node: Node, condition: Condition) -> Iterator[SegmentRow]:
    """Rows by the date of the video, then by time; searches no more videos than are consumed."""
    dates = evaluator.dates()
    contents = sorted(
        evaluator.content_ids(node, condition, None),
        key=lambda content_id: (dates.get(content_id, -math.inf), content_id),
    )
    while contents:
        chunk, contents = contents[-_VIDEO_CHUNK:], contents[:-_VIDEO_CHUNK]
        position = {content_id: index for index, content_id in enumerate(reversed(chunk))}
        rows = _distinct(evaluator.rows(node, condition, set(chunk), BY_SCORE))
        yield from sorted(rows, key=lambda row: (position[row.content_id], row.start_ms, row.id))


def match_terms(reader: sqlite3.Connection, query: str) -> list[tuple[str, bool]]:
    """The terms of a query as typed, and whether each matches any label. Raises QueryError."""
    return [
        (_term_text(term), bool(label_ids_of_term(reader, term) or everyday_term_labels(reader, term)))
        for term in terms_of(parse(query))
    ]


def everyday_terms(reader: sqlite3.Connection, query: str) -> list[tuple[str, list[str]]]:
    """The terms of a query that are everyday phrases, each with the labels that it means. Raises QueryError."""
    phrases = [(_term_text(term), everyday_term_labels(reader, term)) for term in terms_of(parse(query))]
    return [(text, labels) for text, labels in phrases if labels]


def _term_text(term: Term) -> str:
    return term.pattern if isinstance(term, LabelTerm) else " ".join(term.texts)


def content_moments(reader: sqlite3.Connection, content_id: int, path: bytes | None = None) -> list[Moment]:
    """All moments of one content by time; with `path`, as moments of that file."""
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE content_id = ? AND verdict IS NOT 'rejected' "
        "ORDER BY score DESC, id",
        (content_id,),
    )
    moments = list(moments_of_rows(reader, _distinct(itertools.starmap(SegmentRow, rows)), path))
    return sorted(moments, key=lambda moment: (moment.start_ms, moment.label, moment.end_ms))


def _distinct(rows: Iterable[SegmentRow]) -> Iterator[SegmentRow]:
    """`rows` in their order, without what another alternative of the query or another model found already."""
    return drop_duplicates(
        _without_repeats(rows),
        key=lambda row: (row.content_id, *(step.label_id for step in row.segments)),
        source=lambda row: tuple(step.model_id for step in row.segments),
    )


def _without_repeats(rows: Iterable[SegmentRow]) -> Iterator[SegmentRow]:
    yielded: set[tuple[int, ...]] = set()
    for row in rows:
        ids = tuple(step.id for step in row.segments)
        if ids not in yielded:
            yielded.add(ids)
            yield row


def moments_of_rows(
    reader: sqlite3.Connection,
    rows: Iterable[SegmentRow],
    path: bytes | None = None,
    copies: Copies | None = None,
) -> Iterator[Moment]:
    """The moments of rows, without those whose files were all forgotten; `path` as in `content_moments`.

    `copies` chooses among several files of a content.
    """
    labels = dict(reader.execute("SELECT id, name FROM labels"))
    models = dict(reader.execute("SELECT id, name FROM models"))
    copies = copies or Copies(reader)
    for row in rows:
        location = Location(path, os.path.lexists(path), (path,)) if path else copies.locate(row)
        if location is None:  # all files were forgotten, and only a person's annotations remain
            continue
        names = dict.fromkeys(models[step.model_id] for step in row.segments if step.model_id is not None)
        yield Moment(
            row.id,
            location.path,
            " THEN ".join(labels[step.label_id] for step in row.segments),
            row.start_ms,
            row.end_ms,
            row.score,
            ", ".join(names) or None,
            "model" if names else "user",
            location.present,
            copies=location.copies,
        )


class ContentSummary(NamedTuple):
    """A content, its length, and why it could not be read, if so."""

    id: int
    duration_ms: int | None
    error: str | None


def content_at_path(reader: sqlite3.Connection, path: bytes) -> ContentSummary | None:
    """The content that the last scan found in the file at `path`, None if no scan found the file."""
    real = real_path(path)
    volumes = reader.execute("SELECT id, mount FROM volumes").fetchall()
    for volume_id, mount in sorted(volumes, key=lambda row: -len(row[1])):  # the innermost mount first
        prefix = os.path.join(mount, b"")
        if real.startswith(prefix):
            row = reader.execute(
                "SELECT c.id, c.duration_ms, c.error FROM files f JOIN contents c ON c.id = f.content_id "
                "WHERE f.volume_id = ? AND f.path = ?",
                (volume_id, real[len(prefix) :]),
            ).fetchone()
            if row:
                return ContentSummary(*row)
    return None


def content_with_key(reader: sqlite3.Connection, key: str) -> ContentSummary | None:
    """The content with this key, whatever its files are, None if there is none."""
    row = reader.execute("SELECT id, duration_ms, error FROM contents WHERE key = ?", (key,)).fetchone()
    return ContentSummary(*row) if row else None


def label_counts(reader: sqlite3.Connection, text: str | None = None) -> list[tuple[str, int]]:
    """Labels (all, or those that `text` matches) and how many moments each has, most first."""
    labels: Sequence[tuple[int, str]] = reader.execute("SELECT id, name FROM labels").fetchall()
    if text is not None:
        text = normalize_label(normalize_text(text))
        matches = matching_label_ids(reader, text.split())
        labels = [(i, name) for i, name in labels if i in matches or text.lower() in name.lower()]
    # all segments from the sorted index, less the few that a person rejected
    counts = dict(reader.execute("SELECT label_id, count(*) FROM segments GROUP BY label_id"))
    rejected = dict(
        reader.execute(
            "SELECT label_id, count(*) FROM segments WHERE verdict IS NOT NULL AND verdict = 'rejected' "
            "GROUP BY label_id"
        )
    )
    rows = [(name, counts.get(i, 0) - rejected.get(i, 0)) for i, name in labels]
    return sorted(rows, key=lambda row: (-row[1], row[0]))
