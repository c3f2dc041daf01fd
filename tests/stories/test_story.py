"""The story of a library on real files: no annotation is lost, and no video is scanned twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.library_scan import rewrite_metadata, run_scan
from helpers.small_model import make_model

from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_file, annotation_log, undo_redo
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import Moment, search
from vtag.engine.library.store import files, heads
from vtag.engine.video.decode.pool import DecodePool

QUERY = 'archery OR "riding a bike" OR yoga OR grandma'


def all_annotations(library: LibraryWriter) -> set[tuple[str, str, int | None, int | None, str]]:
    return {
        (w.content, w.label, w.start_ms, w.end_ms, w.verdict)
        for w in annotation_log.list_annotations(library.connection)
    }


def moments_in(library: LibraryWriter, name: str, query: str = QUERY) -> list[Moment]:
    return [
        m for m in search(library.connection, query, limit=1000) if Path(os.fsdecode(m.path)).name == name
    ]


def ranges(moments: list[Moment]) -> set[tuple[str, int, int, str]]:
    return {(m.label, m.start_ms, m.end_ms, m.source) for m in moments}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    return make_model(folder / "first"), make_model(folder / "second", seed=1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, mounted in a folder."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "none", point], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield point
    for mount_point in (point, tmp_path / "elsewhere"):
        subprocess.run(["umount", "-l", mount_point], capture_output=True)


def test_a_video_with_rewritten_metadata_keeps_its_annotations_and_is_not_scanned_again(
    library: LibraryWriter, models: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "v").mkdir()
    video = make_video(tmp_path / "v" / "a.mp4", seconds=3)
    assert run_scan(library, models[0], tmp_path / "v").scanned == 1
    annotation_log.add(library, 1, "grandma", 0, 2000)
    moment = moments_in(library, "a.mp4", QUERY)[-1]
    annotation_log.reject(library, [moment.id])
    ranges_in_file = ranges(moments_in(library, "a.mp4"))
    size = video.stat().st_size
    rewrite_metadata(video, "a holiday " * 20)
    assert video.stat().st_size != size
    summary = run_scan(library, models[0], tmp_path / "v")
    assert (summary.scanned, summary.windows, summary.skipped) == (0, 0, 1)
    assert ranges(moments_in(library, "a.mp4")) == ranges_in_file
    assert not annotation_file.orphaned_annotations(library.connection)
    # undo reaches the annotation of the original content
    undo_redo.undo(library)
    assert moment.label in {m.label for m in moments_in(library, "a.mp4")}


def test_a_decoder_that_dies_on_a_recognised_video_does_not_end_the_scan(
    library: LibraryWriter, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scan needs nothing more from that video."""
    (tmp_path / "v").mkdir()
    video = make_video(tmp_path / "v" / "a.mp4", seconds=3)
    assert run_scan(library, models[0], tmp_path / "v").scanned == 1
    rewrite_metadata(video, "a holiday " * 20)
    make_video(tmp_path / "v" / "b.mp4", seconds=3, seed=2)

    def die(pool: DecodePool, job_id: int) -> None:
        (worker,) = (w for w in pool._workers if w.job and w.job.id == job_id)
        worker.process.kill()
        while worker in pool._workers:
            time.sleep(0.01)

    monkeypatch.setattr(DecodePool, "skip", die)
    summary = run_scan(library, models[0], tmp_path / "v")
    assert (summary.scanned, summary.skipped) == (1, 1)


def test_the_story_of_a_library(
    library: LibraryWriter, models: tuple[Path, Path], disk: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home videos"
    home.mkdir()
    for i, name in enumerate(("a.mp4", "b.mkv", "c.mp4")):
        make_video(home / name, seconds=3, seed=i)
    make_video(disk / "d.mp4", seconds=3, seed=3)
    assert run_scan(library, models[0], home, disk).scanned == 4

    # a person corrects moments
    rejected = {name: moments_in(library, name)[0] for name in ("a.mp4", "d.mp4")}
    annotation_log.reject(library, [rejected["a.mp4"].id, rejected["d.mp4"].id])
    (original_path,) = {m.path for m in moments_in(library, "b.mkv")}
    content = files.register_file(library, os.fsencode(home / "b.mkv"))
    annotation_log.add(library, content, "grandma", 500, 2000)
    annotation_log.confirm(library, [moments_in(library, "c.mp4")[0].id])
    annotations = all_annotations(library)
    assert len(annotations) == 4
    expected = {name: ranges(moments_in(library, name)) for name in ("a.mp4", "b.mkv", "c.mp4", "d.mp4")}

    # a folder is renamed
    videos = home.rename(tmp_path / "Videos 2019")
    summary = run_scan(library, models[0], videos, disk)
    assert (summary.scanned, summary.windows, summary.skipped) == (0, 0, 4)
    assert {name: ranges(moments_in(library, name)) for name in expected} == expected
    assert moments_in(library, "b.mkv")[0].path != original_path and all_annotations(library) == annotations

    # the disk is unplugged: its video is unavailable, but its moments are kept
    new_mount = tmp_path / "elsewhere"
    new_mount.mkdir()
    subprocess.run(["mount", "--bind", disk, new_mount], check=True)
    subprocess.run(["umount", disk], check=True)
    summary = run_scan(library, models[0], videos, disk)
    assert summary.windows == 0 and all_annotations(library) == annotations
    assert [m.present for m in moments_in(library, "d.mp4")] == [False] * len(expected["d.mp4"])
    assert ranges(moments_in(library, "d.mp4")) == expected["d.mp4"]
    assert not annotation_file.orphaned_annotations(library.connection)

    # the disk is mounted in another folder
    summary = run_scan(library, models[0], videos, new_mount)
    assert (summary.scanned, summary.windows) == (0, 0)
    assert ranges(moments_in(library, "d.mp4")) == expected["d.mp4"]
    assert {m.path for m in moments_in(library, "d.mp4")} == {os.fsencode(new_mount / "d.mp4")}

    # a file is replaced by another video: annotations of the first are orphaned, but kept
    make_video(videos / "c.mp4", seconds=3, seed=9)
    assert run_scan(library, models[0], videos, new_mount).scanned == 1
    (orphan,) = annotation_file.orphaned_annotations(library.connection)
    assert orphan[0].verdict == "confirmed" and orphan[1] is not None and orphan[1].endswith("/c.mp4")
    sources = {m.source for m in moments_in(library, "c.mp4")}
    assert all_annotations(library) == annotations and "user" not in sources

    # a file is copied
    shutil.copy(videos / "a.mp4", videos / "copy.mp4")
    assert run_scan(library, models[0], videos, new_mount).windows == 0
    assert all_annotations(library) == annotations
    (videos / "a.mp4").unlink()
    assert run_scan(library, models[0], videos, new_mount).windows == 0
    # the annotations of a content hold for each of its files
    assert ranges(moments_in(library, "copy.mp4")) == expected["a.mp4"]

    # another program rewrites the metadata of a file
    rewrite_metadata(videos / "copy.mp4", "holiday")
    assert run_scan(library, models[0], videos, new_mount).windows == 0
    assert (
        ranges(moments_in(library, "copy.mp4")) == expected["a.mp4"]
        and all_annotations(library) == annotations
    )

    # another model scans, and thresholds change: the annotations hold
    assert run_scan(library, models[1], videos, new_mount).scanned == 4
    second = heads.library_model(library)
    assert second is not None
    for threshold in (0.01, 0.9, 0.05):
        heads.set_model_threshold(library, second, threshold)
        list(derive.retag(library, second))
        assert ("grandma", 500, 2000, "user") in ranges(moments_in(library, "b.mkv"))
        for name, moment in (("copy.mp4", rejected["a.mp4"]), ("d.mp4", rejected["d.mp4"])):
            for remaining in moments_in(library, name, f'"{moment.label}"'):
                half = (remaining.end_ms - remaining.start_ms) / 2
                assert min(remaining.end_ms, moment.end_ms) - max(remaining.start_ms, moment.start_ms) < half
    assert all_annotations(library) == annotations

    # the person undoes the changes, latest first
    for count in (3, 2, 0):
        undo_redo.undo(library)
        assert len(all_annotations(library)) == count
    assert run_scan(library, models[0], videos, new_mount).windows == 0
    assert rejected["a.mp4"].label in {m.label for m in moments_in(library, "copy.mp4")}
