"""A query's tree to rows of segments: every part is one SQL statement with parameters, or an operation on sets."""

from __future__ import annotations

import fnmatch
import itertools
import json
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator
from operator import itemgetter
from typing import NamedTuple

from vtag.engine.errors import QueryError
from vtag.engine.library.search import filters, query, sequence
from vtag.engine.library.search.labels import matching_label_ids
from vtag.engine.library.search.query import Node
from vtag.engine.library.search.rows import BY_SCORE, COLUMNS, Condition, Order, SegmentRow, merged
from vtag.engine.text import printable

_FEW = 4096  # contents that are looked up one by one; of more, the labels' streams are filtered
_EVERY_LABEL = query.TextTerm(())


class QueryEvaluator:
    """Evaluates trees over one library; what was found out once is kept while it lives."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._labels: dict[query.TextTerm | query.LabelTerm, list[int]] = {}
        self._videos = filters.Videos(reader)

    def rows(
        self, node: Node, where: Condition, within: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        """The segments that `node` finds in the contents `within` (None: in all), in order, as they are taken.

        The same segment may come twice, from two alternatives.
        """
        if isinstance(node, query.TextTerm | query.LabelTerm):
            return self._stream(self.labels(node), where, within, order)
        if isinstance(node, query.Or) and not query.is_filter(node):
            return self._merged(node.parts, where, within, order)
        if isinstance(node, query.Then):
            return sequence.rows(self, node, where, within, order)
        found = self._conjunction(node, where, within)
        return self._merged(found.searches, found.where, found.within, order)

    def contents(self, node: Node, where: Condition, within: set[int] | None) -> set[int]:
        """The contents in which `node` finds something."""
        if isinstance(node, query.TextTerm | query.LabelTerm):
            if node == _EVERY_LABEL and where.sql == "1":  # what is in none of them is not missed
                return self._videos.all if within is None else within
            return self._contents_of(self.labels(node), where, within)
        if isinstance(node, query.Or) and not query.is_filter(node):
            return set().union(*(self.contents(part, where, within) for part in node.parts))
        if isinstance(node, query.Then):
            return {row.content_id for row in sequence.rows(self, node, where, within, BY_SCORE)}
        found = self._conjunction(node, where, within)
        if len(found.searches) > 1 and found.within is not None:
            return found.within
        return self.contents(found.searches[0], found.where, found.within)

    def labels(self, node: query.TextTerm | query.LabelTerm) -> list[int]:
        """Ids of the labels that a term fits."""
        if node not in self._labels:
            self._labels[node] = sorted(label_ids_of_term(self._reader, node))
        return self._labels[node]

    def dates(self) -> dict[int, float]:
        """When each video was recorded, seconds since 1970, as far as it is known."""
        return self._videos.dates

    def _conjunction(self, node: Node, where: Condition, within: set[int] | None) -> _Conjunction:
        parts = node.parts if isinstance(node, query.And) and not query.is_filter(node) else (node,)
        searches: list[Node] = []
        unwanted: list[Node] = []
        for part in parts:
            if query.is_filter(part):
                if filters.is_of_videos(part):
                    found = self._videos.that(part)
                    within = found if within is None else within & found
                else:
                    where = where.and_(self._filter(part))
            elif isinstance(part, query.Not):
                unwanted.append(part.part)
            else:
                searches.append(part)
        if len(searches) > 1:
            for search in sorted(searches, key=self.size):
                within = self.contents(search, where, within)
        for part in unwanted:
            everywhere = self._videos.all if within is None else within
            within = everywhere - self.contents(part, Condition(), within)
        return _Conjunction(searches or [_EVERY_LABEL], where, within)

    def _filter(self, node: Node) -> Condition:
        """A filter of moments as SQL; true or false for every row, never unknown, so that it can be negated."""
        if filters.is_of_videos(node):
            ids = json.dumps(list(self._videos.that(node)))
            return Condition("content_id IN (SELECT value FROM json_each(?))", (ids,))
        match node:
            case query.Not(part):
                inner = self._filter(part)
                return Condition(f"NOT ({inner.sql})", inner.parameters, inner.asks_rejected)
            case query.And(parts) | query.Or(parts):
                inner_parts = [self._filter(part) for part in parts]
                word = " AND " if isinstance(node, query.And) else " OR "
                return Condition(
                    f"({word.join(f'({part.sql})' for part in inner_parts)})",
                    tuple(itertools.chain.from_iterable(part.parameters for part in inner_parts)),
                    any(part.asks_rejected for part in inner_parts),
                )
            case query.ScoreFilter(operator, value):
                return Condition(f"score {_OPERATORS[operator]} ?", (value,))
            case query.LengthFilter(operator, length_ms):
                return Condition(f"end_ms - start_ms {_OPERATORS[operator]} ?", (length_ms,))
            case query.SourceFilter(name):
                return Condition("model_id IS NULL" if name == "user" else "model_id IS NOT NULL")
            case query.VerdictFilter(name):
                return Condition("verdict IS ?", (name,), name == "rejected")
            case query.ModelFilter(name):
                return model_condition(self._reader, name)
        raise AssertionError(node)

    def size(self, node: Node) -> int:
        """Roughly how much a part finds, so that the rarest is asked first."""
        if not isinstance(node, query.TextTerm | query.LabelTerm):
            return _FEW
        rows = self._reader.execute(
            "SELECT count(*) FROM (SELECT 1 FROM segments "
            "WHERE label_id IN (SELECT value FROM json_each(?)) LIMIT ?)",
            (json.dumps(self.labels(node)), 2 * _FEW),
        )
        return int(rows.fetchone()[0])

    def _stream(
        self, labels: list[int], where: Condition, within: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        if within is not None and len(within) <= _FEW:
            rows = self._reader.execute(
                f"SELECT {COLUMNS} FROM segments INDEXED BY segments_by_content "
                "WHERE content_id IN (SELECT value FROM json_each(?)) "
                f"AND label_id IN (SELECT value FROM json_each(?)) AND {where.whole} ORDER BY {order.sql}",
                (json.dumps(list(within)), json.dumps(labels), *where.parameters),
            )
            return itertools.starmap(SegmentRow, rows)
        # each label's segments lie sorted in the index: merging them reads no more than is shown
        streams = [
            itertools.starmap(
                SegmentRow,
                self._reader.execute(
                    f"SELECT {COLUMNS} FROM segments WHERE label_id = ? AND {where.whole} ORDER BY {order.sql}",
                    (label, *where.parameters),
                ),
            )
            for label in labels
        ]
        rows_ = merged(streams, order)
        return rows_ if within is None else (row for row in rows_ if row.content_id in within)

    def _contents_of(self, labels: list[int], where: Condition, within: set[int] | None) -> set[int]:
        if within is not None and len(within) <= _FEW:
            return {row.content_id for row in self._stream(labels, where, within, BY_SCORE)}
        found: set[int] = set()
        for label in labels:
            rows = self._reader.execute(
                f"SELECT content_id FROM segments WHERE label_id = ? AND {where.whole}",
                (label, *where.parameters),
            )
            found.update(map(itemgetter(0), rows))
        return found if within is None else found & within

    def _merged(
        self,
        nodes: Iterable[Node],
        where: Condition,
        within: set[int] | None,
        order: Order,
    ) -> Iterator[SegmentRow]:
        return merged([self.rows(node, where, within, order) for node in nodes], order)


class _Conjunction(NamedTuple):
    """What is looked for together, and where: which segments count, in which contents."""

    searches: list[Node]
    where: Condition
    within: set[int] | None


_OPERATORS = {">": ">", ">=": ">=", "<": "<", "<=": "<=", "=": "="}  # nothing else gets into the SQL


def label_ids_of_term(reader: sqlite3.Connection, node: query.TextTerm | query.LabelTerm) -> set[int]:
    """Ids of the labels that a term fits; `label:` means the whole name, else the words as they are."""
    if node == _EVERY_LABEL:
        return {row[0] for row in reader.execute("SELECT id FROM labels")}
    if isinstance(node, query.TextTerm):
        return matching_label_ids(reader, node.texts)
    fits = re.compile(fnmatch.translate(node.name.casefold()))
    named = {i for i, name in reader.execute("SELECT id, name FROM labels") if fits.match(name.casefold())}
    return named or matching_label_ids(reader, [node.name])


def model_condition(reader: sqlite3.Connection, name: str) -> Condition:
    """What the models called `name`, or loaded from that path, saw. Raises QueryError where there is none."""
    rows = reader.execute("SELECT id, name, source FROM models").fetchall()
    ids = [i for i, known, source in rows if name == known or source in (name, os.path.abspath(name))]
    if not ids:
        known = ", ".join(sorted({printable(row[1]) for row in rows})) or "none"
        raise QueryError(f"this library knows no model {printable(name)!r}; it knows {known}")
    marks = ", ".join("?" * len(ids))
    return Condition(f"(model_id IS NOT NULL AND model_id IN ({marks}))", tuple(ids))
