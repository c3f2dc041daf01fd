"""Videos with several files: whatever shows a path takes a copy that fits, and that is there."""

from __future__ import annotations

import itertools
import os
from pathlib import Path

import pytest
from helpers.library_factory import add_video

from vtag.engine.library import page_queries
from vtag.engine.library.annotations import annotation_file, annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import search, search_videos
from vtag.engine.library.store import files
from vtag.engine.library.store.file_paths import content_files
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.library.views.results import count_results
from vtag.engine.library.views.video_list import VideoLists
from vtag.engine.library.views.video_table import VideoFilter


@pytest.fixture
def copied(library: LibraryWriter, tmp_path: Path) -> Path:
    """Three copies of a video with two labels, and another video beside each; returns the folder."""
    for folder in ("backup", "photos", "photos/raw"):
        content = add_video(library, tmp_path / folder / "x.avi", seed=0, is_scanned=False)
    annotation_log.add(library, content, "wave", 1000, 2000)
    annotation_log.add(library, content, "yoga", 3000, 4000)
    other = add_video(library, tmp_path / "photos" / "y.avi", seed=1, is_scanned=False)
    annotation_log.add(library, other, "wave", 1000, 2000)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("wave", {"backup/x.avi", "photos/y.avi"}),
        ("path:backup/* wave", {"backup/x.avi"}),
        ("wave path:photos/*", {"photos/x.avi", "photos/y.avi"}),
        ("wave path:raw", {"photos/raw/x.avi"}),
        ("path:photos/*", {"photos/x.avi", "photos/y.avi"}),
        ("wave -path:backup", {"photos/x.avi", "photos/y.avi"}),
        ("wave path:photos -path:*/x.avi", {"photos/y.avi"}),
        ("wave -path:backup -path:photos/[xy]*", {"photos/raw/x.avi"}),
        ("wave -(path:backup OR path:photos/[xy]*)", {"photos/raw/x.avi"}),
        ("wave -path:x.avi", {"photos/y.avi"}),
        ("wave path:photos path:backup", set()),
        ("(wave path:raw) OR (yoga path:photos/x*)", {"photos/raw/x.avi", "photos/x.avi"}),
        ("(wave path:photos/x*) OR yoga", {"photos/x.avi", "backup/x.avi"}),
        ("(wave THEN yoga) path:raw", {"photos/raw/x.avi"}),
        ("(wave path:raw) THEN (yoga path:raw)", {"photos/raw/x.avi"}),
        ("wave AND yoga path:raw", {"photos/raw/x.avi"}),
        ("wave (path:raw OR score>0.5)", {"photos/raw/x.avi", "photos/y.avi"}),
        ("wave (path:raw OR after:2100)", {"photos/raw/x.avi"}),
    ],
)
def test_of_several_copies_one_that_the_query_fits_is_shown(
    library: LibraryWriter, copied: Path, text: str, expected: set[str]
) -> None:
    for found in (
        search(library.connection, text),
        list(itertools.chain.from_iterable(search_videos(library.connection, text))),
    ):
        assert {os.path.relpath(os.fsdecode(m.path), copied) for m in found} == expected
        assert all(m.copies[0] == m.path for m in found)


def test_a_copy_that_fits_and_exists_comes_before_one_that_is_gone(
    library: LibraryWriter, copied: Path
) -> None:
    (copied / "photos" / "x.avi").unlink()
    (moment,) = search(library.connection, "wave path:photos path:x.avi")
    assert moment.path == os.fsencode(copied / "photos" / "raw" / "x.avi") and moment.present
    (moment,) = search(library.connection, "wave path:photos/x.avi")
    assert moment.path == os.fsencode(copied / "photos" / "x.avi") and not moment.present


def test_folders_are_counted_once_for_each_copy_that_the_query_fits(
    library: LibraryWriter, copied: Path
) -> None:
    def counted(query: str) -> dict[str, int]:
        return {
            os.path.relpath(folder, copied): number
            for folder, number in count_results(library.connection, query).folders
        }

    assert counted("wave") == {"backup": 1, "photos": 2, "photos/raw": 1}
    assert counted("wave path:photos/*") == {"photos": 2, "photos/raw": 1}
    assert counted("wave -path:backup/* -path:raw/*") == {"photos": 2}


@pytest.mark.parametrize(
    ("chosen", "expected", "folders"),
    [
        ({}, ["backup/x.avi", "photos/y.avi"], {"backup": 1, "photos": 2, "photos/raw": 1}),
        ({"folder": "photos"}, ["photos/x.avi", "photos/y.avi"], {"photos": 2, "photos/raw": 1}),
        ({"folder": "photos/raw/"}, ["photos/raw/x.avi"], {"photos/raw": 1}),
        ({"folder": "photos", "name": "RAW"}, ["photos/raw/x.avi"], {"photos/raw": 1}),
        ({"folder": "backup", "name": "raw"}, [], {}),
    ],
)
def test_the_list_shows_the_copy_that_was_chosen(
    library: LibraryWriter, copied: Path, chosen: dict[str, str], expected: list[str], folders: dict[str, int]
) -> None:
    if "folder" in chosen:
        chosen = {**chosen, "folder": f"{copied}/{chosen['folder']}"}
    lists, options = VideoLists(), {"sort": "name", "is_reversed": False}
    page = lists.page(library.connection, VideoFilter(**chosen), sort="name")
    assert [os.path.relpath(video.display, copied) for video in page.videos] == expected
    counts = lists.counts(library.connection, VideoFilter(**chosen), group="folder", **options)
    assert {os.path.relpath(folder, copied): number for folder, number in counts.folders} == folders
    assert [os.path.relpath(title, copied) for title, _ in counts.sections] == list(
        dict.fromkeys(os.path.dirname(path) for path in expected)
    )


def test_without_a_query_a_copy_that_is_there_stands_for_all(library: LibraryWriter, copied: Path) -> None:
    files.add_roots(library, [os.fsencode(copied)])
    reader = library.connection
    content, key = reader.execute("SELECT id, key FROM contents ORDER BY id").fetchone()
    for gone, shown in (("", "backup"), ("backup", "photos"), ("photos", "photos/raw")):
        if gone:
            (copied / gone / "x.avi").unlink()
            reader.execute(
                "UPDATE files SET state = 'missing' WHERE display = ?", (str(copied / gone / "x.avi"),)
            )
        path = str(copied / shown / "x.avi")
        video = page_queries.find_video(reader, content)
        assert video is not None and (video.path, video.display) == (os.fsencode(path), path)
        assert page_queries.label_annotations(reader, "yoga")[0].display == path
        assert annotation_file.content_paths(reader, [key]) == {key: (os.fsencode(path), path)}
        first = next(v for v in VideoLists().page(reader, VideoFilter()).videos if v.id == content)
        assert (first.display, first.is_present) == (path, True)
        assert search(reader, "yoga")[0].path == os.fsencode(path)


def test_a_link_to_a_video_that_is_gone_is_not_there(library: LibraryWriter, copied: Path) -> None:
    link = copied / "backup" / "x.avi"
    link.unlink()
    link.symlink_to(copied / "elsewhere.avi")  # on a disk that is not connected
    (moment,) = search(library.connection, "yoga")
    assert moment.path == os.fsencode(copied / "photos" / "x.avi") and moment.present
    content = library.connection.execute("SELECT min(id) FROM contents").fetchone()[0]
    files.mark_moved(library, [content], Volumes())
    assert [file.is_present for file in content_files(library.connection, content)] == [True, True, False]
    assert not files.is_gone(os.fsencode(link))  # the link may lead somewhere again
