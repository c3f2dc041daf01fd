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
    found = []
    spoken = np.flatnonzero((scores >= thresholds).any(axis=0))
    for label in map(int, spoken):
        enter = thresholds[label]
        column = scores[:, label]
        pieces: list[list[float]] = []
        for i in np.flatnonzero(column >= rule.leave * enter):
            start, end = int(windows[i, 0]), min(int(windows[i, 1]), end_ms)
            if pieces and start - pieces[-1][1] <= rule.gap_ms:
                pieces[-1][1] = max(pieces[-1][1], end)
                pieces[-1][2] = max(pieces[-1][2], float(column[i]))
            else:
                pieces.append([start, end, float(column[i])])
        found += [
            Segment(label, int(start), int(end), score)
            for start, end, score in pieces
            if score >= enter and end - start >= rule.least_ms
        ]
    return found
