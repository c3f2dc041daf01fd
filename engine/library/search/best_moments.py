"""The first view of a library: the best moment of each label, then the second best of each, and so on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace

from vtag.engine.library.search.evaluate import ANY_LABEL, QueryEvaluator
from vtag.engine.library.search.rows import BY_SCORE, Condition, SegmentRow, drop_duplicates


def best_rows(
    evaluator: QueryEvaluator, condition: Condition, *, has_less_sure: bool, rounds: int | None = None
) -> Iterator[SegmentRow]:
    """Moments in rounds: of each label the best one, then the second best of each, and so on, at most `rounds`.

    First come all rounds of sure moments, each sorted by score. Then, if `has_less_sure`, come those of less sure
    ones, each sorted by margin, of labels that have fewer than `rounds` sure ones. Reads each label's index no
    further than its consumer needs.
    """
    min_margin = evaluator.min_margin
    sure = replace(condition, min_margin=min_margin)
    counts: dict[int, int] = {}
    for row in _rounds(evaluator, sure, BY_SCORE.key, rounds):
        counts[row.label_id] = counts.get(row.label_id, 0) + 1
        yield row
    if has_less_sure:
        for row in _rounds(evaluator, condition, _by_margin, rounds):
            if row.margin < min_margin and (rounds is None or counts.get(row.label_id, 0) < rounds):
                yield row


def _rounds(
    evaluator: QueryEvaluator,
    condition: Condition,
    order: Callable[[SegmentRow], tuple[float, int]],
    rounds: int | None,
) -> Iterator[SegmentRow]:
    streams = [
        _label_rows(evaluator, label_id, condition, rounds) for label_id in evaluator.label_ids(ANY_LABEL)
    ]
    while streams:
        heads = [(next(stream, None), stream) for stream in streams]
        streams = [stream for row, stream in heads if row is not None]
        yield from sorted((row for row, _ in heads if row is not None), key=order)


def _label_rows(
    evaluator: QueryEvaluator, label_id: int, condition: Condition, rounds: int | None
) -> Iterator[SegmentRow]:
    """A label's moments that nobody rejected, best first; of what several models found, only the best."""
    rows = evaluator.label_rows([label_id], condition, None, BY_SCORE)
    distinct = drop_duplicates(rows, key=lambda row: row.content_id, source=lambda row: row.model_id)
    return itertools.islice(distinct, rounds)


def _by_margin(row: SegmentRow) -> tuple[float, int]:
    return -row.margin, row.id
