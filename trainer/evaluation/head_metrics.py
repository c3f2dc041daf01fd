"""Thresholds of a head, and what can be said of it: from scores of clips and footage that it had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import Hysteresis, find_segments
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.trainer.data.features import Features
from vtag.trainer.evaluation.calibrate import calibrate_threshold

_CHANCE = 0.5
_STRANGERS = (
    0.98  # share of the other labels' windows that stay below a threshold where there is no other footage
)

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LabelMetrics:
    """How one label does on clips of sources that the head had not seen; None where there were too few sources."""

    clips: int
    sources: int
    threshold: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class HeadMetrics:
    """What was found of a head; `confusion` int [K, K] are the judged clips by their label and what was said."""

    labels: Mapping[str, LabelMetrics]
    accuracy: float | None  # of clips of unseen sources, among the labels
    false_per_hour: float | None  # on footage that shows none of the labels; None without any
    confusion: NDArray[np.int64]

    @property
    def thresholds(self) -> dict[str, float]:
        """By label."""
        return {label: figure.threshold for label, figure in self.labels.items()}


@dataclass(frozen=True)
class FinetuneResult:
    """The new model, and what was measured of it."""

    folder: Path
    labels: Mapping[str, LabelMetrics]
    accuracy: float | None
    negative_hours: float  # of footage that shows none of the labels, as far as is known
    false_per_hour: float | None
    remarks: tuple[str, ...] = field(default=())
    confusion: tuple[tuple[int, ...], ...] = ()  # judged clips by their label and what was said


def measure_head(
    labels: Sequence[str],
    truth: NDArray[np.int64],
    sources: Sequence[str],
    judged: NDArray[np.bool_],
    owner: NDArray[np.int64],
    own: Scores,
    negatives: Features,
    other: Scores,
    *,
    per_hour: float,
) -> HeadMetrics:
    """Judge a head by probabilities that it gave to what it had not seen.

    Args:
        truth: the label of each clip [N]; `sources` its video; `judged` whether its scores tell of new videos.
        owner: the clip of each window [W]; `own` [W, K or more] its probabilities.
        negatives: windows of other footage, `other` [M, K or more] their probabilities.
        per_hour: false moments an hour that are accepted, of all labels together.
    """
    count = len(labels)
    limits = np.array(
        [
            _limit(k, own, truth[owner], judged[owner], other, negatives.hours, per_hour / count)
            for k in range(count)
        ]
    )
    best, mean = _of_clips(own, owner, len(truth), count)
    fires = best >= limits
    label_metrics = {}
    for k, label in enumerate(labels):
        is_it = truth == k
        right = int((fires[:, k] & is_it & judged).sum())
        fired, asked = int((fires[:, k] & judged).sum()), int((is_it & judged).sum())
        label_metrics[label] = LabelMetrics(
            clips=int(is_it.sum()),
            sources=len({s for s, own_label in zip(sources, truth, strict=True) if own_label == k}),
            threshold=round(float(limits[k]), 4),
            precision=right / fired if asked and fired else None,
            recall=right / asked if asked else None,
        )
    confusion = np.zeros((count, count), np.int64)
    said = mean.argmax(1)
    np.add.at(confusion, (truth[judged], said[judged]), 1)
    accuracy = float((said == truth)[judged].mean()) if judged.any() and count > 1 else None
    return HeadMetrics(label_metrics, accuracy, _false_per_hour(negatives, other, limits), confusion)


def _of_clips(own: Scores, owner: NDArray[np.int64], clips: int, labels: int) -> tuple[Scores, Scores]:
    """The highest and the mean probability of each clip's windows, [clips, labels] each."""
    best, mean = np.zeros((clips, labels)), np.zeros((clips, labels))
    for clip in np.unique(owner):
        windows = own[owner == clip][:, :labels]
        best[clip], mean[clip] = windows.max(0), windows.mean(0)
    return best, mean


def _limit(
    k: int,
    own: Scores,
    truth: NDArray[np.int64],
    judged: NDArray[np.bool_],
    other: Scores,
    hours: float,
    per_hour: float,
) -> float:
    """One label's threshold: above what footage of other things reaches, else what clips of the other labels do."""
    if len(other):
        return calibrate_threshold(other[:, k], hours, per_hour)
    strangers = own[(truth != k) & judged, k]
    if not len(strangers):
        strangers = own[truth != k, k]
    return max(_CHANCE, float(np.quantile(strangers, _STRANGERS))) if len(strangers) else _CHANCE


def _false_per_hour(negatives: Features, scores: Scores, limits: Scores) -> float | None:
    """Moments an hour that the thresholds let through on footage that shows none of the labels."""
    if not negatives.hours:
        return None
    thresholds = np.concatenate([limits, np.full(scores.shape[1] - len(limits), 2.0)])
    count = 0
    for video in np.unique(negatives.owner):
        own = negatives.owner == video
        windows = negatives.windows[own]
        order = np.argsort(windows[:, 0], kind="stable")
        count += len(
            find_segments(windows[order], scores[own][order], thresholds, END_OF_TIME_MS, Hysteresis())
        )
    return count / negatives.hours
