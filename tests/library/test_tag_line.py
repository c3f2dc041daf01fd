"""The line of a tag: where it lies between Yes and No, and what a preview says of it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.library.analysis.tag_line import (
    LIKELY,
    SURE_PRECISION,
    choose_line,
    preview_line,
    round_down,
    tail_count,
    wrong_share,
)

scores = st.lists(st.floats(0.0001, 0.999), min_size=1, max_size=12)


def test_the_line_is_at_the_lowest_yes_if_there_is_no_no() -> None:
    assert choose_line([0.9, 0.42, 0.7], []) == 0.42


def test_the_line_is_in_the_middle_of_the_gap_in_log_odds() -> None:
    assert choose_line([0.9, 0.95], [0.1, 0.02]) == pytest.approx(0.5, abs=1e-3)
    assert choose_line([0.99], [0.5]) == pytest.approx(1 / (1 + 99**-0.5), abs=1e-3)


def test_noisy_footage_moves_the_line_up_but_not_past_a_yes() -> None:
    assert choose_line([0.9], [0.1], quiet=0.8) == 0.8
    assert choose_line([0.9], [0.1], quiet=0.99) == 0.9


def test_what_overlaps_is_cut_where_four_in_five_are_right() -> None:
    yes, no = [0.9, 0.8, 0.7, 0.6, 0.3], [0.65, 0.5, 0.4, 0.35]
    assert choose_line(yes, no) == 0.6  # four of five; 0.3 would let four wrong ones through
    assert choose_line([0.3, 0.2], [0.9]) > 0.9  # nothing known lies above a line that is right


def test_a_tag_that_only_examples_are_known_of_is_at_least_likely() -> None:
    assert choose_line([0.9], [0.01], at_least=LIKELY) == LIKELY


@given(yes=scores, no=st.lists(st.floats(0.0001, 0.999), max_size=12))
def test_a_line_is_a_threshold_and_keeps_what_was_confirmed_where_it_can(
    yes: list[float], no: list[float]
) -> None:
    line = choose_line(yes, no)
    assert 0 < line < 1 and line == round_down(line)
    if not no or max(no) < min(yes):
        assert line <= min(yes)
    right, wrong = sum(s >= line for s in yes), sum(s >= line for s in no)
    if no and max(no) >= min(yes):
        assert right >= SURE_PRECISION * (right + wrong)


def test_a_score_of_one_gives_a_line_that_can_be_reached() -> None:
    assert choose_line([1.0], []) < 1


def test_a_preview_counts_what_is_found_and_names_the_next_below() -> None:
    verdicts = [True, None, None, False, None]
    preview = preview_line(0.5, [0.9, 0.8, 0.6, 0.7, 0.4], verdicts)
    assert (preview.found, preview.confirmed, preview.below) == (3, 1, 0.4)
    assert preview.wrong == pytest.approx(2 * 0.5)  # a Yes and a No lie above: one in two
    assert preview_line(0.95, [0.9, 0.8], [True, None]).found == 1  # what was confirmed is found


def test_the_more_is_known_the_fewer_are_expected_to_be_wrong() -> None:
    shares = [wrong_share(0.5, [0.9] * count, []) for count in (0, 1, 5, 50)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 0.5 and shares[-1] < 0.01


def test_moving_a_line_down_never_finds_less() -> None:
    rng = np.random.default_rng(0)
    values = rng.random(50).tolist()
    found = [preview_line(line, values, [None] * 50).found for line in np.linspace(0.95, 0.05, 19)]
    assert found == sorted(found)


@pytest.mark.parametrize("shown", [0, 50])
def test_the_tail_of_many_windows_tells_how_many_pass_by_chance(shown: int) -> None:
    """Log-odds of 100,000 windows are exponential; a few windows that show the tag change little."""
    rng = np.random.default_rng(3)
    odds = rng.exponential(0.7, 100_000) - 6
    windows = 1 / (1 + np.exp(-odds))
    windows[:shown] = 0.99
    line = 1 / (1 + np.exp(-(np.quantile(odds[shown:], 1 - 1e-3))))
    assert tail_count(windows, line) == pytest.approx(100, rel=0.25)
    assert tail_count(windows[:100], line) == 0
