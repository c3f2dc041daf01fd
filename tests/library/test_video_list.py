"""The list of all videos, and searches by path and date: what is kept in memory is never older than the library."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from helpers.library_factory import add_video, fill_library

from vtag.engine.library.annotations import annotation_log, merging
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import clean, forget
from vtag.engine.library.search.moments import search
from vtag.engine.library.search.video_columns import video_version
from vtag.engine.library.store import files
from vtag.engine.library.views.video_list import ListedVideo, VideoLists
from vtag.engine.library.views.video_table import VideoFilter

_NOON_S = datetime(2021, 5, 6, 12).timestamp()


@pytest.fixture
def videos(library: LibraryWriter, tmp_path: Path) -> Path:
    """Six videos in the folder `lake`, and one in `hill` that has no moment; recorded in 2021 and on."""
    fill_library(library, tmp_path / "lake", 6)
    add_video(library, tmp_path / "hill" / "z.mp4", seed=9, is_scanned=False)
    for i in range(7):
        library.connection.execute(
            "UPDATE contents SET recorded_at = ? WHERE id = ?",
            (datetime.fromtimestamp(_NOON_S + 400 * 86_400 * (i // 2)).isoformat(), i + 1),
        )
    return tmp_path


def listed(
    lists: VideoLists, library: LibraryWriter, chosen: VideoFilter = VideoFilter(), **order: str
) -> list[str]:
    page = lists.page(library.connection, chosen, **order)  # type: ignore[arg-type]
    assert page.total == len(page.videos)
    return [os.path.basename(video.display) for video in page.videos]


def test_videos_are_sorted_filtered_and_counted(library: LibraryWriter, videos: Path) -> None:
    lists = VideoLists()
    assert listed(lists, library) == ["z.mp4", "5.mp4", "4.mp4", "3.mp4", "2.mp4", "1.mp4", "0.mp4"]
    assert listed(lists, library, sort="name") == ["z.mp4", *(f"{i}.mp4" for i in range(6))]
    folder = VideoFilter(folder=str(videos / "hill"))
    assert listed(lists, library, folder) == ["z.mp4"]
    assert listed(lists, library, VideoFilter(name="LAKE/3")) == ["3.mp4"]
    assert listed(lists, library, VideoFilter(year="2021")) == ["1.mp4", "0.mp4"]
    assert listed(lists, library, VideoFilter(state="untagged")) == ["z.mp4"]
    counts = lists.counts(library.connection, VideoFilter(), sort="date", is_reversed=False, group="day")
    assert counts.folders == [(str(videos / "lake"), 6), (str(videos / "hill"), 1)]
    assert counts.years == [("2024", 1), ("2023", 2), ("2022", 2), ("2021", 2)]
    assert counts.sections == [("2024-08-18", 1), ("2023-07-15", 2), ("2022-06-10", 2), ("2021-05-06", 2)]
    by_folder = lists.counts(library.connection, folder, sort="name", is_reversed=False, group="folder")
    assert by_folder.sections == [(str(videos / "hill"), 1)]


def test_a_tag_is_noticed_and_a_rejected_moment_is_none(library: LibraryWriter, videos: Path) -> None:
    lists, untagged = VideoLists(), VideoFilter(state="untagged")
    assert listed(lists, library, untagged) == ["z.mp4"]
    annotation_log.add(library, 7, "a swan", 0, 1000)
    assert listed(lists, library, untagged) == []
    assert listed(lists, library, VideoFilter(tag="A SWAN")) == ["z.mp4"]
    moments = library.connection.execute("SELECT id FROM segments WHERE content_id = 1").fetchall()
    annotation_log.reject(library, [row[0] for row in moments])
    assert listed(lists, library, untagged) == ["0.mp4"]
    first = next(v for v in lists.page(library.connection, VideoFilter()).videos if v.id == 1)
    assert first.moments == 0


def test_a_forgotten_model_and_merged_changes_are_noticed(library: LibraryWriter, videos: Path) -> None:
    """Both leave the latest moment and the time of the latest change as they were."""
    lists, untagged = VideoLists(), VideoFilter(state="untagged")
    annotation_log.add(library, 7, "a swan", 0, 1000)
    swan = annotation_log.list_annotations(library.connection)
    annotation_log.add(library, 6, "a duck", 0, 1000)
    assert listed(lists, library, untagged) == []
    assert listed(lists, library, VideoFilter(tag="a swan")) == ["z.mp4"]
    forget.forget_model(library, library.connection.execute("SELECT id FROM models").fetchone()[0])
    assert listed(lists, library, untagged) == ["4.mp4", "3.mp4", "2.mp4", "1.mp4", "0.mp4"]
    assert listed(lists, library, VideoFilter(tag="a swan")) == ["z.mp4"]
    latest, first = annotation_log.list_changes(library.connection)
    rejected = swan[0]._replace(verdict="rejected")
    duck = latest.after[0]
    changes = [first._replace(after=(rejected,)), latest]
    merging.write_history(library, {rejected.slot: rejected, duck.slot: duck}, changes)
    assert listed(lists, library, VideoFilter(tag="a swan")) == []


def _move_all(library: LibraryWriter, folder: Path) -> None:
    (folder / "lake").rename(folder / "sea")
    clean.relocate(library, os.fsencode(folder / "lake"), os.fsencode(folder / "sea"))


def _lose_one(library: LibraryWriter, folder: Path) -> None:
    (folder / "lake" / "0.mp4").unlink()
    files.mark_missing(library, [os.fsencode(folder)], set())


def _forget_one(library: LibraryWriter, folder: Path) -> None:
    forget.forget(library, forget.plan_forget(library, os.fsencode(folder / "lake" / "0.mp4")))


def _add_one(library: LibraryWriter, folder: Path) -> None:
    add_video(library, folder / "lake" / "new.mp4", seed=20)


def _date_one(library: LibraryWriter, _: Path) -> None:
    library.connection.execute("UPDATE contents SET recorded_at = '1999-01-01T00:00:00' WHERE id = 1")


@pytest.mark.parametrize("change", [_move_all, _lose_one, _forget_one, _add_one, _date_one])
def test_every_change_of_the_videos_is_noticed(
    library: LibraryWriter, videos: Path, change: Callable[[LibraryWriter, Path], None]
) -> None:
    def seen(lists: VideoLists) -> tuple[list[ListedVideo], list[list[tuple[int, bytes]]]]:
        queries = ("path:lake", "path:sea", "after:2000", "before:2000", "NOT path:hill")
        moments = [search(library.connection, query, limit=None) for query in queries]
        page = lists.page(library.connection, VideoFilter())
        return page.videos, [[(moment.id, moment.path) for moment in found] for found in moments]

    lists = VideoLists()
    before, version = seen(lists), video_version(library.connection)
    change(library, videos)
    assert video_version(library.connection) != version
    after = seen(lists)
    assert after != before
    assert after == seen(VideoLists())
    version = video_version(library.connection)
    annotation_log.add(library, 2, "a swan", 0, 1000)  # concerns no video's place and facts
    assert video_version(library.connection) == version
