"""Thresholds and metrics of a head, from its scores for clips and footage that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import Hysteresis, find_segments
from vtag.engine.library.analysis.tag_line import LIKELY, choose_line
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.trainer.data.features import Features
from vtag.trainer.evaluation.calibrate import calibrate_threshold

_FOOTAGE_QUANTILE = (
    0.98  # the level of other footage: up to 2 % of its windows may show the label unknown to anybody
)
_LITTLE_FOOTAGE_HOURS = 0.1  # with less, and nothing rejected, a line is at least LIKELY
_MUCH_FOOTAGE_HOURS = (
    1.0  # with less, a few unknown moments of a label are too large a share to tell what is quiet
)
_MAX_KNOWN_SCORES = 200  # of a label, that are kept
_NEVER = 2.0  # a threshold that no probability reaches

Scores = NDArray[np.float64]


@dataclass(frozen=True)
class LabelMetrics:
    """Metrics of one label on clips from unseen sources; None if there were too few sources.

    `threshold` is the label's line. `yes` and `no` are the head's scores for what shows the label and for what does
    not, best first. The line lies between them.
    """

    clips: int
    sources: int
    threshold: float
    precision: float | None
    recall: float | None
    yes: tuple[float, ...] = ()
    no: tuple[float, ...] = ()


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
        final_scores: [W, K or more] of the final head, if it is another.
    """

    labels: Sequence[str]
    truth: NDArray[np.int64]
    sources: Sequence[str]
    is_unseen: NDArray[np.bool_]
    owner: NDArray[np.int64]
    scores: Scores
    final_scores: Scores | None = None


@dataclass(frozen=True)
class RejectedScores:
    """The label of each rejected range, and each range's highest probabilities [R, K or more] by the final head."""

    labels: tuple[str, ...]
    scores: Scores


def measure_head(
    clips: ClipScores,
    negatives: Features,
    negative_scores: Scores,
    *,
    per_hour: float,
    rejected: RejectedScores | None = None,
) -> HeadMetrics:
    """Choose the line of each label, and measure the head with it.

    Args:
        clips: scores of the labelled clips.
        negatives: windows of footage without the labels.
        negative_scores: probabilities [M, K or more] of `negatives`.
        per_hour: the accepted number of false moments an hour, of all labels together.
        rejected: what a person said is not of a label.
    """
    count = len(clips.labels)
    highest, mean = _pool_windows(clips, clips.scores)
    final = highest if clips.final_scores is None else _pool_windows(clips, clips.final_scores)[0]
    known = [_known_scores(k, clips, final, rejected) for k in range(count)]
    is_rejected = [rejected is not None and label in rejected.labels for label in clips.labels]
    thresholds = np.array(
        [
            _choose_threshold(
                known[k], negative_scores[:, k], negatives.hours, per_hour / count, is_rejected[k]
            )
            for k in range(count)
        ]
    )
    is_tagged = highest >= thresholds
    metrics = {
        label: _label_metrics(k, clips, is_tagged[:, k], float(thresholds[k]), known[k])
        for k, label in enumerate(clips.labels)
    }
    truth, predictions, is_unseen = clips.truth, mean.argmax(1), clips.is_unseen
    confusion = np.zeros((count, count), np.int64)
    np.add.at(confusion, (truth[is_unseen], predictions[is_unseen]), 1)
    accuracy = float((predictions == truth)[is_unseen].mean()) if is_unseen.any() and count > 1 else None
    return HeadMetrics(metrics, accuracy, _false_per_hour(negatives, negative_scores, thresholds), confusion)


_KnownScores = tuple[list[float], list[float]]  # of what shows a label, and of what does not, best first


def _known_scores(
    k: int, clips: ClipScores, highest: Scores, rejected: RejectedScores | None
) -> _KnownScores:
    """Scores of label `k` for its own clips, and for those of other labels and what was rejected."""
    no = highest[clips.truth != k, k].tolist()
    if rejected is not None:
        is_own = [label == clips.labels[k] for label in rejected.labels]
        no += rejected.scores[is_own, k].tolist()
    return sorted(highest[clips.truth == k, k].tolist(), reverse=True), sorted(no, reverse=True)


def _label_metrics(
    k: int, clips: ClipScores, is_tagged: NDArray[np.bool_], threshold: float, known: _KnownScores
) -> LabelMetrics:
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
        yes=tuple(round(score, 4) for score in known[0][:_MAX_KNOWN_SCORES]),
        no=tuple(round(score, 4) for score in known[1][:_MAX_KNOWN_SCORES]),
    )


def _pool_windows(clips: ClipScores, scores: Scores) -> tuple[Scores, Scores]:
    """The highest and the mean of `scores` [W, K or more] over the windows of each clip, [N, K] each."""
    shape = (len(clips.truth), len(clips.labels))
    highest, mean = np.zeros(shape), np.zeros(shape)
    for clip in np.unique(clips.owner):
        windows = scores[clips.owner == clip][:, : len(clips.labels)]
        highest[clip], mean[clip] = windows.max(0), windows.mean(0)
    return highest, mean


def _choose_threshold(
    known: _KnownScores, footage: Scores, hours: float, per_hour: float, is_rejected: bool
) -> float:
    """The line of a label between what is known to show it and what is not.

    Args:
        known: scores of what shows the label, and of what does not.
        footage: scores [M] of footage without the label, as far as anybody knows.
        hours: length of the footage.
        per_hour: the accepted number of false moments an hour.
        is_rejected: whether a person said No to anything.
    """
    yes, no = known
    is_guess = hours < _LITTLE_FOOTAGE_HOURS and not is_rejected
    quiet = calibrate_threshold(footage, hours, per_hour) if hours >= _MUCH_FOOTAGE_HOURS else 0.0
    return choose_line(yes, no, at_least=LIKELY if is_guess else 0.0, quiet=quiet)


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
