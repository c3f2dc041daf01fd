"""Scores to segments: the head's probabilities for all windows, then hysteresis for each label. Pure functions.

A segment at its label's threshold is sure. The best stretches below it are less sure segments.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.config import NONE_OF_THESE

DEFAULT_THRESHOLD = 0.3
_EXIT_RATIO = 0.6
_NEVER_SURE = 2.0  # the threshold of a label that has only less sure segments: no probability reaches it
_NEVER = np.inf  # the threshold of "none of these", which has no segments at all
_LARGEST_LOG_ODDS = 20.0  # of a probability; float64 tells no more of those that are rounded to 1e-9
_NEVER_SURE_LOG_ODDS = 7.0  # (0.999) in place of the threshold of a label that is never sure
_SMALLEST_MARGIN = 1e-6  # below the threshold; keeps a less sure segment apart from a sure one
_STRETCHES = 3  # less sure segments of a label in a video at most
_CHUNK = 4096  # windows a step: bounds the memory of the scores


@dataclass(frozen=True)
class Hysteresis:
    """When a segment starts, continues and ends.

    It starts in a window whose probability reaches the label's threshold. It continues while the probability is at
    least `exit_ratio` times the threshold. Pieces at most `max_gap_ms` apart are joined. A segment shorter than
    `min_length_ms` is dropped. docs/segments.md explains the defaults.
    """

    exit_ratio: float = _EXIT_RATIO
    min_length_ms: int = 0
    max_gap_ms: int = 1000


class Segment(NamedTuple):
    """One label (its index) from `start_ms` to `end_ms` (exclusive), with its highest probability."""

    label: int
    start_ms: int
    end_ms: int
    score: float


class LessSureSegment(NamedTuple):
    """A segment below its label's threshold.

    `is_label_best` if it is kept only because it is among the best of its label in the library.
    """

    segment: Segment
    margin: float
    is_label_best: bool


def label_thresholds(
    labels: Sequence[str], by_label: Mapping[str, float], default: float | None
) -> NDArray[np.float64]:
    """Thresholds float64 [K]: a label's own from `by_label`, else `default`, else DEFAULT_THRESHOLD.

    A threshold of 1 means that the label is never sure. The label for "none of these" has no segments at all.
    """
    base = DEFAULT_THRESHOLD if default is None else default
    thresholds = np.array([by_label.get(label, base) for label in labels], np.float64)
    thresholds[thresholds >= 1] = _NEVER_SURE
    thresholds[[label == NONE_OF_THESE for label in labels]] = _NEVER
    return thresholds


def margins(scores: NDArray[np.float64], thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far probabilities lie above (positive) or below (negative) thresholds, as a difference of log odds.

    The difference puts all labels on one scale, whatever their thresholds are. It is 0 at the threshold, -inf for
    "none of these", and negative for a label that is never sure.
    """
    limits = np.where(thresholds >= 1, _NEVER_SURE_LOG_ODDS, _log_odds(np.minimum(thresholds, 1)))
    difference = _log_odds(scores) - limits
    below = np.minimum(difference, -_SMALLEST_MARGIN)
    return np.where(
        thresholds == _NEVER, -np.inf, np.where(scores >= thresholds, np.maximum(difference, 0), below)
    )


def _log_odds(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        log_odds = np.log(values) - np.log1p(-values)
    return np.asarray(log_odds.clip(-_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS))


def probabilities(
    features: NDArray[np.float16], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probabilities [W, K] of features [W, V, D]: softmax of the head, averaged over the V views.

    In float64 and rounded to 1e-9, so that the same features and head give the same scores in any batch.
    """
    out = np.empty((len(features), len(bias)))
    weight64 = weight.astype(np.float64).T
    for start in range(0, len(features), _CHUNK):
        logits = features[start : start + _CHUNK].astype(np.float64) @ weight64 + bias
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=-1, keepdims=True)
        out[start : start + _CHUNK] = logits.mean(axis=1)
    return np.asarray(out.round(9))


def find_segments(
    windows: NDArray[np.int64],
    scores: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    end_ms: int,
    rule: Hysteresis,
) -> list[Segment]:
    """Segments of all labels, by label and start.

    Args:
        windows: int64 [W, 2], start and end of each window in milliseconds, sorted by start.
        scores: float64 [W, K].
        thresholds: float64 [K], the score at which a segment of each label starts; above 1 for a label without any.
        end_ms: the true end of the video. No segment goes beyond it.
        rule: when segments continue and end.
    """
    labels = np.flatnonzero((scores >= thresholds).any(axis=0))  # those with at least one segment
    table = np.ascontiguousarray(scores[:, labels].T)  # (L, W)
    enter = thresholds[labels, None]
    row, column = np.nonzero(_active_windows(windows, table, enter, rule))
    if not len(row):
        return []
    starts = windows[column, 0]
    ends = np.minimum(windows[column, 1], end_ms)
    # the farthest end so far in the same row: windows of a sampling may overlap
    stride = max(int(ends.max()), int(starts.max())) + 1
    reach = np.maximum.accumulate(ends + row * stride) - row * stride
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (starts[1:] - reach[:-1] > rule.max_gap_ms)
    index = np.flatnonzero(first)
    begin, end = starts[index], np.maximum.reduceat(ends, index)
    best = np.maximum.reduceat(table[row, column], index)
    long_enough = (end - begin >= rule.min_length_ms) & (end > begin)
    columns = (labels[row[index]], begin, end, best)
    return list(map(Segment, *(values[long_enough].tolist() for values in columns)))


def _active_windows(
    windows: NDArray[np.int64], table: NDArray[np.float64], enter: NDArray[np.float64], rule: Hysteresis
) -> NDArray[np.bool_]:
    """Which windows of which label are part of a segment: bool [L, W] of probabilities [L, W].

    A run is a sequence of windows that all reach the exit level and lie at most `max_gap_ms` apart. It counts from
    its first window that reaches the enter level.
    """
    above_exit = table >= rule.exit_ratio * enter
    breaks = np.ones(len(windows), bool)  # whether no run continues from the previous window
    breaks[1:] = windows[1:, 0] - np.maximum.accumulate(windows[:-1, 1]) > rule.max_gap_ms
    index = np.arange(above_exit.size).reshape(above_exit.shape)
    # up to each window: the last that ended a run, and the last that reached the enter level
    exits = np.where(~above_exit, index + 1, np.where(breaks, index, 0))
    enters = np.where(table >= enter, index + 1, 0)
    return above_exit & (np.maximum.accumulate(enters, axis=1) > np.maximum.accumulate(exits, axis=1))


def find_less_sure_segments(
    windows: NDArray[np.int64],
    scores: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    sure: Sequence[Segment],
    end_ms: int,
    rule: Hysteresis,
    *,
    limit: int,
    floors: NDArray[np.float64],
) -> list[LessSureSegment]:
    """The best stretches below the thresholds, by margin: at most `limit`, and what `floors` add to them.

    A stretch is a window with the highest score of its label, and its neighbours of at least `exit_ratio` times that
    score. It does not touch a sure segment of its label. A label has at most three.

    Args:
        windows, scores, thresholds, end_ms, rule: as for `find_segments`.
        sure: what `find_segments` found.
        limit: the number of segments; a label counts first by its best.
        floors: float64 [K]. The best stretch of a label is returned beyond `limit` if its score is above the label's.
    """
    distance = margins(scores, thresholds)
    distance[windows[:, 0] >= end_ms] = -np.inf
    for segment in sure:
        near = _touches(windows, segment.start_ms - rule.max_gap_ms, segment.end_ms + rule.max_gap_ms)
        distance[near, segment.label] = -np.inf
    peaks = distance.max(axis=0, initial=-np.inf)
    order = np.argsort(-peaks, kind="stable")
    order = order[np.isfinite(peaks[order])]
    stretches = [
        stretch
        for label in order[:limit].tolist()
        for stretch in _best_stretches(windows, scores[:, label], distance[:, label], label, end_ms, rule)
    ]
    stretches.sort(key=lambda stretch: -stretch.margin)
    kept = stretches[:limit]
    for label in order[limit:].tolist():
        column = distance[:, label]
        if scores[int(column.argmax()), label] > floors[label]:
            best = next(_best_stretches(windows, scores[:, label], column, label, end_ms, rule))
            kept.append(best._replace(is_label_best=True))
    return kept


def _best_stretches(
    windows: NDArray[np.int64],
    scores: NDArray[np.float64],
    distance: NDArray[np.float64],
    label: int,
    end_ms: int,
    rule: Hysteresis,
) -> Iterator[LessSureSegment]:
    """The best stretches of one label, best first; `scores` and `distance` [W] are of this label."""
    distance = distance.copy()
    for _ in range(_STRETCHES):
        peak = int(distance.argmax())
        if not np.isfinite(distance[peak]):
            return
        inside = np.isfinite(distance) & (scores >= rule.exit_ratio * scores[peak])
        first = last = peak
        while (
            first > 0 and inside[first - 1] and windows[first, 0] - windows[first - 1, 1] <= rule.max_gap_ms
        ):
            first -= 1
        while (
            last + 1 < len(windows)
            and inside[last + 1]
            and windows[last + 1, 0] - windows[last, 1] <= rule.max_gap_ms
        ):
            last += 1
        start, end = int(windows[first, 0]), min(int(windows[first : last + 1, 1].max()), end_ms)
        margin = float(distance[peak])
        distance[_touches(windows, start - rule.max_gap_ms, end + rule.max_gap_ms)] = -np.inf
        distance[first : last + 1] = -np.inf
        yield LessSureSegment(Segment(label, start, end, float(scores[peak])), margin, False)


def _touches(windows: NDArray[np.int64], start_ms: int, end_ms: int) -> NDArray[np.bool_]:
    """Which windows share time with a range, or border on it."""
    touching: NDArray[np.bool_] = (windows[:, 0] <= end_ms) & (windows[:, 1] >= start_ms)
    return touching
