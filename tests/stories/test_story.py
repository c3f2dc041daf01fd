"""A person's library over the years, on real files: no word is ever lost, and nothing is looked at twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.sample import make_model
from helpers.scans import looked, rewrite_metadata

from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_file, annotation_log
from vtag.engine.library.database import Library
from vtag.engine.library.search.moments import Moment, search
from vtag.engine.library.store import files, heads
from vtag.engine.video.decode.pool import DecodePool

QUERY = 'archery OR "riding a bike" OR yoga OR grandma'


def spoken(library: Library) -> set[tuple[str, str, int | None, int | None, str]]:
    return {
        (w.content, w.label, w.start_ms, w.end_ms, w.verdict)
        for w in annotation_log.list_annotations(library.connection)
    }


def found(library: Library, name: str, query: str = QUERY) -> list[Moment]:
    return [
        m for m in search(library.connection, query, limit=1000) if Path(os.fsdecode(m.path)).name == name
    ]


def spans(moments: list[Moment]) -> set[tuple[str, int, int, str]]:
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
    for place in (point, tmp_path / "elsewhere"):
        subprocess.run(["umount", "-l", place], capture_output=True)


def test_a_container_that_a_tagger_rewrote_keeps_its_words_and_is_not_looked_at_again(
    library: Library, models: tuple[Path, Path], tmp_path: Path
) -> None:
    (tmp_path / "v").mkdir()
    video = make_video(tmp_path / "v" / "a.mp4", seconds=3)
    assert looked(library, models[0], tmp_path / "v").scanned == 1
    annotation_log.add(library, 1, "grandma", 0, 2000)
    first = found(library, "a.mp4", QUERY)[-1]
    annotation_log.reject(library, [first.id])
    before = spans(found(library, "a.mp4"))
    size = video.stat().st_size
    rewrite_metadata(video, "a holiday " * 20)
    assert video.stat().st_size != size
    done = looked(library, models[0], tmp_path / "v")
    assert (done.scanned, done.windows, done.skipped) == (0, 0, 1)
    assert spans(found(library, "a.mp4")) == before
    assert not annotation_file.orphaned_annotations(library.connection)
    # what is said of the new file is said of the old one, too
    annotation_log.undo(library)
    assert first.label in {m.label for m in found(library, "a.mp4")}


def test_a_decoder_that_dies_on_a_video_that_was_recognised_ends_no_scan(
    library: Library, models: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing more was wanted of it."""
    (tmp_path / "v").mkdir()
    video = make_video(tmp_path / "v" / "a.mp4", seconds=3)
    assert looked(library, models[0], tmp_path / "v").scanned == 1
    rewrite_metadata(video, "a holiday " * 20)
    make_video(tmp_path / "v" / "b.mp4", seconds=3, seed=2)

    def die(pool: DecodePool, job_id: int) -> None:
        (worker,) = (w for w in pool._workers if w.job and w.job.id == job_id)
        worker.process.kill()
        while worker in pool._workers:
            time.sleep(0.01)

    monkeypatch.setattr(DecodePool, "skip", die)
    done = looked(library, models[0], tmp_path / "v")
    assert (done.scanned, done.skipped) == (1, 1)


def test_the_story_of_a_library(
    library: Library, models: tuple[Path, Path], disk: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home videos"
    home.mkdir()
    for i, name in enumerate(("a.mp4", "b.mkv", "c.mp4")):
        make_video(home / name, seconds=3, seed=i)
    make_video(disk / "d.mp4", seconds=3, seed=3)
    assert looked(library, models[0], home, disk).scanned == 4

    # a person corrects
    wrong = {name: found(library, name)[0] for name in ("a.mp4", "d.mp4")}
    annotation_log.reject(library, [wrong["a.mp4"].id, wrong["d.mp4"].id])
    (b,) = {m.path for m in found(library, "b.mkv")}
    content = files.register_file(library, os.fsencode(home / "b.mkv"))
    annotation_log.add(library, content, "grandma", 500, 2000)
    annotation_log.confirm(library, [found(library, "c.mp4")[0].id])
    said = spoken(library)
    assert len(said) == 4
    seen = {name: spans(found(library, name)) for name in ("a.mp4", "b.mkv", "c.mp4", "d.mp4")}

    # a folder is renamed
    moved = home.rename(tmp_path / "Videos 2019")
    done = looked(library, models[0], moved, disk)
    assert (done.scanned, done.windows, done.skipped) == (0, 0, 4)
    assert {name: spans(found(library, name)) for name in seen} == seen
    assert found(library, "b.mkv")[0].path != b and spoken(library) == said

    # the disk is unplugged: its video is not there, and nothing of it is lost
    kept = tmp_path / "elsewhere"
    kept.mkdir()
    subprocess.run(["mount", "--bind", disk, kept], check=True)
    subprocess.run(["umount", disk], check=True)
    done = looked(library, models[0], moved, disk)
    assert done.windows == 0 and spoken(library) == said
    assert [m.present for m in found(library, "d.mp4")] == [False] * len(seen["d.mp4"])
    assert spans(found(library, "d.mp4")) == seen["d.mp4"]
    assert not annotation_file.orphaned_annotations(library.connection)

    # and comes back elsewhere
    done = looked(library, models[0], moved, kept)
    assert (done.scanned, done.windows) == (0, 0)
    assert spans(found(library, "d.mp4")) == seen["d.mp4"]
    assert {m.path for m in found(library, "d.mp4")} == {os.fsencode(kept / "d.mp4")}

    # a file is replaced under its name: another video, whose predecessor's words have no home, and are kept
    make_video(moved / "c.mp4", seconds=3, seed=9)
    assert looked(library, models[0], moved, kept).scanned == 1
    (lost,) = annotation_file.orphaned_annotations(library.connection)
    assert lost[0].verdict == "confirmed" and lost[1] is not None and lost[1].endswith("/c.mp4")
    assert spoken(library) == said and "user" not in {m.source for m in found(library, "c.mp4")}

    # a file is copied
    shutil.copy(moved / "a.mp4", moved / "copy.mp4")
    assert looked(library, models[0], moved, kept).windows == 0
    assert spoken(library) == said
    (moved / "a.mp4").unlink()
    assert looked(library, models[0], moved, kept).windows == 0
    assert spans(found(library, "copy.mp4")) == seen["a.mp4"]  # what was said of the one holds for the other

    # a tagger rewrites a container
    rewrite_metadata(moved / "copy.mp4", "holiday")
    assert looked(library, models[0], moved, kept).windows == 0
    assert spans(found(library, "copy.mp4")) == seen["a.mp4"] and spoken(library) == said

    # another model looks, and thresholds change: the words hold
    assert looked(library, models[1], moved, kept).scanned == 4
    second = heads.library_model(library)
    assert second is not None
    for threshold in (0.01, 0.9, 0.05):
        heads.set_model_threshold(library, second, threshold)
        list(derive.retag(library, second))
        assert ("grandma", 500, 2000, "user") in spans(found(library, "b.mkv"))
        for name, moment in (("copy.mp4", wrong["a.mp4"]), ("d.mp4", wrong["d.mp4"])):
            for left in found(library, name, f'"{moment.label}"'):
                half = (left.end_ms - left.start_ms) / 2
                assert min(left.end_ms, moment.end_ms) - max(left.start_ms, moment.start_ms) < half
    assert spoken(library) == said

    # the person changes their mind, in order
    for count in (3, 2, 0):
        annotation_log.undo(library)
        assert len(spoken(library)) == count
    assert looked(library, models[0], moved, kept).windows == 0
    assert wrong["a.mp4"].label in {m.label for m in found(library, "copy.mp4")}
