"""Scores to segments: the head's probabilities for all windows, then hysteresis for each label. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.swin.config import NONE_OF_THESE

DEFAULT_THRESHOLD = 0.3
_EXIT_RATIO = 0.6
_UNREACHABLE = 2.0  # a threshold that no probability reaches
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


def label_thresholds(
    labels: Sequence[str], by_label: Mapping[str, float], default: float | None
) -> NDArray[np.float64]:
    """Thresholds float64 [K]: a label's own from `by_label`, else `default`, else DEFAULT_THRESHOLD.

    The label for "none of these" never starts a segment.
    """
    base = DEFAULT_THRESHOLD if default is None else default
    return np.array(
        [_UNREACHABLE if label == NONE_OF_THESE else by_label.get(label, base) for label in labels]
    )


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
