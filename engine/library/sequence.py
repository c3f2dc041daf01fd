"""Moments in order (`running THEN jumping`), best first, without looking into more videos than have to be."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vtag.engine.library import query
from vtag.engine.library.rows import BY_SCORE, Order, Row, Where

if TYPE_CHECKING:
    from vtag.engine.library.matches import Matcher

_FIRST_CHUNK, _LARGEST_CHUNK = 64, 2048  # videos that are looked into at once


def rows(
    matcher: Matcher,
    node: query.Then,
    where: Where,
    within: set[int] | None,
    order: Order,
) -> Iterator[Row]:
    """What `node` finds: rows that span their steps and have the lowest of their scores, in order.

    A video's best cannot be better than its worst step's best: videos are looked into in the order of that bound, and
    a row is given when no later video can have a better one.
    """
    bounds = _bounds(matcher, node, where, within)
    ordered = sorted(bounds, key=lambda content: -bounds[content])
    if order is not BY_SCORE:
        yield from sorted(_found(matcher, node, where, ordered), key=order.key)
        return
    waiting: list[tuple[float, int, Row]] = []
    at, size = 0, _FIRST_CHUNK
    while at < len(ordered):
        while waiting and -waiting[0][0] > bounds[ordered[at]]:
            yield heapq.heappop(waiting)[2]
        for row in _found(matcher, node, where, ordered[at : at + size]):
            heapq.heappush(waiting, (-row.score, row.id, row))
        at, size = at + size, min(2 * size, _LARGEST_CHUNK)
    while waiting:
        yield heapq.heappop(waiting)[2]


def chains(steps: Sequence[Sequence[Row]], gaps_ms: Sequence[int]) -> list[tuple[Row, ...]]:
    """Chains of one row a step of one video, each beginning after the one before it and within its gap.

    Of the chains that begin with the same row the earliest in each step, of those that end with the same row the one
    that begins last: what happened twice is there twice, and nothing is counted double.
    """
    following: list[tuple[Row, ...]] = [(row,) for row in _by_start(steps[-1])]
    for step, gap in zip(reversed(steps[:-1]), reversed(gaps_ms), strict=True):
        starts = [chain[0].start_ms for chain in following]
        longer: list[tuple[Row, ...]] = []
        for row in _by_start(step):
            at = bisect.bisect_right(starts, row.start_ms)
            if at < len(starts) and starts[at] <= row.end_ms + gap:
                longer.append((row, *following[at]))
        following = longer
    return list({chain[-1].id: chain for chain in following}.values())


def _by_start(step: Sequence[Row]) -> list[Row]:
    return sorted(step, key=lambda row: (row.start_ms, -row.score, row.id))


def _bounds(matcher: Matcher, node: query.Then, where: Where, within: set[int] | None) -> dict[int, float]:
    bounds: dict[int, float] | None = None
    for step in sorted(node.steps, key=matcher.size):
        best = matcher.best(step, where, within)
        bounds = best if bounds is None else {c: min(bounds[c], s) for c, s in best.items() if c in bounds}
        within = set(bounds)
    return bounds or {}


def _found(matcher: Matcher, node: query.Then, where: Where, contents: Sequence[int]) -> Iterator[Row]:
    """All that `node` finds in `contents`."""
    for at in range(0, len(contents), _LARGEST_CHUNK):
        chunk = set(contents[at : at + _LARGEST_CHUNK])
        by_content: dict[int, list[list[Row]]] = {c: [[] for _ in node.steps] for c in chunk}
        for number, step in enumerate(node.steps):
            for row in matcher.rows(step, where, chunk, BY_SCORE):
                by_content[row.content_id][number].append(row)
        for steps in by_content.values():
            yield from map(_spanning, chains(steps, node.gaps_ms))


def _spanning(chain: tuple[Row, ...]) -> Row:
    steps = tuple(itertools.chain.from_iterable(row.steps or (row,) for row in chain))
    return chain[0]._replace(
        score=min(row.score for row in steps), end_ms=max(row.end_ms for row in steps), steps=steps
    )
