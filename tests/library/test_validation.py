"""What a label, a range and a timestamp of an annotation may be, and when a range covers another."""

from __future__ import annotations

import pytest

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.validation import checked_range, is_valid_label
from vtag.engine.library.ranges import END_OF_TIME_MS, covers
from vtag.engine.library.timestamps import is_timestamp, normalize_timestamp, now
from vtag.engine.video_clock import VideoClock

Limit = int | None


@pytest.mark.parametrize(
    ("first", "covered", "expected"),
    [
        ((0, 10), (5, 15), True),  # half of it
        ((0, 9), (5, 15), False),
        ((2, 5), (0, 6), True),
        ((3, 5), (0, 6), False),
        ((0, 10), (100, 110), False),
    ],
)
def test_a_range_covers_another_by_half(
    first: tuple[int, int], covered: tuple[int, int], expected: bool
) -> None:
    assert covers(*first, *covered) is expected


def test_a_label_has_a_longest_length() -> None:
    assert is_valid_label("a" * 200) and not is_valid_label("a" * 201)


@pytest.mark.parametrize(
    ("start", "end", "duration", "expected"),
    [
        (None, None, None, (None, None)),
        (None, 5000, 10_000, (0, 5000)),
        (3000, None, 10_000, (3000, 10_000)),
        (3000, 12_000, 10_000, (3000, 10_000)),
        (0, END_OF_TIME_MS - 1, None, (0, END_OF_TIME_MS - 1)),
    ],
)
def test_a_range_ends_with_its_video(
    start: Limit, end: Limit, duration: Limit, expected: tuple[Limit, Limit]
) -> None:
    assert checked_range(start, end, duration, VideoClock()) == expected


@pytest.mark.parametrize(
    ("start", "end", "duration", "problem"),
    [
        (10_000, 12_000, 10_000, "the video ends at 10.0 s, before"),
        (0, None, None, "the length of this video is not known"),
        (0, END_OF_TIME_MS, None, "has to end after it begins"),
        (-1, 5, None, "has to end after it begins"),
        (5, 5, None, "has to end after it begins"),
    ],
)
def test_a_range_without_length_or_outside_of_its_video_is_refused(
    start: Limit, end: Limit, duration: Limit, problem: str
) -> None:
    with pytest.raises(LibraryError, match=problem):
        checked_range(start, end, duration, VideoClock())


def test_a_timestamp_has_one_form() -> None:
    assert is_timestamp(now()) is True
    assert [is_timestamp(text) for text in ("", "yesterday", "2024-05-17", now()[:-1])] == [False] * 4
    assert normalize_timestamp("2024-05-17T12:00:00+02:00") == "2024-05-17T10:00:00.000000+00:00"
    assert normalize_timestamp("yesterday") == "yesterday"
