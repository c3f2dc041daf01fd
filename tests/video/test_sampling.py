"""Sampling: windows, frame times and the published samplers."""

from __future__ import annotations

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.video.read.sampling import (
    PIPELINE_VERSION,
    Sampling,
    Window,
    count_windows,
    exact_start_us,
    frame_times_us,
    frame_tolerance_us,
    plan_windows,
    published_indices,
    training_indices,
    window_start_at,
)

TABLES = json.loads((Path(__file__).parents[1] / "data" / "published_pipelines.json").read_text())
USUAL = Sampling.create(32, 15.0)

samplings = st.builds(
    Sampling.create,
    st.integers(1, 64),
    st.sampled_from([1.0, 7.5, 12.5, 15.0, 24.0, 29.97, 30000 / 1001, 60.0]),
    stride_s=st.one_of(st.none(), st.floats(0.05, 20)),
)


@given(st.integers(0, 200_000), samplings)
def test_windows_are_in_the_video_in_order_and_counted(end_ms: int, sampling: Sampling) -> None:
    windows = plan_windows(end_ms, sampling)
    assert len(windows) == count_windows(end_ms, sampling)
    starts = [w.start_ms for w in windows]
    assert starts == sorted(set(starts))
    for w in windows:
        assert 0 <= w.start_ms < w.end_ms <= end_ms


@given(st.integers(1, 200_000), samplings)
def test_at_most_half_a_window_is_left_at_the_end(end_ms: int, sampling: Sampling) -> None:
    windows = plan_windows(end_ms, sampling)
    assert 2 * (end_ms - windows[-1].end_ms) <= sampling.window_ms
    if end_ms < sampling.window_ms:
        assert windows == [Window(0, end_ms)]
    else:
        assert windows[0].start_ms == 0
        assert all(w.end_ms - w.start_ms in (sampling.window_ms, sampling.window_ms + 1) for w in windows)


@given(st.integers(1, 100_000), samplings)
def test_windows_begin_at_multiples_of_the_stride(end_ms: int, sampling: Sampling) -> None:
    for k, window in enumerate(plan_windows(end_ms, sampling)[:-1]):
        assert window.start_ms == int(k * sampling.stride)
        assert abs(exact_start_us(window, sampling) - k * sampling.stride * 1000) <= 1


def test_consecutive_windows_do_not_drift_from_the_frames() -> None:
    windows = plan_windows(3_600_000, USUAL)
    assert [w.start_ms for w in windows[:5]] == [0, 2133, 4266, 6400, 8533]
    assert all(a.end_ms == b.start_ms for a, b in pairwise(windows[:-1]))
    assert exact_start_us(windows[1500], USUAL) == 3_200_000_000  # frame 96000 of 30 a second


def test_a_video_of_whole_windows_has_no_extra_window() -> None:
    assert [(w.start_ms, w.end_ms) for w in plan_windows(6400, USUAL)] == [
        (0, 2133),
        (2133, 4266),
        (4266, 6400),
    ]
    assert plan_windows(2133, USUAL) == [Window(0, 2133)]


def test_an_extra_window_covers_an_end_of_more_than_half_a_window() -> None:
    half = USUAL.window_ms // 2
    assert plan_windows(2133 + half, USUAL) == [Window(0, 2133)]
    assert plan_windows(2133 + half + 1, USUAL) == [Window(0, 2133), Window(half + 1, 2133 + half + 1)]


def test_a_video_of_duration_zero_has_no_window() -> None:
    assert plan_windows(0, USUAL) == []


@pytest.mark.parametrize(
    ("share", "end_ms", "start_ms"),
    [(0, 8534, 0), (0.24, 8534, 0), (0.26, 8534, 2133), (0.99, 8534, 6400), (1, 8534, 6400), (1, 2132, 0)],
)
def test_a_share_of_a_video_is_one_of_its_whole_windows(share: float, end_ms: int, start_ms: int) -> None:
    assert window_start_at(share, end_ms, USUAL) == start_ms


def test_windows_of_years_are_counted_without_a_list() -> None:
    assert count_windows(10**12, USUAL) > 4 * 10**8


def _pick(frame_starts_us: list[int], times_us: list[int]) -> list[int]:
    return [max(i for i, t in enumerate(frame_starts_us) if t <= time) for time in times_us]


@pytest.mark.parametrize("digits", [3, 6])
@pytest.mark.parametrize("k", [0, 1, 2, 3, 100, 1500])
def test_thirty_frames_a_second_give_every_second_frame_exactly(k: int, digits: int) -> None:
    """Also if the container rounds its times to milliseconds, and late in a video."""
    window = Window(int(k * USUAL.stride), int((k + 1) * USUAL.stride))
    times = [round(Fraction(i, 30), digits) for i in range(64 * k - 2, 64 * (k + 1))]
    times_us = frame_times_us(window, USUAL, tolerance_us=frame_tolerance_us(33333))
    picked = _pick([int(t * 1_000_000) for t in times], times_us)
    assert [i + 64 * k - 2 for i in picked] == list(range(64 * k, 64 * (k + 1), 2))


def test_29_97_frames_a_second_give_every_second_frame_of_the_first_window() -> None:
    times = [round(i * 1001 / 30000, 3) * 1_000_000 for i in range(64)]
    times_us = frame_times_us(Window(0, 2133), USUAL, tolerance_us=frame_tolerance_us(33367))
    assert _pick([int(t) for t in times], times_us) == list(range(0, 64, 2))


def test_sixty_frames_give_every_fourth_and_ten_repeat() -> None:
    sixty = _pick([round(i * 1e6 / 60) for i in range(130)], frame_times_us(Window(0, 2133), USUAL))
    assert sixty == list(range(0, 128, 4))
    ten = _pick([i * 100_000 for i in range(30)], frame_times_us(Window(0, 2133), USUAL))
    assert ten == [int(Fraction(2, 3) * k) for k in range(32)]


def test_a_short_video_wraps_around() -> None:
    frames = 31  # at 30 a second: every second frame, and round again
    end_us = round(frames * 1e6 / 30)
    times = [round(i * 1e6 / 30) for i in range(frames)]
    picked = _pick(times, frame_times_us(Window(0, round(end_us / 1000)), USUAL, end_us))
    assert picked == [2 * k % frames for k in range(32)]


@given(st.integers(1, 63))
def test_short_videos_of_thirty_frames_a_second_wrap_as_the_published_sampler_does(frames: int) -> None:
    end_us = round(frames * 1e6 / 30)
    times = [round(i * 1e6 / 30) for i in range(frames)]
    picked = _pick(times, frame_times_us(Window(0, round(end_us / 1000)), USUAL, end_us))
    assert [picked] == published_indices(frames, "clip")


@given(st.integers(1, 2_000_000), samplings)
def test_frame_times_stay_within_a_short_video(end_us: int, sampling: Sampling) -> None:
    window = Window(0, max(1, round(end_us / 1000)))
    if window.end_ms < sampling.window_ms:
        assert all(0 <= time_us < max(1, end_us) for time_us in frame_times_us(window, sampling, end_us))


def test_the_key_contains_exactly_what_the_pixels_depend_on() -> None:
    assert USUAL.key() == f"v{PIPELINE_VERSION} 32@15 every 2133ms center 256/224"
    keys = {
        Sampling.create(32, 15.0, view=view, crop=crop, stride_s=stride).key()
        for view in ("center", "full", "three")
        for crop in (112, 224)
        for stride in (None, 1.0)
    }
    assert len(keys) == 2 * (2 + 1 + 2)  # `full` crops nothing
    assert Sampling.create(32, 30000 / 1001).key() != Sampling.create(32, 30.0).key()


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": 0},
        {"frames": 5000},
        {"rate": 0.0},
        {"rate": float("nan")},
        {"stride_ms": 0},
        {"view": "left"},
        {"crop": 300},
        {"short_side": 0},
    ],
)
def test_invalid_numbers_are_rejected(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Sampling(**{"frames": 32, "rate": 15.0, "stride_ms": 2133, **wrong})  # type: ignore[arg-type]


@pytest.mark.parametrize("row", TABLES["sampler_table"], ids=lambda r: f"{r['frames']}x{r['clips']}")
def test_the_published_sampler_gives_the_published_indices(row: dict) -> None:
    indices = published_indices(row["frames"], "clip" if row["clips"] == 1 else "test")
    assert [clip[0] for clip in indices] == row["first"]
    assert [sum(clip) for clip in indices] == row["sum_per_clip"]
    assert row["indices"] is None or indices == row["indices"]


def test_the_table_in_the_repository_is_the_shared_one(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "paddle_example.json").read_text())
    assert golden["sampler_table"] == TABLES["sampler_table"]
    assert golden["geometry_table"] == TABLES["geometry_table"]


@pytest.mark.parametrize(
    ("count", "share", "first"), [(70, 0, 0), (70, 1, 6), (70, 0.5, 3), (64, 1, 0), (65, 0.5, 1), (20, 1, 0)]
)
def test_training_clips_begin_anywhere_and_repeat_short_videos(count: int, share: float, first: int) -> None:
    indices = training_indices(count, share)
    assert indices == [(first + 2 * k) % count for k in range(32)]


@pytest.mark.parametrize(("interval_us", "tolerance_us"), [(0, 1000), (33_367, 4170), (10**6, 5000)])
def test_the_tolerance_is_an_eighth_of_an_interval_within_limits(interval_us: int, tolerance_us: int) -> None:
    assert frame_tolerance_us(interval_us) == tolerance_us


def test_the_largest_and_the_smallest_samplings() -> None:
    largest = Sampling(frames=4096, rate=1000, stride_ms=1, short_side=4096, crop=4096)
    assert (largest.window_ms, largest.stride) == (4096, 1)
    smallest = Sampling.create(1, 1000, short_side=1, crop=1)
    assert (smallest.window_ms, smallest.stride_ms) == (1, 1)
    assert Sampling.create(1, 15.0, stride_s=0.0001).stride_ms == 1  # never 0
    assert Sampling.create(1, 15.0, stride_s=0.0996).stride_ms == 100
    assert Sampling.create(1, 15.0, stride_s=1.5).stride == 1500


def test_the_published_sampler_rejects_unknown_protocols_and_empty_videos() -> None:
    with pytest.raises(ValueError):
        published_indices(10, "clips")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        published_indices(0, "clip")
