"""Segments as a search reads them: rows, conditions on them, and orders; duplicates of several models left out."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from vtag.engine.library.certainty import MARGIN_SQL

COLUMNS = f"score, id, content_id, label_id, model_id, start_ms, end_ms, {MARGIN_SQL}"


class SegmentRow(NamedTuple):
    """A segment, or a sequence of segments (`steps`).

    A sequence spans its steps. It has the lowest of their scores and margins, and the id, label and model of the
    first.
    """

    score: float
    id: int
    content_id: int
    label_id: int
    model_id: int | None
    start_ms: int
    end_ms: int
    margin: float  # above the label's threshold (engine/library/certainty.py)
    steps: tuple[SegmentRow, ...] = ()

    @property
    def segments(self) -> tuple[SegmentRow, ...]:
        """The steps of a sequence; a single segment is its own only step."""
        return self.steps or (self,)


@dataclass(frozen=True)
class Condition:
    """A condition on segments, as SQL with its parameters."""

    sql: str = "1"
    parameters: tuple[object, ...] = ()
    includes_rejected: bool = False  # rejected segments are found only by a query that asks for them
    min_margin: float | None = None  # of the segments; None includes those that are less sure

    def and_(self, other: Condition) -> Condition:
        """The condition that both hold."""
        return Condition(
            f"{self.sql} AND {other.sql}",
            self.parameters + other.parameters,
            self.includes_rejected or other.includes_rejected,
            self.min_margin if other.min_margin is None else other.min_margin,
        )

    @property
    def full_sql(self) -> str:
        """The SQL, which excludes rejected segments unless `includes_rejected`, and those below `min_margin`."""
        sql = self.sql if self.includes_rejected else f"verdict IS NOT 'rejected' AND {self.sql}"
        if self.min_margin is None or self.min_margin == -math.inf:
            return sql
        # a float's repr is a number of SQL; as a parameter it would have to stand at the right place among the others
        return f"{MARGIN_SQL} >= {float(self.min_margin)!r} AND {sql}"


@dataclass(frozen=True)
class Order:
    """One order in two forms: a sort key for rows, and SQL."""

    key: Callable[[SegmentRow], tuple[float, int]]
    sql: str


BY_SCORE = Order(lambda row: (-row.score, row.id), "score DESC, id")
BY_LENGTH = Order(lambda row: (row.start_ms - row.end_ms, row.id), "start_ms - end_ms, id")


def merge_sorted(streams: Sequence[Iterator[SegmentRow]], order: Order) -> Iterator[SegmentRow]:
    """Sorted streams as one sorted stream, which reads no further than its consumer does."""
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=order.key)


class TimeRange(Protocol):
    """Anything with a start and an end in milliseconds."""

    @property
    def start_ms(self) -> int: ...

    @property
    def end_ms(self) -> int: ...


RangeT = TypeVar("RangeT", bound=TimeRange)


def drop_duplicates(
    moments: Iterable[RangeT],
    key: Callable[[RangeT], Hashable],
    source: Callable[[RangeT], Hashable] | None = None,
) -> Iterator[RangeT]:
    """`moments` in their order, without those that overlap an earlier one of the same `key`.

    With `source` (for example the model), only an earlier one from another source counts: several models that find
    the same action give one moment, while one model may find it twice.
    """
    kept_by_key: dict[Hashable, list[RangeT]] = {}
    for moment in moments:
        earlier = kept_by_key.setdefault(key(moment), [])
        if not any(
            other.start_ms < moment.end_ms
            and moment.start_ms < other.end_ms
            and (source is None or source(other) != source(moment))
            for other in earlier
        ):
            earlier.append(moment)
            yield moment
