"""Evaluates a query's tree to rows of segments: each part is one parametrized SQL statement, or a set operation."""

from __future__ import annotations

import fnmatch
import glob
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import replace
from operator import itemgetter
from typing import Any, NamedTuple

from vtag.engine.errors import QueryError
from vtag.engine.library.certainty import library_min_margin
from vtag.engine.library.search import filters, query, sequence
from vtag.engine.library.search.labels import everyday_labels, matching_label_ids
from vtag.engine.library.search.query import Node, Term
from vtag.engine.library.search.rows import BY_SCORE, COLUMNS, Condition, Order, SegmentRow, merge_sorted
from vtag.engine.text import normalize_label, printable

_SMALL_SCOPE = 4096  # contents: so many are looked up by id; for more, the labels' rows are filtered
_CONTENT_COLUMN = SegmentRow._fields.index("content_id")
_LARGE_LIST = (
    100_000  # ids that all statements of a search together compare with; beyond, the rows are filtered
)
ANY_LABEL = query.TextTerm(())
_SQL_OPERATORS = {">": ">", ">=": ">=", "<": "<", "<=": "<=", "=": "="}  # nothing else gets into the SQL


class QueryEvaluator:
    """Evaluates query trees over one library; caches label ids and tables of videos while it exists.

    `scope` is everywhere the contents to search, None for all. `min_margin` is the margin from which a segment is
    sure; by default that of the library's sensitivity.
    """

    def __init__(self, reader: sqlite3.Connection, min_margin: float | None = None) -> None:
        self._reader = reader
        self.min_margin = library_min_margin(reader) if min_margin is None else min_margin
        self._label_ids: dict[Term, list[int]] = {}
        self._videos = filters.LibraryVideos(reader)

    def parse(self, text: str) -> Node:
        """The tree of a query; each everyday phrase is replaced by the labels that it means. Raises QueryError.

        A negated text stays as it is, so that no guess excludes a video.
        """
        return _resolve(self._reader, query.parse(text))

    def rows(
        self, node: Node, condition: Condition, scope: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        """The segments that `node` finds, sorted, read as they are consumed.

        Two alternatives of a query may give the same segment twice.
        """
        if isinstance(node, query.TextTerm | query.LabelTerm):
            return self.label_rows(self.label_ids(node), condition, scope, order)
        if isinstance(node, query.Or) and not query.is_filter(node):
            return self._merged_rows(node.parts, condition, scope, order)
        if isinstance(node, query.Then):
            return sequence.sequence_rows(self, node, condition, scope, order)
        narrowed = self._narrow(node, condition, scope)
        return self._merged_rows(narrowed.searches, narrowed.condition, narrowed.scope, order)

    def content_ids(self, node: Node, condition: Condition, scope: set[int] | None) -> set[int]:
        """The contents in which `node` finds something."""
        if isinstance(node, query.TextTerm | query.LabelTerm):
            if node == ANY_LABEL and condition.sql == "1":
                # may include contents without a segment: those yield no row
                return self._videos.content_ids if scope is None else scope
            return self._contents_with_labels(self.label_ids(node), condition, scope)
        if isinstance(node, query.Or) and not query.is_filter(node):
            return set().union(*(self.content_ids(part, condition, scope) for part in node.parts))
        if isinstance(node, query.Then):
            rows = sequence.sequence_rows(self, node, condition, scope, BY_SCORE)
            return {row.content_id for row in rows}
        narrowed = self._narrow(node, condition, scope)
        if len(narrowed.searches) > 1 and narrowed.scope is not None:
            return narrowed.scope
        return self.content_ids(narrowed.searches[0], narrowed.condition, narrowed.scope)

    def label_ids(self, term: Term) -> list[int]:
        """Ids of the labels that a term matches."""
        if term not in self._label_ids:
            self._label_ids[term] = sorted(label_ids_of_term(self._reader, term))
        return self._label_ids[term]

    def dates(self) -> dict[int, float]:
        """When each video was recorded, seconds since 1970; without the videos whose date is unknown."""
        return self._videos.dates

    def estimate_size(self, node: Node) -> int:
        """Roughly how many segments a part finds, so that the rarest part is evaluated first."""
        if not isinstance(node, query.TextTerm | query.LabelTerm):
            return _SMALL_SCOPE
        rows = self._reader.execute(
            "SELECT count(*) FROM (SELECT 1 FROM segments "
            "WHERE label_id IN (SELECT value FROM json_each(?)) LIMIT ?)",
            (json.dumps(self.label_ids(node)), 2 * _SMALL_SCOPE),
        )
        return int(rows.fetchone()[0])

    def _narrow(self, node: Node, condition: Condition, scope: set[int] | None) -> _NarrowedSearch:
        """Apply the filters and negations of an And, and the contents that all its searches share."""
        parts = node.parts if isinstance(node, query.And) and not query.is_filter(node) else (node,)
        searches: list[Node] = []
        negated: list[Node] = []
        # together, because one file has to pass all filters by path
        if video_filters := tuple(filter(filters.is_video_filter, parts)):
            content_ids = self._videos.matching(query.And(video_filters))
            scope = content_ids if scope is None else scope & content_ids
        for part in parts:
            if query.is_filter(part):
                if not filters.is_video_filter(part):
                    condition = condition.and_(self._filter_condition(part))
            elif isinstance(part, query.Not):
                negated.append(part.part)
            else:
                searches.append(part)
        if len(searches) > 1:
            for search in sorted(searches, key=self.estimate_size):
                scope = self.content_ids(search, condition, scope)
        for part in negated:
            remaining = self._videos.content_ids if scope is None else scope
            # no guess excludes a video: only what is sure does
            sure = Condition(min_margin=self.min_margin)
            scope = remaining - self.content_ids(part, sure, remaining)
            if isinstance(part, query.TextTerm | query.LabelTerm):
                condition = condition.and_(self._without_labels(part))
        return _NarrowedSearch(searches or [ANY_LABEL], condition, scope)

    def _without_labels(self, term: Term) -> Condition:
        """The condition that a segment has none of a term's labels: in a video without a sure one, it is a guess."""
        ids = json.dumps(self.label_ids(term))
        return Condition("label_id NOT IN (SELECT value FROM json_each(?))", (ids,))

    def _filter_condition(self, node: Node) -> Condition:
        """A filter of moments as SQL; true or false for every row, never NULL, so that NOT works."""
        if filters.is_video_filter(node):
            ids = json.dumps(list(self._videos.matching(node)))
            return Condition("content_id IN (SELECT value FROM json_each(?))", (ids,))
        match node:
            case query.Not(part):
                inner = self._filter_condition(part)
                return Condition(f"NOT ({inner.sql})", inner.parameters, inner.includes_rejected)
            case query.And(parts):
                return _join_conditions(" AND ", map(self._filter_condition, parts))
            case query.Or(parts):
                return _join_conditions(" OR ", map(self._filter_condition, parts))
            case query.ScoreFilter(operator, score):
                return Condition(f"score {_SQL_OPERATORS[operator]} ?", (score,))
            case query.LengthFilter(operator, length_ms):
                return Condition(f"end_ms - start_ms {_SQL_OPERATORS[operator]} ?", (length_ms,))
            case query.SourceFilter(source):
                return Condition("model_id IS NULL" if source == "user" else "model_id IS NOT NULL")
            case query.VerdictFilter(verdict):
                return Condition("verdict IS ?", (verdict,), verdict == "rejected")
            case query.ModelFilter(name):
                return model_condition(self._reader, name)
        raise AssertionError(node)

    def label_rows(
        self, label_ids: list[int], condition: Condition, scope: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        """The segments of these labels, sorted, read as they are consumed."""
        if scope is not None and len(scope) <= _SMALL_SCOPE:
            rows = self._reader.execute(
                f"SELECT {COLUMNS} FROM segments INDEXED BY segments_by_content "
                "WHERE content_id IN (SELECT value FROM json_each(?)) "
                f"AND label_id IN (SELECT value FROM json_each(?)) AND {condition.full_sql} ORDER BY {order.sql}",
                (json.dumps(list(scope)), json.dumps(label_ids), *condition.parameters),
            )
            return itertools.starmap(SegmentRow, rows)
        if scope is not None and len(label_ids) * len(scope) <= _LARGE_LIST:
            ids = json.dumps(list(scope))
            condition = condition.and_(Condition("content_id IN (SELECT value FROM json_each(?))", (ids,)))
            scope = None
        # the index holds each label's segments sorted: merging them reads no more rows than are shown
        return merge_sorted([self._rows_of_label(i, condition, scope, order) for i in label_ids], order)

    def _rows_of_label(
        self, label_id: int, condition: Condition, scope: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        rows: Iterable[tuple[Any, ...]] = self._reader.execute(
            f"SELECT {COLUMNS} FROM segments WHERE label_id = ? AND {condition.full_sql} ORDER BY {order.sql}",
            (label_id, *condition.parameters),
        )
        if scope is not None:  # as plain tuples, before any is made a row: few of many pass
            rows = (row for row in rows if row[_CONTENT_COLUMN] in scope)
        return itertools.starmap(SegmentRow, rows)

    def _contents_with_labels(
        self, label_ids: list[int], condition: Condition, scope: set[int] | None
    ) -> set[int]:
        if scope is not None and len(scope) <= _SMALL_SCOPE:
            return {row.content_id for row in self.label_rows(label_ids, condition, scope, BY_SCORE)}
        content_ids: set[int] = set()
        for label_id in label_ids:
            rows = self._reader.execute(
                f"SELECT content_id FROM segments WHERE label_id = ? AND {condition.full_sql}",
                (label_id, *condition.parameters),
            )
            content_ids.update(map(itemgetter(0), rows))
        return content_ids if scope is None else content_ids & scope

    def _merged_rows(
        self, nodes: Iterable[Node], condition: Condition, scope: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        return merge_sorted([self.rows(node, condition, scope, order) for node in nodes], order)


class _NarrowedSearch(NamedTuple):
    """The searches of a conjunction, the condition on their segments, and the contents to search."""

    searches: list[Node]
    condition: Condition
    scope: set[int] | None


def _join_conditions(operator: str, conditions: Iterable[Condition]) -> Condition:
    parts = list(conditions)
    return Condition(
        f"({operator.join(f'({part.sql})' for part in parts)})",
        tuple(itertools.chain.from_iterable(part.parameters for part in parts)),
        any(part.includes_rejected for part in parts),
    )


def _resolve(reader: sqlite3.Connection, node: Node) -> Node:
    """`node` with the labels that its everyday phrases mean."""
    match node:
        case query.TextTerm() if node != ANY_LABEL:
            terms = tuple(query.LabelTerm(glob.escape(label)) for label in everyday_term_labels(reader, node))
            return query.Or(terms) if len(terms) > 1 else terms[0] if terms else node
        case query.And(parts):
            return query.And(tuple(_resolve(reader, part) for part in parts))
        case query.Or(parts):
            return query.Or(tuple(_resolve(reader, part) for part in parts))
        case query.Then(steps):
            return replace(node, steps=tuple(_resolve(reader, step) for step in steps))
    return node


def everyday_term_labels(reader: sqlite3.Connection, term: Term) -> list[str]:
    """The labels that a term means if it is an everyday phrase; empty if it is none."""
    if not isinstance(term, query.TextTerm) or matching_label_ids(reader, term.texts):
        return []
    return everyday_labels(reader, term.texts)


def label_ids_of_term(reader: sqlite3.Connection, term: Term) -> set[int]:
    """Ids of the labels that a term matches.

    `label:` matches whole names, with wildcards. If no label has such a name, it is searched as text.
    """
    if term == ANY_LABEL:
        return {row[0] for row in reader.execute("SELECT id FROM labels")}
    if isinstance(term, query.TextTerm):
        return matching_label_ids(reader, term.texts)
    pattern = re.compile(fnmatch.translate(normalize_label(term.pattern).casefold()))
    rows = reader.execute("SELECT id, name FROM labels")
    label_ids = {label_id for label_id, name in rows if pattern.match(name.casefold())}
    return label_ids or matching_label_ids(reader, [term.pattern])


def model_condition(reader: sqlite3.Connection, model: str) -> Condition:
    """The condition that a segment is of the models with this name or path. Raises QueryError if there are none."""
    rows = reader.execute("SELECT id, name, source FROM models").fetchall()
    sources = (model, os.path.abspath(model))
    model_ids = [model_id for model_id, name, source in rows if name == model or source in sources]
    if not model_ids:
        names = ", ".join(sorted({printable(name) for _, name, _ in rows})) or "none"
        raise QueryError(f"this library knows no model {printable(model)!r}; it knows {names}")
    placeholders = ", ".join("?" * len(model_ids))
    return Condition(f"(model_id IS NOT NULL AND model_id IN ({placeholders}))", tuple(model_ids))
