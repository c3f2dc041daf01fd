"""Moments in order (`running THEN jumping`), best first, without looking into more videos than have to be."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.search import query
from vtag.engine.library.search.rows import BY_SCORE, Condition, Order, SegmentRow

if TYPE_CHECKING:
    from vtag.engine.library.search.evaluate import QueryEvaluator

_FEW = 8192  # rows of the rarest step: then all its videos are looked into
_FIRST_TAKE = 2048  # rows of each step, doubled until enough is found
_CHUNK = 2048  # videos that are looked into at once


def rows(
    matcher: QueryEvaluator,
    node: query.Then,
    where: Condition,
    within: set[int] | None,
    order: Order,
) -> Iterator[SegmentRow]:
    """What `node` finds: rows that span their steps and have the lowest of their scores, in order.

    A row with the score s has steps that all have at least s, in the same video and near each other: the steps' rows
    are taken best first, and only videos in which they could be such a row are looked into (the threshold algorithm
    of Fagin, Lotem and Naor, 2001).
    """
    if order is not BY_SCORE or min(map(matcher.size, node.steps)) < _FEW:
        yield from sorted(
            _found(matcher, node, where, _candidates(matcher, node, where, within)), key=order.key
        )
        return
    steps = [_Step(matcher.rows(step, where, within, BY_SCORE)) for step in node.steps]
    waiting: list[tuple[float, int, SegmentRow]] = []
    looked: set[int] = set()
    take = _FIRST_TAKE
    while True:
        for step in steps:
            step.take(take)
        take *= 2
        bound = max(step.bound for step in steps)  # no row that was not taken yet can give a better score
        if any(step.is_over for step in steps):
            over = next(step for step in steps if step.is_over)
            new, bound = set(over.by_content) - looked, -1.0
        else:
            new = _promising(steps, node.gaps_ms, looked)
        looked |= new
        for row in _found(matcher, node, where, new):
            heapq.heappush(waiting, (-row.score, row.id, row))
        while waiting and -waiting[0][0] > bound:
            yield heapq.heappop(waiting)[2]
        if bound < 0:
            return


class _Step:
    """The best rows of one step, as far as they were taken."""

    def __init__(self, best_first: Iterator[SegmentRow]) -> None:
        self._rest = best_first
        self.by_content: dict[int, list[SegmentRow]] = {}
        self.bound = 2.0  # of what was not taken
        self.is_over = False

    def take(self, count: int) -> None:
        taken = list(itertools.islice(self._rest, count))
        for row in taken:
            self.by_content.setdefault(row.content_id, []).append(row)
        self.is_over |= len(taken) < count
        if taken:
            self.bound = taken[-1].score


def _promising(steps: Sequence[_Step], gaps_ms: Sequence[int], looked: set[int]) -> set[int]:
    """Videos not looked into yet in which rows that were taken follow each other."""
    both = set.intersection(*(set(step.by_content) for step in steps)) - looked
    return {content for content in both if chains([step.by_content[content] for step in steps], gaps_ms)}


def _candidates(
    matcher: QueryEvaluator, node: query.Then, where: Condition, within: set[int] | None
) -> set[int]:
    """The videos that have all steps."""
    for step in sorted(node.steps, key=matcher.size):
        within = matcher.contents(step, where, within)
    return within or set()


def chains(steps: Sequence[Sequence[SegmentRow]], gaps_ms: Sequence[int]) -> list[tuple[SegmentRow, ...]]:
    """Chains of one row a step of one video, each beginning after the one before it and within its gap.

    Of the chains that begin with the same row the earliest in each step, of those that end with the same row the one
    that begins last: what happened twice is there twice, and nothing is counted double.
    """
    following: list[tuple[SegmentRow, ...]] = [(row,) for row in _by_start(steps[-1])]
    for step, gap in zip(reversed(steps[:-1]), reversed(gaps_ms), strict=True):
        starts = [chain[0].start_ms for chain in following]
        longer: list[tuple[SegmentRow, ...]] = []
        for row in _by_start(step):
            at = bisect.bisect_right(starts, row.start_ms)
            if at < len(starts) and starts[at] <= row.end_ms + gap:
                longer.append((row, *following[at]))
        following = longer
    return list({chain[-1].id: chain for chain in following}.values())


def _by_start(step: Sequence[SegmentRow]) -> list[SegmentRow]:
    return sorted(step, key=lambda row: (row.start_ms, -row.score, row.id))


def _found(
    matcher: QueryEvaluator, node: query.Then, where: Condition, contents: Iterable[int]
) -> Iterator[SegmentRow]:
    """All that `node` finds in `contents`."""
    ids = list(contents)
    for at in range(0, len(ids), _CHUNK):
        chunk = set(ids[at : at + _CHUNK])
        by_content: dict[int, list[list[SegmentRow]]] = {c: [[] for _ in node.steps] for c in chunk}
        for number, step in enumerate(node.steps):
            for row in matcher.rows(step, where, chunk, BY_SCORE):
                by_content[row.content_id][number].append(row)
        for steps in by_content.values():
            if all(steps):
                yield from map(_spanning, chains(steps, node.gaps_ms))


def _spanning(chain: tuple[SegmentRow, ...]) -> SegmentRow:
    steps = tuple(itertools.chain.from_iterable(row.steps or (row,) for row in chain))
    return chain[0]._replace(
        score=min(row.score for row in steps), end_ms=max(row.end_ms for row in steps), steps=steps
    )
