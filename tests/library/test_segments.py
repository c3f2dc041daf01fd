"""Scores to segments: hysteresis compared with a plain implementation, and its cost for many hours of video."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.library.analysis.segments import Hysteresis, Segment, find_segments, probabilities


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
    min_length_ms=st.sampled_from([0, 700, 2000]),
    max_gap_ms=st.sampled_from([0, 500, 1000, 3000]),
)


@given(
    spans=st.lists(
        st.tuples(st.integers(0, 9000), st.integers(1, 1500)), max_size=25, unique_by=lambda s: s[0]
    ),
    seed=st.integers(0, 1000),
    thresholds=st.lists(st.sampled_from([0.0, 0.2, 0.5, 0.9, 2.0]), min_size=4, max_size=4),
    end_ms=st.integers(1, 12_000),
    rule=rules,
)
@settings(max_examples=300, deadline=None)
def test_segments_are_what_the_rule_says_window_by_window(
    spans: list[tuple[int, int]], seed: int, thresholds: list[float], end_ms: int, rule: Hysteresis
) -> None:
    windows = np.array([(a, a + n) for a, n in sorted(spans)], np.int64).reshape(-1, 2)
    scores = np.random.default_rng(seed).choice([0.0, 0.1, 0.2, 0.35, 0.5, 0.9, 1.0], (len(windows), 4))
    enter = np.array(thresholds)
    assert find_segments(windows, scores, enter, end_ms, rule) == plain_segments(
        windows, scores, enter, end_ms, rule
    )


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
