"""Scores to segments: hysteresis compared with a plain implementation, and its cost for many hours of video."""

from __future__ import annotations

import itertools
import math
import operator
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.library.analysis.segments import (
    Hysteresis,
    LessSureSegment,
    Segment,
    find_less_sure_segments,
    find_segments,
    margins,
    probabilities,
)


def plain_segments(
    windows: np.ndarray, scores: np.ndarray, thresholds: np.ndarray, end_ms: int, rule: Hysteresis
) -> list[Segment]:
    """The rule of docs/segments.md in plain Python, window by window."""
    segments = []
    for label in range(scores.shape[1]):
        pieces: list[list[float]] = []
        active, reach_ms = False, -(10**9)
        for (start, end), score in zip(windows.tolist(), scores[:, label].tolist(), strict=True):
            if start - reach_ms > rule.max_gap_ms:
                active = False
            reach_ms = max(reach_ms, end)
            if score >= thresholds[label]:
                active = True
            elif score < rule.exit_ratio * thresholds[label]:
                active = False
            if active:
                end = min(end, end_ms)
                if pieces and start - pieces[-1][1] <= rule.max_gap_ms:
                    pieces[-1] = [pieces[-1][0], max(pieces[-1][1], end), max(pieces[-1][2], score)]
                else:
                    pieces.append([start, end, score])
        segments += [
            Segment(label, int(a), int(b), s) for a, b, s in pieces if b > a and b - a >= rule.min_length_ms
        ]
    return segments


rules = st.builds(
    Hysteresis,
    exit_ratio=st.sampled_from([0.0, 0.3, 0.6, 1.0]),
    min_length_ms=st.sampled_from([0, 750, 2000]),
    max_gap_ms=st.sampled_from([0, 500, 1000, 3000]),
)


def make_windows(steps: list[tuple[int, int]]) -> np.ndarray:
    """Windows from the time to each from the one before, and its length."""
    starts = itertools.accumulate(step for step, _ in steps)
    return np.array(
        [(start, start + length) for start, (_, length) in zip(starts, steps, strict=True)], np.int64
    ).reshape(-1, 2)


# in steps that meet the rule's limits exactly; windows overlap, touch, or leave gaps
windows_strategy = st.lists(
    st.tuples(
        st.sampled_from([250, 500, 500, 1000, 1500, 4000]), st.sampled_from([250, 500, 500, 1000, 1500])
    ),
    max_size=25,
).map(make_windows)


@given(
    windows=windows_strategy,
    seed=st.integers(0, 1000),
    thresholds=st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 2.0]), min_size=4, max_size=4),
    end_ms=st.integers(1, 12_000),
    rule=rules,
)
@settings(max_examples=300, deadline=None)
def test_segments_are_what_the_rule_says_window_by_window(
    windows: np.ndarray, seed: int, thresholds: list[float], end_ms: int, rule: Hysteresis
) -> None:
    scores = np.random.default_rng(seed).choice([0.0, 0.1, 0.2, 0.35, 0.5, 0.9, 1.0], (len(windows), 4))
    enter = np.array(thresholds)
    assert find_segments(windows, scores, enter, end_ms, rule) == plain_segments(
        windows, scores, enter, end_ms, rule
    )


def plain_stretches(
    windows: np.ndarray,
    scores: list[float],
    distances: list[float],
    label: int,
    sure: list[Segment],
    end_ms: int,
    rule: Hysteresis,
) -> list[LessSureSegment]:
    """The best three stretches of a label in plain Python; `scores` and `distances` are of its windows."""
    spans = windows.tolist()

    def near(index: int, start: int, end: int) -> bool:
        return spans[index][0] <= end + rule.max_gap_ms and spans[index][1] >= start - rule.max_gap_ms

    free = {
        index
        for index, (start, _) in enumerate(spans)
        if start < end_ms and not any(near(index, s.start_ms, s.end_ms) for s in sure if s.label == label)
    }
    stretches: list[LessSureSegment] = []
    while free and len(stretches) < 3:
        peak = max(sorted(free), key=lambda index: distances[index])

        least = rule.exit_ratio * scores[peak]
        inside = {index for index in free if scores[index] >= least}
        first = last = peak
        while first - 1 in inside and spans[first][0] - spans[first - 1][1] <= rule.max_gap_ms:
            first -= 1
        while last + 1 in inside and spans[last + 1][0] - spans[last][1] <= rule.max_gap_ms:
            last += 1
        start, end = spans[first][0], min(max(end for _, end in spans[first : last + 1]), end_ms)
        free -= {index for index in free if first <= index <= last or near(index, start, end)}
        segment = Segment(label, start, end, scores[peak])
        stretches.append(LessSureSegment(segment, distances[peak], False))
    return stretches


@given(
    windows=windows_strategy,
    seed=st.integers(0, 1000),
    end_ms=st.integers(1, 25_000),
    rule=rules,
    limit=st.integers(1, 6),
)
@settings(max_examples=100, deadline=None)
def test_less_sure_segments_are_the_best_stretches_of_the_best_labels(
    windows: np.ndarray, seed: int, end_ms: int, rule: Hysteresis, limit: int
) -> None:
    rng = np.random.default_rng(seed)
    # no score is a simple multiple of another, but for the peaks that several windows share
    scores = rng.choice([0.011, 0.017, 0.1, 0.29, 0.31, 0.43, 0.77], (len(windows), 4))
    thresholds, floors = rng.uniform(0.3, 0.9, 4), rng.choice([0.0, 0.1, 0.43, 1.0], 4)
    sure = find_segments(windows, scores, thresholds, end_ms, rule)
    distances = margins(scores, thresholds)
    labels = [
        plain_stretches(windows, scores[:, k].tolist(), distances[:, k].tolist(), k, sure, end_ms, rule)
        for k in range(4)
    ]
    ranked = sorted((stretches for stretches in labels if stretches), key=lambda s: -s[0].margin)
    best = sorted((one for stretches in ranked[:limit] for one in stretches), key=lambda s: -s.margin)
    expected = best[:limit] + [
        stretches[0]._replace(is_label_best=True)
        for stretches in ranked[limit:]
        if stretches[0].segment.score > floors[stretches[0].segment.label]
    ]
    assert (
        find_less_sure_segments(windows, scores, thresholds, sure, end_ms, rule, limit=limit, floors=floors)
        == expected
    )


def test_a_stretch_goes_over_gaps_of_the_longest_length_on_both_sides() -> None:
    windows = np.array([(0, 1000), (2000, 3000), (4000, 5000)])
    scores, rule = np.array([[0.3], [0.4], [0.3]]), Hysteresis(max_gap_ms=1000)
    (stretch,) = find_less_sure_segments(
        windows, scores, np.array([0.9]), [], 9000, rule, limit=3, floors=np.array([1.0])
    )
    assert stretch.segment == Segment(0, 0, 5000, 0.4)


def test_a_segment_begins_where_the_threshold_is_reached_and_not_before() -> None:
    windows = np.array([(i * 1000, i * 1000 + 1000) for i in range(5)])
    scores = np.array([[0.4], [0.4], [0.5], [0.4], [0.2]])
    assert find_segments(windows, scores, np.array([0.5]), 5000, Hysteresis()) == [
        Segment(0, 2000, 4000, 0.5)
    ]


def test_a_gap_without_windows_is_not_part_of_a_segment() -> None:
    far = np.array([(0, 2000), (60_000, 62_000), (120_000, 122_000)])
    scores = np.array([[0.9], [0.9], [0.35]])
    assert find_segments(far, scores, np.array([0.5]), 200_000, Hysteresis()) == [
        Segment(0, 0, 2000, 0.9),
        Segment(0, 60_000, 62_000, 0.9),
    ]


def test_a_label_with_a_threshold_above_one_has_no_segments() -> None:
    windows = np.array([(0, 1000)])
    assert find_segments(windows, np.array([[1.0, 1.0]]), np.array([2.0, 1.0]), 1000, Hysteresis()) == [
        Segment(1, 0, 1000, 1.0)
    ]


def test_probabilities_are_the_rounded_mean_of_a_softmax_over_the_views() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(3, 2, 4)).astype(np.float16)
    weight, bias = rng.normal(size=(5, 4)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    for window, row in zip(features.tolist(), probabilities(features, weight, bias).tolist(), strict=True):
        views = []
        for view in window:
            sums = (
                math.fsum(map(operator.mul, view, w)) + b
                for w, b in zip(weight.tolist(), bias.tolist(), strict=True)
            )
            powers = [math.exp(value) for value in sums]
            views.append([power / sum(powers) for power in powers])
        assert row == [round(sum(column) / 2, 9) for column in zip(*views, strict=True)]


@pytest.mark.parametrize("extreme", [-6e4, 6e4])
def test_probabilities_of_extreme_features_are_numbers(extreme: float) -> None:
    features = np.full((2, 3, 4), extreme, np.float16)
    weight = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32) * 100
    scores = probabilities(features, weight, np.zeros(5, np.float32))
    assert np.isfinite(scores).all()
    assert scores.sum(axis=1) == pytest.approx([1, 1])


def test_ten_hours_of_windows_become_segments_in_seconds() -> None:
    count = 10 * 3600 * 15 // 32
    rng = np.random.default_rng(0)
    windows = np.array([(i * 2133, i * 2133 + 2133) for i in range(count)])
    scores = rng.random((count, 400))
    start = time.process_time()
    segments = find_segments(windows, scores, np.full(400, 0.9), count * 2133, Hysteresis())
    assert time.process_time() - start < 20  # measured: about 1 s
    assert len(segments) > 100_000
