"""Rankings of labelled clips: average precision against a slow count, first rows, and what is sure."""

from __future__ import annotations

import numpy as np
import pytest

from vtag.trainer.evaluation.ranking import average_precision, measure_ranking


def precision_by_counting(scores: list[float], is_right: list[bool]) -> float:
    order = sorted(range(len(scores)), key=lambda n: (-scores[n], is_right[n]))
    precisions = [
        sum(is_right[n] for n in order[: rank + 1]) / (rank + 1)
        for rank, place in enumerate(order)
        if is_right[place]
    ]
    return sum(precisions) / len(precisions)


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_is_that_of_a_slow_count(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 8, 20) / 8  # with equal scores
    is_right = rng.random(20) < 0.3
    is_right[seed] = True
    expected = precision_by_counting(scores.tolist(), is_right.tolist())
    assert average_precision(scores, is_right) == pytest.approx(expected)


def test_rows_of_a_label_and_of_all() -> None:
    truth = np.array([0, 0, 1, -1])
    scores = np.array([[0.9, 0.1], [0.2, 0.3], [0.1, 0.8], [0.5, 0.9]])
    is_sure = np.array([[True, False], [False, False], [False, True], [True, False]])
    metrics = measure_ranking(["archery", "yoga", "never shown"], truth, _widen(scores), _widen(is_sure))
    archery, yoga = metrics.labels  # a label without a clip has no row
    assert archery.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert (archery.is_first_right, archery.first_rows, archery.sure, archery.sure_right) == (True, 0.5, 2, 1)
    assert (yoga.average_precision, yoga.is_first_right, yoga.sure_right) == (0.5, False, 1)
    assert metrics.first == 0.5
    assert metrics.sure_precision == pytest.approx(2 / 3)
    assert metrics.sure_recall == pytest.approx(2 / 3)


def test_equal_scores_do_not_count_in_favour_of_a_label() -> None:
    assert average_precision(np.zeros(4), np.array([True, False, False, False])) == 0.25


def _widen(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.zeros((len(values), 1), values.dtype)], 1)
