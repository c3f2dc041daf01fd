"""How often each label was found in videos of each year, month or day."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from datetime import date, datetime, timedelta
from operator import itemgetter
from typing import NamedTuple

from vtag.engine.library.search.evaluate import QueryEvaluator
from vtag.engine.library.search.query import parse
from vtag.engine.library.search.rows import BY_SCORE, Condition

_MONTHS_FROM_DAYS = 92  # a longer time is shown by months
_YEARS_FROM_DAYS = 6 * 366


class LabelHistory(NamedTuple):
    """One label: how often it was found, and how often in each period."""

    label: str
    total: int
    counts: tuple[int, ...]


class History(NamedTuple):
    """Periods without a gap, as 2023, 2023-05 or 2023-05-17, and the labels that were found most, most first."""

    periods: tuple[str, ...]
    labels: tuple[LabelHistory, ...]
    undated: int  # moments of the shown labels in videos whose date is not known


def history(reader: sqlite3.Connection, query: str | None = None, *, label_limit: int = 15) -> History:
    """The `most` labels that were found most often, among the moments of `query` where there is one.

    Raises QueryError.
    """
    matcher = QueryEvaluator(reader)
    by_label = _of_query(matcher, query) if query else _of_all(reader, label_limit)
    top = sorted(by_label.items(), key=lambda row: (-row[1].total(), row[0]))[:label_limit]
    dated = ((content, _day(seconds)) for content, seconds in matcher.dates().items())
    days = {content: day for content, day in dated if day is not None}
    found = {days[content] for _, counts in top for content in counts if content in days}
    if not found:
        return History((), (), sum(counts.total() for _, counts in top))
    length = _length(min(found), max(found))
    periods = _periods(min(found), max(found), length)
    names = dict(reader.execute("SELECT id, name FROM labels"))
    rows, undated = [], 0
    for label, counts in top:
        in_period: Counter[str] = Counter()
        for content, count in counts.items():
            if content in days:
                in_period[days[content].isoformat()[:length]] += count
            else:
                undated += count
        rows.append(LabelHistory(names[label], counts.total(), tuple(in_period[p] for p in periods)))
    return History(periods, tuple(rows), undated)


def _of_all(reader: sqlite3.Connection, label_limit: int) -> dict[int, Counter[int]]:
    """How many moments of the most frequent labels each content has."""
    rows = reader.execute(
        "SELECT label_id FROM segments GROUP BY label_id ORDER BY count(*) DESC, label_id LIMIT ?",
        (label_limit,),
    ).fetchall()
    return {label: Counter(_contents(reader, label)) for (label,) in rows}


def _contents(reader: sqlite3.Connection, label: int) -> Iterable[int]:
    rows = reader.execute(
        "SELECT content_id FROM segments WHERE label_id = ? AND verdict IS NOT 'rejected'", (label,)
    )
    return map(itemgetter(0), rows)


def _of_query(matcher: QueryEvaluator, query: str) -> dict[int, Counter[int]]:
    by_label: dict[int, Counter[int]] = {}
    for row in matcher.rows(parse(query), Condition(), None, BY_SCORE):
        for step in row.steps or (row,):
            by_label.setdefault(step.label_id, Counter())[row.content_id] += 1
    return by_label


def _day(seconds: float) -> date | None:
    """The local day; None of years that the machine's clock cannot be asked about."""
    try:
        return datetime.fromtimestamp(seconds).date()
    except (ValueError, OverflowError, OSError):
        return None


def _length(first: date, last: date) -> int:
    """How much of an ISO date names a period."""
    days = (last - first).days
    return 4 if days >= _YEARS_FROM_DAYS else 7 if days >= _MONTHS_FROM_DAYS else 10


def _periods(first: date, last: date, length: int) -> tuple[str, ...]:
    days = (first + timedelta(days=i) for i in range((last - first).days + 1))
    return tuple(dict.fromkeys(day.isoformat()[:length] for day in days))
