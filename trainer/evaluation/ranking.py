"""How well scores find labelled clips: the order of the clips for each label, and what is said to be sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FIRST_ROWS = 5  # of a search, which a person sees without scrolling


@dataclass(frozen=True)
class LabelRanking:
    """How the clips are ranked for one label, and which of them are sure."""

    label: str
    clips: int  # that show the label
    average_precision: float
    is_first_right: bool
    first_rows: float  # share of right clips in the first FIRST_ROWS; in fewer if fewer are right
    sure: int  # clips with a sure moment of the label
    sure_right: int


@dataclass(frozen=True)
class RankingMetrics:
    """The labels that at least one clip shows, and all labels together; shares are None without anything to share."""

    labels: tuple[LabelRanking, ...]
    clips: int
    sure: int  # pairs of a clip and a label, labels that no clip shows included
    sure_right: int
    clips_of_known_labels: int

    @property
    def mean_average_precision(self) -> float:
        """Mean over the labels that clips show."""
        return float(np.mean([row.average_precision for row in self.labels])) if self.labels else 0.0

    @property
    def first(self) -> float:
        """Share of the labels whose first clip is right."""
        return float(np.mean([row.is_first_right for row in self.labels])) if self.labels else 0.0

    @property
    def first_rows(self) -> float:
        """Mean over the labels of the share of right clips in the first rows."""
        return float(np.mean([row.first_rows for row in self.labels])) if self.labels else 0.0

    @property
    def sure_precision(self) -> float | None:
        """Share of what is sure that is right."""
        return self.sure_right / self.sure if self.sure else None

    @property
    def sure_recall(self) -> float | None:
        """Share of the clips of known labels that are sure of their label."""
        return self.sure_right / self.clips_of_known_labels if self.clips_of_known_labels else None


def measure_ranking(
    labels: Sequence[str],
    truth: NDArray[np.int64],
    scores: NDArray[np.float64],
    is_sure: NDArray[np.bool_],
) -> RankingMetrics:
    """Measure scores and sure moments of N clips for K labels.

    Args:
        labels: the K labels.
        truth: the label of each clip [N]; -1 for a clip that shows none of them.
        scores: [N, K], the best score of each label in each clip.
        is_sure: [N, K], whether a clip has a sure moment of a label.
    """
    rows = [
        _measure_label(label, truth == k, scores[:, k], is_sure[:, k])
        for k, label in enumerate(labels)
        if (truth == k).any()
    ]
    is_right = truth[:, None] == np.arange(len(labels))
    return RankingMetrics(
        tuple(rows),
        len(truth),
        int(is_sure.sum()),
        int((is_sure & is_right).sum()),
        int((truth >= 0).sum()),
    )


def average_precision(scores: NDArray[np.float64], is_right: NDArray[np.bool_]) -> float:
    """Mean precision at the ranks of the right ones, by descending `scores` [N]; equal scores rank the right last."""
    ranked = is_right[np.lexsort((is_right, -scores))]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def _measure_label(
    label: str, is_right: NDArray[np.bool_], scores: NDArray[np.float64], is_sure: NDArray[np.bool_]
) -> LabelRanking:
    ranked = is_right[np.lexsort((is_right, -scores))]
    count = int(is_right.sum())
    return LabelRanking(
        label,
        count,
        average_precision(scores, is_right),
        bool(ranked[0]),
        float(ranked[: min(FIRST_ROWS, count)].mean()),
        int(is_sure.sum()),
        int((is_sure & is_right).sum()),
    )
