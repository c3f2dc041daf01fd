"""The scores from which the starter's labels are sure."""

from __future__ import annotations

import numpy as np
import pytest

from vtag.trainer.recipes.starter.sure import NEVER, Scores, calibrate, lowest_level, sure_levels


def test_the_level_is_the_lowest_from_which_four_in_five_are_right() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], np.float32)
    right = np.array([True, True, False, True, True, True, False])
    assert lowest_level(scores, right, 0.8, 2) == pytest.approx(0.4)
    assert lowest_level(scores, right, 0.8, 6) is None
    assert lowest_level(scores, ~right, 0.8, 1) is None
    same = np.full(7, 0.5, np.float32)  # five of seven are right, and no level parts them
    assert lowest_level(same, right, 0.8, 2) is None


def said_of(label_scores: dict[str, list[tuple[float, str]]]) -> tuple[Scores, list[str]]:
    """Clips, each of a source of its own, that one label is said of: (score, what it shows) by label."""
    labels = list(label_scores)
    rows = [
        (labels.index(label), score, shown) for label, pairs in label_scores.items() for score, shown in pairs
    ]
    shares = np.zeros((len(rows), len(labels)), np.float32)
    for i, (k, score, _) in enumerate(rows):
        shares[i, k] = score
    truth = np.array([labels.index(shown) if shown in labels else len(labels) for *_, shown in rows])
    return Scores(shares, truth, [str(i) for i in range(len(rows))]), labels


def test_labels_share_a_level_and_one_that_spoils_it_is_never_sure() -> None:
    found, labels = said_of(
        {
            "run": [(0.9 - n / 100, "run") for n in range(6)] + [(0.3, "other")] * 3,
            "wave": [(0.8 - n / 100, "wave") for n in range(6)] + [(0.2, "other")] * 3,
            "fight": [(0.85, "other")] * 4 + [(0.86, "fight")],
        }
    )
    levels = calibrate(found, labels, labels)
    assert levels.thresholds["fight"] == NEVER
    assert levels.thresholds["run"] == levels.thresholds["wave"] == pytest.approx(0.75)
    assert levels.right >= 0.8 * levels.said > 0 and levels.of == 13


@pytest.mark.parametrize(("best", "own"), [(0.99, 0.895), (0.5, 0.82)])
def test_a_level_of_a_labels_own_is_not_below_the_common_one(best: float, own: float) -> None:
    found, labels = said_of(
        {
            "run": [(best - n / 200, "run") for n in range(20)] + [(best - 0.1, "other")] * 9,
            "wave": [(0.9 - n / 100, "wave") for n in range(9)] + [(0.6, "other")] * 9,
        }
    )
    levels = calibrate(found, labels, labels).thresholds
    assert levels["run"] == pytest.approx(own) and levels["wave"] == pytest.approx(0.82)


def test_nothing_is_sure_where_nothing_is_right_often_enough() -> None:
    found, labels = said_of({"run": [(0.9, "run"), (0.8, "other"), (0.7, "run"), (0.6, "other")] * 8})
    levels = calibrate(found, labels, labels)
    assert levels.thresholds == {"run": NEVER} and levels.said == 0


def test_what_only_photographs_teach_is_never_sure() -> None:
    found, labels = said_of({"run": [(0.9, "run")] * 10, "cooking": [(0.9, "cooking")] * 10})
    levels = calibrate(found, labels, ["run"])
    assert levels.thresholds == {"run": pytest.approx(0.9), "cooking": NEVER} and levels.of == 10


def test_a_label_falls_silent_if_that_lets_more_of_what_is_right_through() -> None:
    found, labels = said_of(
        {
            "run": [(0.9 - n / 200, "run") for n in range(8)],
            "wave": [(0.6 - n / 200, "wave") for n in range(8)],
            "jump": [(0.85, "other")],
        }
    )
    right = found.truth[:, None] == np.arange(len(labels))
    assert sure_levels(found.shares, right, 0.95).tolist() == pytest.approx([0.565, 0.565, NEVER])
    few = sure_levels(found.shares[:9], right[:9], 0.8)  # one of wave's: nobody has to be silent for it
    assert few.tolist() == pytest.approx([0.6, 0.6, 0.6])
