"""Moments and annotations with the times of a player: of a video with a clock of its own, and of others."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.library_factory import fill_library

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.annotation_log import Annotation
from vtag.engine.library.annotations.player_times import (
    annotations_on_player_clock,
    change_on_player_clock,
    range_on_library_clock,
)
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import Moment, search
from vtag.engine.library.search.player_times import MomentClocks, on_library_clock, on_player_clock
from vtag.engine.library.store.clocks import save_clock
from vtag.engine.video_clock import ClockStretch, VideoClock

LATE = VideoClock((ClockStretch(0, 3_000_000),))  # a picture that begins three seconds after the sound
PAUSED = VideoClock((ClockStretch(0, 0), ClockStretch(100_000_000, 5_000_000)))
READ = VideoClock((ClockStretch(0, 7_000_000),))
EVERYTHING = 'archery OR "riding a bike" OR yoga'


@pytest.fixture
def two_videos(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """The first video's picture begins late; the second was scanned when no clock was stored."""
    fill_library(library, tmp_path, 2)
    save_clock(library, 1, LATE)
    return library


def moments_of(library: LibraryWriter, name: str) -> list[Moment]:
    return search(library.connection, f"path:{name} AND ({EVERYTHING})", limit=None)


def spans(moments: list[Moment]) -> list[tuple[int, int]]:
    return [(moment.start_ms, moment.end_ms) for moment in moments]


def test_each_moment_has_the_times_of_its_own_video(two_videos: LibraryWriter) -> None:
    late, plain = moments_of(two_videos, "0.mp4"), moments_of(two_videos, "1.mp4")
    clocks = MomentClocks(two_videos.connection)
    shown = clocks.to_player([*late, *plain])
    assert len(late) > 1 and plain
    assert spans(shown) == [(start + 3000, end + 3000) for start, end in spans(late)] + spans(plain)
    assert clocks.to_library(shown) == [*late, *plain]
    assert [clocks.content_id(moment) for moment in (late[0], plain[0])] == [1, 2]


def test_a_moment_that_is_gone_keeps_its_times(two_videos: LibraryWriter) -> None:
    gone = moments_of(two_videos, "0.mp4")[0]._replace(id=999)
    clocks = MomentClocks(two_videos.connection)
    assert clocks.content_id(gone) == 0
    assert clocks.to_player([gone]) == [gone]


def test_only_a_file_without_a_stored_clock_is_opened_and_once(two_videos: LibraryWriter) -> None:
    opened: list[bytes] = []

    def read_clock(path: bytes) -> VideoClock | None:
        opened.append(path)
        return READ if len(opened) == 1 else None

    clocks = MomentClocks(two_videos.connection, read_clock)
    assert [clocks.clock(1, b"a").player_ms(0), clocks.clock(2, b"b").player_ms(0)] == [3000, 7000]
    assert clocks.clock(2, b"c").player_ms(0) == 7000 and opened == [b"b"]
    assert clocks.clock(3, b"d").is_plain  # it cannot be read
    assert opened == [b"b", b"d"]


def test_a_moment_in_a_pause_has_a_length(two_videos: LibraryWriter) -> None:
    moment = moments_of(two_videos, "0.mp4")[0]._replace(start_ms=50_000, end_ms=60_000)
    assert spans([on_player_clock(moment, PAUSED)]) == [(5000, 5001)]
    shown = moment._replace(start_ms=1000, end_ms=2000)  # both before the picture begins
    assert spans([on_library_clock(shown, LATE)]) == [(0, 1)]
    plain = VideoClock()
    assert on_player_clock(moment, plain) == on_library_clock(moment, plain) == moment


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ((4000, 5000), (1000, 2000)),
        ((None, None), (None, None)),
        ((None, 3001), (None, 1)),
        ((1000, 3001), (0, 1)),
        ((4000, None), (1000, None)),
        ((2000, 1000), (0, 0)),  # the wrong way round: whoever records it says so
        ((1000, 1000), (0, 0)),
        ((None, 0), (None, 0)),
    ],
)
def test_a_range_that_a_person_says_is_the_librarys(
    two_videos: LibraryWriter, said: tuple[int | None, int | None], kept: tuple[int | None, int | None]
) -> None:
    assert range_on_library_clock(two_videos.connection, 1, *said) == kept


@pytest.mark.parametrize("said", [(None, 3000), (0, 3000), (1000, 2000), (None, 1)])
def test_a_range_before_the_picture_is_refused(
    two_videos: LibraryWriter, said: tuple[int | None, int | None]
) -> None:
    with pytest.raises(LibraryError, match=r"begins at 3\.0 s, after that moment ends"):
        range_on_library_clock(two_videos.connection, 1, *said)


def test_annotations_and_changes_have_the_times_of_their_videos(two_videos: LibraryWriter) -> None:
    for content_id in (1, 2):
        annotation_log.add(two_videos, content_id, "a dog", 1000, 2000)
    annotation_log.add(two_videos, 1, "all of it", None, None)
    reader = two_videos.connection
    stored = annotation_log.list_annotations(reader)
    shown = annotations_on_player_clock(reader, stored)

    def moved(annotation: Annotation) -> Annotation:
        is_late = annotation.content == key_of(two_videos, 1) and annotation.start_ms is not None
        return annotation._replace(start_ms=4000, end_ms=5000) if is_late else annotation

    assert shown == [moved(annotation) for annotation in stored]
    assert sum(before != after for before, after in zip(stored, shown, strict=True)) == 1
    dog = search(reader, 'label:"a dog" AND path:0.mp4')[0]
    annotation_log.reject(two_videos, [dog.id])
    (change, *_) = annotation_log.list_changes(reader)
    assert change.before and change.after
    told = change_on_player_clock(reader, change)
    assert told.before == tuple(map(moved, change.before)) != change.before
    assert told.after == tuple(map(moved, change.after)) != change.after
    assert (told.id, told.action, told.at) == (change.id, change.action, change.at)


def key_of(library: LibraryWriter, content_id: int) -> str:
    return str(
        library.connection.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()[0]
    )
