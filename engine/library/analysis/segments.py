"""Scores to segments: the head over the features of all windows, then hysteresis for each label. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEFAULT_THRESHOLD = 0.3
_LEAVE = 0.6  # of the threshold at which a segment begins
_CHUNK = 4096  # windows a step: bounds the memory of the scores


@dataclass(frozen=True)
class Rule:
    """When a segment begins, goes on and ends.

    It begins in a window whose probability is at least the label's threshold, goes on while it is at least
    `leave` times that, pieces that are no farther apart than `gap_ms` are one, and what is shorter than
    `least_ms` is dropped. The defaults are explained in docs/segments.md.
    """

    leave: float = _LEAVE
    least_ms: int = 0
    gap_ms: int = 1000


class Segment(NamedTuple):
    """One label from `start_ms` to `end_ms` (exclusive), with its highest probability."""

    label: int
    start_ms: int
    end_ms: int
    score: float


def probabilities(
    features: NDArray[np.float16], weight: NDArray[np.float32], bias: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Probabilities [W, K] of features [W, V, D]: softmax of the head, averaged over the V views.

    In float64 and rounded to 1e-9, so that the same features and head give the same scores in any batch.
    """
    out = np.empty((len(features), len(bias)))
    weight64 = weight.astype(np.float64).T
    for at in range(0, len(features), _CHUNK):
        logits = features[at : at + _CHUNK].astype(np.float64) @ weight64 + bias
        logits -= logits.max(axis=-1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=-1, keepdims=True)
        out[at : at + _CHUNK] = logits.mean(axis=1)
    return np.asarray(out.round(9))


def segments_of(
    windows: NDArray[np.int64],
    scores: NDArray[np.float64],
    thresholds: NDArray[np.float64],
    end_ms: int,
    rule: Rule,
) -> list[Segment]:
    """Segments of all labels, by label and start.

    Args:
        windows: int64 [W, 2], start and end of each window in milliseconds, sorted by start.
        scores: float64 [W, K].
        thresholds: float64 [K], where each label's segments begin; above 1 for a label that is never said.
        end_ms: the true end of the video, which no segment passes.
        rule: hysteresis.
    """
    spoken = np.flatnonzero((scores >= thresholds).any(axis=0))
    table = np.ascontiguousarray(scores[:, spoken].T)  # (L, W)
    enter = thresholds[spoken, None]
    heard = _heard(windows, table, enter, rule)
    row, column = np.nonzero(heard)
    if not len(row):
        return []
    starts = windows[column, 0]
    ends = np.minimum(windows[column, 1], end_ms)
    # the farthest end so far in the same row: the windows of a wide sampling overlap
    stride = max(int(ends.max()), int(starts.max())) + 1
    reach = np.maximum.accumulate(ends + row * stride) - row * stride
    first = np.ones(len(row), bool)
    first[1:] = (row[1:] != row[:-1]) | (starts[1:] - reach[:-1] > rule.gap_ms)
    at = np.flatnonzero(first)
    begin, end = starts[at], np.maximum.reduceat(ends, at)
    best = np.maximum.reduceat(table[row, column], at)
    long_enough = (end - begin >= rule.least_ms) & (end > begin)
    columns = (spoken[row[at]], begin, end, best)
    return list(map(Segment, *(values[long_enough].tolist() for values in columns)))


def _heard(
    windows: NDArray[np.int64], table: NDArray[np.float64], enter: NDArray[np.float64], rule: Rule
) -> NDArray[np.bool_]:
    """Which windows of which label are part of a segment: bool [L, W] of probabilities [L, W].

    A run is a row of windows, none farther from the one before it than the largest gap, that all are at least at
    the leave level; it counts from its first window that is at the enter level.
    """
    held = table >= rule.leave * enter
    broken = np.ones(len(windows), bool)  # whether a run cannot come over from the window before
    broken[1:] = windows[1:, 0] - np.maximum.accumulate(windows[:-1, 1]) > rule.gap_ms
    index = np.arange(held.size).reshape(held.shape)
    # the last window, up to each, in which a run could not have gone on, and the last that entered
    ended = np.where(~held, index + 1, np.where(broken, index, 0))
    entered = np.where(table >= enter, index + 1, 0)
    return held & (np.maximum.accumulate(entered, axis=1) > np.maximum.accumulate(ended, axis=1))
