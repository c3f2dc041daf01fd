"""Searches moments with the standard library's sqlite3 alone, so that a search starts at once."""

from __future__ import annotations

import itertools
import math
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar, get_args

from vtag.engine.library.certainty import MARGIN_SQL, library_min_margin
from vtag.engine.library.search.best_moments import best_rows
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
from vtag.engine.system.silent_disks import exists_in_time
from vtag.engine.text import normalize_label

DEFAULT_LIMIT = 50
FILLED_TO = 10  # moments: a search that finds fewer sure ones adds less sure ones
SORTS = ("score", "date", "length")
_VIDEO_CHUNK = 256  # videos that are searched at once

# which less sure moments follow the sure ones: none, as many as it takes to FILLED_TO in all, or all
LessSure = Literal["none", "fill", "all"]
LESS_SURE: tuple[LessSure, ...] = get_args(LessSure)
_FoundT = TypeVar("_FoundT")


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
    sure: bool = True  # whether it reaches its label's threshold, at the sensitivity of the search

    @property
    def file(self) -> Path:
        """The video's file."""
        return Path(os.fsdecode(self.path))


def search(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
    less_sure: LessSure = "none",
    min_margin: float | None = None,
    newer_than: int = 0,
) -> list[Moment]:
    """Moments that match `query` (docs/search.md), without those that a person rejected: the sure ones, best first,
    then the less sure ones, best first. If `less_sure` is "fill", each video gives one of these before any gives two.

    If several models found a moment, only the first in the order is returned. `sort` is one of SORTS. `model` (a name
    or a path) restricts the search to that model. `limit` None returns all moments. `min_margin` is the margin from
    which a moment is sure, by default that of the library's sensitivity. `newer_than` restricts the search to moments
    with a higher id. A query without words and filters finds the best moment of each label. Raises QueryError.
    """
    lookup = Search(reader, query, min_margin)
    condition = _condition(reader, min_score, model)
    if newer_than:
        condition = condition.and_(Condition("id > ?", (newer_than,)))
    moments = lookup.moments(lookup.rows(condition, sort, less_sure, rounds=1))
    return _take(moments, limit, less_sure, lambda moment: moment.sure)


def search_videos(
    reader: sqlite3.Connection,
    query: str,
    *,
    min_score: float = 0.0,
    limit: int | None = DEFAULT_LIMIT,
    model: str | None = None,
    sort: str = "score",
    less_sure: LessSure = "none",
    min_margin: float | None = None,
) -> list[list[Moment]]:
    """As `search`, but by video: for each at most `limit` videos, all its matching moments by time.

    A video with a sure moment has its sure ones only, unless `less_sure` is "all".
    """
    lookup, condition = Search(reader, query, min_margin), _condition(reader, min_score, model)
    firsts = _first_of_each_video(lookup, lookup.rows(condition, sort, less_sure, rounds=1))
    rows_to_show = _take(firsts, limit, less_sure, lookup.is_sure)
    by_content: dict[int, list[Moment]] = {row.content_id: [] for row in rows_to_show}
    sure_ids = {row.content_id for row in rows_to_show if lookup.is_sure(row)}
    rows = (
        row
        for row in lookup.rows(condition, "score", less_sure, set(by_content), rounds=1)
        if row.content_id in by_content
        and (lookup.is_sure(row) or less_sure == "all" or row.content_id not in sure_ids)
    )
    by_time = sorted(rows, key=lambda row: (row.content_id, row.start_ms, row.id))
    for content_id, group in itertools.groupby(by_time, key=lambda row: row.content_id):
        by_content[content_id] = list(lookup.moments(group))
    return list(by_content.values())


class Search:
    """A query on a library: its rows in the order in which they are shown, and the moments of those rows.

    A query without words and filters finds the best moments of each label. Raises QueryError.
    """

    def __init__(self, reader: sqlite3.Connection, query: str, min_margin: float | None = None) -> None:
        """`min_margin` is the margin from which a moment is sure, by default that of the library's sensitivity."""
        self._reader = reader
        self._evaluator = QueryEvaluator(reader, min_margin)
        self._node = self._evaluator.parse(query) if query.strip() else None
        self._copies = Copies(reader, self._evaluator, self._node)

    @property
    def min_margin(self) -> float:
        """The margin from which a moment is sure."""
        return self._evaluator.min_margin

    def is_sure(self, row: SegmentRow) -> bool:
        """Whether all of a row is sure."""
        return row.margin >= self.min_margin

    def locate(self, row: SegmentRow) -> Location | None:
        """The copy to show a row with; None if all files of its content were forgotten."""
        return self._copies.locate(row)

    def fitting_paths(self, row: SegmentRow) -> list[bytes]:
        """The copies of a row's video that the query fits, whether they exist or not."""
        return self._copies.fitting_paths(row)

    def moments(self, rows: Iterable[SegmentRow]) -> Iterator[Moment]:
        """The moments of rows, each in the copy of its video that fits the query."""
        return moments_of_rows(self._reader, rows, self.min_margin, copies=self._copies)

    def rows(
        self,
        condition: Condition = Condition(),
        sort: str = "score",
        less_sure: LessSure = "none",
        scope: set[int] | None = None,
        rounds: int | None = None,
    ) -> Iterator[SegmentRow]:
        """The sure rows, sorted, then the less sure ones, sorted; read as they are consumed.

        Of what several models found, only the first comes. `scope` are the contents to search, None for all. `rounds`
        bounds the moments of each label of a query without words.
        """
        if self._node is None:
            return best_rows(self._evaluator, condition, has_less_sure=less_sure != "none", rounds=rounds)
        sure_condition = replace(condition, min_margin=self.min_margin)
        sure_rows = _sorted_rows(self._evaluator, self._node, sure_condition, sort, scope)
        if less_sure == "none":
            return _distinct(sure_rows)
        less_sure_rows = self._less_sure_rows(self._node, condition, sort, scope)
        if less_sure == "fill" and scope is None:
            less_sure_rows = _videos_first(less_sure_rows)
        return _distinct(itertools.chain(sure_rows, less_sure_rows))

    def _less_sure_rows(
        self, node: Node, condition: Condition, sort: str, scope: set[int] | None
    ) -> Iterator[SegmentRow]:
        """The rows that are not sure. Nothing is searched before the first is asked for.

        A sequence of sure and of less sure steps is less sure, so that all rows are read a second time.
        """
        for row in _sorted_rows(self._evaluator, node, condition, sort, scope):
            if not self.is_sure(row):
                yield row


def _take(
    items: Iterable[_FoundT], limit: int | None, less_sure: LessSure, is_sure: Callable[[_FoundT], bool]
) -> list[_FoundT]:
    """The first `limit` of what was found; those that are not sure only up to FILLED_TO, if `less_sure` is "fill"."""
    taken: list[_FoundT] = []
    for item in items:
        if limit is not None and len(taken) >= limit:
            break
        if less_sure == "fill" and len(taken) >= FILLED_TO and not is_sure(item):
            break
        taken.append(item)
    return taken


def _first_of_each_video(lookup: Search, rows: Iterable[SegmentRow]) -> Iterator[SegmentRow]:
    """The first row of each video that has a file."""
    yielded: set[int] = set()
    for row in rows:
        if row.content_id not in yielded and lookup.locate(row):
            yielded.add(row.content_id)
            yield row


def _videos_first(rows: Iterator[SegmentRow]) -> Iterator[SegmentRow]:
    """The first row of each video; after those, the next rows, as many as a search that is filled up shows."""
    repeated: list[SegmentRow] = []
    contents: set[int] = set()
    for row in rows:
        if row.content_id not in contents:
            contents.add(row.content_id)
            yield row
        elif len(repeated) < FILLED_TO:
            repeated.append(row)
    yield from repeated


def _condition(reader: sqlite3.Connection, min_score: float, model: str | None) -> Condition:
    condition = Condition("score >= ?", (min_score,)) if min_score > 0 else Condition()
    return condition if model is None else condition.and_(model_condition(reader, model))


def _sorted_rows(
    evaluator: QueryEvaluator, node: Node, condition: Condition, sort: str, scope: set[int] | None
) -> Iterator[SegmentRow]:
    if sort == "date":
        return _newest_first(evaluator, node, condition, scope)
    return evaluator.rows(node, condition, scope, BY_LENGTH if sort == "length" else BY_SCORE)


def _newest_first(
    evaluator: QueryEvaluator, node: Node, condition: Condition, scope: set[int] | None
) -> Iterator[SegmentRow]:
    """Rows by the date of the video, then by time; searches no more videos than are consumed."""
    dates = evaluator.dates()
    contents = sorted(
        evaluator.content_ids(node, condition, scope),
        key=lambda content_id: (dates.get(content_id, -math.inf), content_id),
    )
    while contents:
        chunk, contents = contents[-_VIDEO_CHUNK:], contents[:-_VIDEO_CHUNK]
        position = {content_id: index for index, content_id in enumerate(reversed(chunk))}
        rows = _distinct(evaluator.rows(node, condition, set(chunk), BY_SCORE))
        yield from sorted(rows, key=lambda row: (position[row.content_id], row.start_ms, row.id))


def match_terms(reader: sqlite3.Connection, query: str) -> list[tuple[str, bool]]:
    """The terms of a query as typed, and whether each matches any label. Raises QueryError."""
    if not query.strip():
        return []
    return [
        (_term_text(term), bool(label_ids_of_term(reader, term) or everyday_term_labels(reader, term)))
        for term in terms_of(parse(query))
    ]


def everyday_terms(reader: sqlite3.Connection, query: str) -> list[tuple[str, list[str]]]:
    """The terms of a query that are everyday phrases, each with the labels that it means. Raises QueryError."""
    if not query.strip():
        return []
    phrases = [(_term_text(term), everyday_term_labels(reader, term)) for term in terms_of(parse(query))]
    return [(text, labels) for text, labels in phrases if labels]


def _term_text(term: Term) -> str:
    return term.pattern if isinstance(term, LabelTerm) else " ".join(term.texts)


def content_moments(
    reader: sqlite3.Connection,
    content_id: int,
    path: bytes | None = None,
    *,
    less_sure: LessSure = "none",
    min_margin: float | None = None,
) -> list[Moment]:
    """All moments of one content by time; with `path`, as moments of that file.

    Less sure ones are added until there are FILLED_TO labels, if `less_sure` is "fill".
    """
    min_margin = library_min_margin(reader) if min_margin is None else min_margin
    rows = reader.execute(
        f"SELECT {COLUMNS} FROM segments WHERE content_id = ? AND verdict IS NOT 'rejected' "
        f"ORDER BY {MARGIN_SQL} < ?, iif({MARGIN_SQL} < ?, -{MARGIN_SQL}, -score), id",
        (content_id, min_margin, min_margin),
    )
    labels: set[int] = set()
    rows_to_show = []
    for row in _distinct(itertools.starmap(SegmentRow, rows)):
        if row.margin < min_margin and (
            less_sure == "none"
            or (less_sure == "fill" and row.label_id not in labels and len(labels) >= FILLED_TO)
        ):
            continue
        labels.add(row.label_id)
        rows_to_show.append(row)
    moments = list(moments_of_rows(reader, rows_to_show, min_margin, path))
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
    min_margin: float,
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
        location = Location(path, exists_in_time(path), (path,)) if path else copies.locate(row)
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
            location.copies,
            row.margin >= min_margin,
        )


def label_counts(reader: sqlite3.Connection, text: str | None = None) -> list[tuple[str, int]]:
    """Labels (all, or those that `text` matches) and how many sure moments each has, most first."""
    labels: Sequence[tuple[int, str]] = reader.execute("SELECT id, name FROM labels").fetchall()
    if text is not None:
        text = normalize_label(normalize_text(text))
        matches = matching_label_ids(reader, text.split())
        labels = [(i, name) for i, name in labels if i in matches or text.lower() in name.lower()]
    # all segments from the sorted index, less the few that a person rejected
    counts = dict(reader.execute("SELECT label_id, count(*) FROM sure_segments GROUP BY label_id"))
    rejected = dict(
        reader.execute(
            "SELECT label_id, count(*) FROM segments WHERE verdict IS NOT NULL AND verdict = 'rejected' "
            "GROUP BY label_id"
        )
    )
    rows = [(name, counts.get(i, 0) - rejected.get(i, 0)) for i, name in labels]
    return sorted(rows, key=lambda row: (-row[1], row[0]))
