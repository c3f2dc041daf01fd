"""Thresholds and metrics of a head, from its scores for clips and footage that it was not trained on."""

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

_DEFAULT_THRESHOLD = 0.5
_OTHER_LABELS_QUANTILE = (
    0.98  # without other footage, this share of the other labels' windows stays below a threshold
)
_NEVER = 2.0  # a threshold that no probability reaches

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label on clips from unseen sources; None if there were too few sources."""

    clips: int
    sources: int
    threshold: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class HeadMetrics:
    """Metrics of a head."""

    labels: Mapping[str, LabelMetrics]
    accuracy: float | None  # of clips from unseen sources, among the labels
    false_per_hour: float | None  # moments on footage without the labels; None if there is no such footage
    confusion: NDArray[np.int64]  # [K, K] number of clips from unseen sources, by label and prediction

    @property
    def thresholds(self) -> dict[str, float]:
        """The threshold of each label."""
        return {label: metrics.threshold for label, metrics in self.labels.items()}


@dataclass(frozen=True)
class FinetuneResult:
    """The new model's folder and metrics."""

    folder: Path
    labels: Mapping[str, LabelMetrics]
    accuracy: float | None
    negative_hours: float  # of footage that shows none of the labels, as far as the library knows
    false_per_hour: float | None
    remarks: tuple[str, ...] = field(default=())
    confusion: tuple[tuple[int, ...], ...] = ()  # as in HeadMetrics


@dataclass(frozen=True)
class ClipScores:
    """Probabilities that a head gives to the windows of N clips of K labels.

    Args:
        truth: the label of each clip [N].
        sources: the source of each clip [N].
        is_unseen: whether the scores of a clip come from a head that was not trained on its source [N].
        owner: the clip of each window [W].
        scores: [W, K or more].
    """

    labels: Sequence[str]
    truth: NDArray[np.int64]
    sources: Sequence[str]
    is_unseen: NDArray[np.bool_]
    owner: NDArray[np.int64]
    scores: Scores


def measure_head(
    clips: ClipScores, negatives: Features, negative_scores: Scores, *, per_hour: float
) -> HeadMetrics:
    """Choose a head's thresholds and measure it.

    Args:
        clips: scores of the labelled clips.
        negatives: windows of footage without the labels.
        negative_scores: probabilities [M, K or more] of `negatives`.
        per_hour: the accepted number of false moments an hour, of all labels together.
    """
    count = len(clips.labels)
    hours = negatives.hours
    thresholds = np.array(
        [_choose_threshold(k, clips, negative_scores, hours, per_hour / count) for k in range(count)]
    )
    highest, mean = _pool_windows(clips)
    is_tagged = highest >= thresholds
    metrics = {
        label: _label_metrics(k, clips, is_tagged[:, k], float(thresholds[k]))
        for k, label in enumerate(clips.labels)
    }
    truth, predictions, is_unseen = clips.truth, mean.argmax(1), clips.is_unseen
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth[is_unseen], predictions[is_unseen]), 1)
    accuracy = float((predictions == truth)[is_unseen].mean()) if is_unseen.any() and count > 1 else None
    return HeadMetrics(metrics, accuracy, _false_per_hour(negatives, negative_scores, thresholds), confusion)


def _label_metrics(k: int, clips: ClipScores, is_tagged: NDArray[np.bool_], threshold: float) -> LabelMetrics:
    """Metrics of label `k`, if the clips of `is_tagged` [N] exceed its threshold."""
    is_label = clips.truth == k
    right = int((is_tagged & is_label & clips.is_unseen).sum())
    tagged, measured = int((is_tagged & clips.is_unseen).sum()), int((is_label & clips.is_unseen).sum())
    return LabelMetrics(
        clips=int(is_label.sum()),
        sources=len({source for source, label in zip(clips.sources, clips.truth, strict=True) if label == k}),
        threshold=round(threshold, 4),
        precision=right / tagged if measured and tagged else None,
        recall=right / measured if measured else None,
    )


def _pool_windows(clips: ClipScores) -> tuple[Scores, Scores]:
    """The highest and the mean probability over the windows of each clip, [N, K] each."""
    shape = (len(clips.truth), len(clips.labels))
    highest, mean = np.zeros(shape), np.zeros(shape)
    for clip in np.unique(clips.owner):
        windows = clips.scores[clips.owner == clip][:, : len(clips.labels)]
        highest[clip], mean[clip] = windows.max(0), windows.mean(0)
    return highest, mean


def _choose_threshold(
    k: int, clips: ClipScores, negative_scores: Scores, hours: float, per_hour: float
) -> float:
    """The threshold of label `k`, from footage without the labels if there is any, else from other labels' clips."""
    if len(negative_scores):
        return calibrate_threshold(negative_scores[:, k], hours, per_hour)
    is_other = clips.truth[clips.owner] != k
    other_scores = clips.scores[is_other & clips.is_unseen[clips.owner], k]
    if not len(other_scores):
        other_scores = clips.scores[is_other, k]
    if not len(other_scores):
        return _DEFAULT_THRESHOLD
    return max(_DEFAULT_THRESHOLD, float(np.quantile(other_scores, _OTHER_LABELS_QUANTILE)))


def _false_per_hour(negatives: Features, scores: Scores, label_thresholds: Scores) -> float | None:
    """Moments an hour that exceed the thresholds on footage without the labels; None if there is no such footage."""
    if not negatives.hours:
        return None
    background = np.full(scores.shape[1] - len(label_thresholds), _NEVER)
    thresholds = np.concatenate([label_thresholds, background])
    count = 0
    for video in np.unique(negatives.owner):
        is_of_video = negatives.owner == video
        windows, video_scores = negatives.windows[is_of_video], scores[is_of_video]
        order = np.argsort(windows[:, 0], kind="stable")
        segments = find_segments(
            windows[order], video_scores[order], thresholds, END_OF_TIME_MS, Hysteresis()
        )
        count += len(segments)
    return count / negatives.hours
