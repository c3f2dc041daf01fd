"""Evaluates sequences (`running THEN jumping`), best first, reading no more videos than necessary."""

from __future__ import annotations

import bisect
import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from vtag.engine.library.search import query
from vtag.engine.library.search.rows import BY_SCORE, Condition, Order, SegmentRow

_SMALL_STEP = 8192  # rows: if the rarest step has fewer, all its videos are read at once
_FIRST_BATCH = 2048  # rows of each step; doubled until enough sequences are found
_VIDEO_CHUNK = 2048  # videos that are read at once


class StepEvaluator(Protocol):
    """What a sequence needs of the evaluator of its steps."""

    def rows(
        self, node: query.Node, condition: Condition, scope: set[int] | None, order: Order
    ) -> Iterator[SegmentRow]:
        """The segments that `node` finds in the contents `scope` (None: in all), sorted."""
        ...

    def content_ids(self, node: query.Node, condition: Condition, scope: set[int] | None) -> set[int]:
        """The contents in which `node` finds something."""
        ...

    def estimate_size(self, node: query.Node) -> int:
        """Roughly how many segments `node` finds."""
        ...


def sequence_rows(
    evaluator: StepEvaluator,
    node: query.Then,
    condition: Condition,
    scope: set[int] | None,
    order: Order,
) -> Iterator[SegmentRow]:
    """The sequences that `node` finds, sorted.

    A sequence with the score s consists of steps that each score at least s, in one video and near each other. So
    the rows of each step are read best first, and a video is searched only once it has rows of all steps that could
    form a sequence (the threshold algorithm of Fagin, Lotem and Naor, 2001).
    """
    if order is not BY_SCORE or min(map(evaluator.estimate_size, node.steps)) < _SMALL_STEP:
        candidates = _contents_with_all_steps(evaluator, node, condition, scope)
        yield from sorted(_find_sequences(evaluator, node, condition, candidates), key=order.key)
        return
    steps = [_StepReader(evaluator.rows(step, condition, scope, BY_SCORE)) for step in node.steps]
    pending: list[tuple[float, int, SegmentRow]] = []
    searched: set[int] = set()
    batch = _FIRST_BATCH
    while True:
        for step in steps:
            step.read(batch)
        batch *= 2
        bound = max(step.bound for step in steps)  # no unread row leads to a better score
        if any(step.is_exhausted for step in steps):
            exhausted = next(step for step in steps if step.is_exhausted)
            candidates, bound = set(exhausted.by_content) - searched, -1.0
        else:
            candidates = _contents_with_chains(steps, node.gaps_ms, searched)
        searched |= candidates
        for row in _find_sequences(evaluator, node, condition, candidates):
            heapq.heappush(pending, (-row.score, row.id, row))
        while pending and -pending[0][0] > bound:
            yield heapq.heappop(pending)[2]
        if bound < 0:
            return


class _StepReader:
    """Reads the rows of one step, best first, in batches."""

    def __init__(self, best_first: Iterator[SegmentRow]) -> None:
        self._best_first = best_first
        self.by_content: dict[int, list[SegmentRow]] = {}
        self.bound = 2.0  # no unread row scores higher; at first above every score
        self.is_exhausted = False

    def read(self, count: int) -> None:
        batch = list(itertools.islice(self._best_first, count))
        for row in batch:
            self.by_content.setdefault(row.content_id, []).append(row)
        self.is_exhausted |= len(batch) < count
        if batch:
            self.bound = batch[-1].score


def _contents_with_chains(
    steps: Sequence[_StepReader], gaps_ms: Sequence[int], searched: set[int]
) -> set[int]:
    """The contents, not searched yet, in which rows that were read so far form a chain."""
    with_all_steps = set.intersection(*(set(step.by_content) for step in steps)) - searched
    return {
        content_id
        for content_id in with_all_steps
        if find_chains([step.by_content[content_id] for step in steps], gaps_ms)
    }


def _contents_with_all_steps(
    evaluator: StepEvaluator, node: query.Then, condition: Condition, scope: set[int] | None
) -> set[int]:
    for step in sorted(node.steps, key=evaluator.estimate_size):
        scope = evaluator.content_ids(step, condition, scope)
    return scope or set()


def find_chains(
    steps: Sequence[Sequence[SegmentRow]], gaps_ms: Sequence[int]
) -> list[tuple[SegmentRow, ...]]:
    """Chains of one row for each step, all of one video: each row starts after the previous and within its gap.

    No row starts two chains, and no row ends two. From A at 1 s, A at 5 s, B at 8 s and B at 9 s, only the chain
    from 5 s to 8 s remains: of several B after an A the first is taken, and of several A before that B the last.
    """
    chains: list[tuple[SegmentRow, ...]] = [(row,) for row in _by_start(steps[-1])]
    for step, gap_ms in zip(reversed(steps[:-1]), reversed(gaps_ms), strict=True):
        starts = [chain[0].start_ms for chain in chains]
        longer: list[tuple[SegmentRow, ...]] = []
        for row in _by_start(step):
            following = bisect.bisect_right(starts, row.start_ms)
            if following < len(starts) and starts[following] <= row.end_ms + gap_ms:
                longer.append((row, *chains[following]))
        chains = longer
    return list({chain[-1].id: chain for chain in chains}.values())


def _by_start(step: Sequence[SegmentRow]) -> list[SegmentRow]:
    return sorted(step, key=lambda row: (row.start_ms, -row.score, row.id))


def _find_sequences(
    evaluator: StepEvaluator, node: query.Then, condition: Condition, content_ids: Iterable[int]
) -> Iterator[SegmentRow]:
    """All sequences that `node` finds in these contents."""
    ids = list(content_ids)
    for start in range(0, len(ids), _VIDEO_CHUNK):
        chunk = set(ids[start : start + _VIDEO_CHUNK])
        by_content: dict[int, list[list[SegmentRow]]] = {id_: [[] for _ in node.steps] for id_ in chunk}
        for number, step in enumerate(node.steps):
            for row in evaluator.rows(step, condition, chunk, BY_SCORE):
                by_content[row.content_id][number].append(row)
        for steps in by_content.values():
            if all(steps):
                yield from map(_spanning_row, find_chains(steps, node.gaps_ms))


def _spanning_row(chain: tuple[SegmentRow, ...]) -> SegmentRow:
    steps = tuple(itertools.chain.from_iterable(row.segments for row in chain))
    return chain[0]._replace(
        score=min(row.score for row in steps),
        end_ms=max(row.end_ms for row in steps),
        margin=min(row.margin for row in steps),
        steps=steps,
    )
