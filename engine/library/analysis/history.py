"""Counts each label's moments by the year, month or day in which the videos were recorded."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import NamedTuple

from vtag.engine.library.search.evaluate import QueryEvaluator
from vtag.engine.library.search.rows import BY_SCORE, Condition

_MONTHS_FROM_DAYS = 92  # a history of at least so many days counts by months
_YEARS_FROM_DAYS = 6 * 366  # and of so many by years


class LabelHistory(NamedTuple):
    """One label: its number of moments, in all and in each period."""

    label: str
    total: int
    counts: tuple[int, ...]


class History(NamedTuple):
    """Consecutive periods (2023, 2023-05 or 2023-05-17), and the labels with the most moments, most first."""

    periods: tuple[str, ...]
    labels: tuple[LabelHistory, ...]
    undated: int  # moments of these labels in videos whose date is unknown


def history(
    reader: sqlite3.Connection,
    query: str | None = None,
    *,
    label_limit: int = 15,
    min_margin: float | None = None,
) -> History:
    """The history of at most `label_limit` labels, those with the most moments (that match `query`, if given).

    Counts moments of at least `min_margin`, by default the library's sure ones. Raises QueryError.
    """
    evaluator = QueryEvaluator(reader, min_margin)
    condition = Condition(min_margin=evaluator.min_margin)
    by_label = (
        _count_query(evaluator, query, condition) if query else _count_all(reader, condition, label_limit)
    )
    top = sorted(by_label.items(), key=lambda row: (-row[1].total(), row[0]))[:label_limit]
    known_days = ((content_id, _day(seconds)) for content_id, seconds in evaluator.dates().items())
    days = {content_id: day for content_id, day in known_days if day is not None}
    used_days = {days[content_id] for _, counts in top for content_id in counts if content_id in days}
    if not used_days:
        return History((), (), sum(counts.total() for _, counts in top))
    length = _period_length(min(used_days), max(used_days))
    periods = _periods(min(used_days), max(used_days), length)
    names = dict(reader.execute("SELECT id, name FROM labels"))
    rows, undated = [], 0
    for label_id, counts in top:
        by_period: Counter[str] = Counter()
        for content_id, count in counts.items():
            if content_id in days:
                by_period[days[content_id].isoformat()[:length]] += count
            else:
                undated += count
        period_counts = tuple(by_period[period] for period in periods)
        rows.append(LabelHistory(names[label_id], counts.total(), period_counts))
    return History(periods, tuple(rows), undated)


def _count_all(reader: sqlite3.Connection, condition: Condition, label_limit: int) -> dict[int, Counter[int]]:
    """Moments in each content, for each of the labels with the most moments."""
    rows = reader.execute(
        f"SELECT label_id FROM segments WHERE {condition.full_sql} GROUP BY label_id "
        "ORDER BY count(*) DESC, label_id LIMIT ?",
        (label_limit,),
    ).fetchall()
    return {label_id: Counter(_contents_with(reader, label_id, condition)) for (label_id,) in rows}


def _contents_with(reader: sqlite3.Connection, label_id: int, condition: Condition) -> Iterable[int]:
    rows = reader.execute(
        f"SELECT content_id FROM segments WHERE label_id = ? AND {condition.full_sql}", (label_id,)
    )
    return map(itemgetter(0), rows)


def _count_query(evaluator: QueryEvaluator, query: str, condition: Condition) -> dict[int, Counter[int]]:
    by_label: dict[int, Counter[int]] = {}
    for row in evaluator.rows(evaluator.parse(query), condition, None, BY_SCORE):
        for step in row.segments:
            by_label.setdefault(step.label_id, Counter())[row.content_id] += 1
    return by_label


def _day(seconds: float) -> date | None:
    """The local day; None of years that the machine's clock cannot be asked about."""
    try:
        return datetime.fromtimestamp(seconds).date()
    except (ValueError, OverflowError, OSError):
        return None


def _period_length(first: date, last: date) -> int:
    """How many characters of an ISO date name a period: 4 for years, 7 for months, 10 for days."""
    days = (last - first).days
    return 4 if days >= _YEARS_FROM_DAYS else 7 if days >= _MONTHS_FROM_DAYS else 10


def _periods(first: date, last: date, length: int) -> tuple[str, ...]:
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    return tuple(dict.fromkeys(day.isoformat()[:length] for day in days))
