"""Segments as a search reads them: rows, which of them count, and in which order they come."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

COLUMNS = "score, id, content_id, label_id, model_id, start_ms, end_ms"


class SegmentRow(NamedTuple):
    """A segment, or several in order: then it spans them, and what is not of all of them is the first's."""

    score: float
    id: int
    content_id: int
    label_id: int
    model_id: int | None
    start_ms: int
    end_ms: int
    steps: tuple[SegmentRow, ...] = ()


@dataclass(frozen=True)
class Condition:
    """Which segments count, as SQL and its parameters."""

    sql: str = "1"
    parameters: tuple[object, ...] = ()
    asks_rejected: bool = False  # what a person rejected counts only where it is asked for

    def and_(self, other: Condition) -> Condition:
        """What fits both."""
        return Condition(
            f"{self.sql} AND {other.sql}",
            self.parameters + other.parameters,
            self.asks_rejected or other.asks_rejected,
        )

    @property
    def whole(self) -> str:
        """The SQL, with what always holds."""
        return self.sql if self.asks_rejected else f"verdict IS NOT 'rejected' AND {self.sql}"


@dataclass(frozen=True)
class Order:
    """The same order twice: of rows in Python and in SQL."""

    key: Callable[[SegmentRow], tuple[float, int]]
    sql: str


BY_SCORE = Order(lambda row: (-row.score, row.id), "score DESC, id")
BY_LENGTH = Order(lambda row: (row.start_ms - row.end_ms, row.id), "start_ms - end_ms, id")


def merged(streams: Sequence[Iterator[SegmentRow]], order: Order) -> Iterator[SegmentRow]:
    """Streams that are in order as one, read no further than it is."""
    return streams[0] if len(streams) == 1 else heapq.merge(*streams, key=order.key)
