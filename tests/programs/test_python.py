"""The Python API: right values by the command line and by the scan, and an import that costs nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import make_model

import vtag.engine
from vtag.engine import (
    Library,
    ScanFinished,
    ScanOptions,
    VideoScanFailed,
    VideoScanned,
    VtagError,
    open_backend,
    read_clips,
)
from vtag.engine.library import database
from vtag.engine.library.search.contents import require_content
from vtag.engine.library.store.clocks import save_clock
from vtag.engine.video.read.probe import probe
from vtag.engine.video_clock import ClockStretch, VideoClock

Run = Callable[..., subprocess.CompletedProcess[str]]
HEAVY = ("torch", "av", "numpy", "onnxruntime", "sqlite_utils", "gradio", "matplotlib")


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, two videos and a file that is none, and the home of their library.

    By its clock, the first picture of 1.mp4 comes three seconds after the file's start.
    """
    folder = tmp_path_factory.mktemp("python")
    model, videos = make_model(folder / "model"), folder / "videos"
    videos.mkdir()
    for seed in range(2):
        make_video(videos / f"{seed}.mp4", seconds=4, width=64, height=48, seed=seed)
    (videos / "broken.mp4").write_bytes(b"no video" * 1000)
    library = Library.open(folder / "home" / "library.db")
    list(library.scan(videos, model=str(model), options=ScanOptions(threshold=0.1)))
    with database.LibraryWriter.open(library.path) as writer:
        content = require_content(writer.connection, os.fsencode(videos / "1.mp4"))
        save_clock(writer, content.id, VideoClock((ClockStretch(0, 3_000_000),)))
    return folder


@pytest.fixture
def videos(scanned: Path) -> Path:
    return scanned / "videos"


@pytest.fixture
def library(scanned: Path, vtag_home: Path) -> Library:
    """The user's library: a copy of the scanned one."""
    shutil.copytree(scanned / "home", vtag_home, dirs_exist_ok=True)
    return Library.open()


def test_importing_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, vtag.engine; from vtag.engine import Library; Library.open('nowhere.db')\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_name_of_the_api_is_there() -> None:
    for name in vtag.engine.__all__:
        assert getattr(vtag.engine, name) and name in dir(vtag.engine)
    with pytest.raises(AttributeError):
        _ = vtag.engine.nothing


def test_a_scan_is_a_generator_of_events(library: Library, videos: Path, tmp_path: Path) -> None:
    video = make_video(tmp_path / "2.mp4", seconds=3, width=64, height=48, seed=2)
    events = list(library.scan([str(videos), os.fsencode(video)]))
    assert [Path(os.fsdecode(e.path)) for e in events if isinstance(e, VideoScanned)] == [video]
    finished = events[-1]
    assert isinstance(finished, ScanFinished)
    assert (finished.scanned, finished.skipped, finished.known_failed) == (1, 2, 1)
    again = list(library.scan(videos, options=ScanOptions(retry_failed=True)))
    assert [e for e in again if isinstance(e, VideoScanFailed)]


def test_a_scan_that_is_left_keeps_what_is_finished(scanned: Path, vtag_home: Path, videos: Path) -> None:
    library = Library.open()
    options = ScanOptions(threshold=0.1)
    for event in library.scan(videos, model=str(scanned / "model"), options=options):
        if isinstance(event, VideoScanned):
            break
    assert len({moment.path for moment in library.search("score>0", limit=None, less_sure="all")}) >= 1


def test_moments_are_those_of_the_command_line(library: Library, vtag: Run, videos: Path) -> None:
    rows = json.loads(vtag("search", "archery OR yoga", "--json").stdout)
    moments = library.search("archery OR yoga")
    assert [(str(m.file), m.id, m.start_ms, m.end_ms, m.sure) for m in moments] == [
        (row["path"], row["id"], row["start_ms"], row["end_ms"], row["sure"]) for row in rows
    ]
    rows = json.loads(vtag("show", videos / "1.mp4", "--json").stdout)
    assert [(m.id, m.start_ms) for m in library.moments(videos / "1.mp4")] == [
        (row["id"], row["start_ms"]) for row in rows
    ]
    assert min(row["start_ms"] for row in rows) >= 3000
    assert set(library.labels()) == {"archery", "riding a bike", "yoga"}


def test_what_a_person_says_is_kept_and_taken_back(library: Library, videos: Path) -> None:
    video = videos / "1.mp4"
    assert library.annotate(video, "my dog", 4000, 5000)
    assert not library.annotate(video, "my dog", 4000, 5000)
    (moment,) = library.search("dog")
    assert (moment.file, moment.start_ms, moment.end_ms, moment.source) == (video, 4000, 5000, "user")
    library.undo()
    assert library.search("dog") == []
    archery = library.search("archery", less_sure="all")
    for file in videos.glob("[01].mp4"):
        library.annotate(file, "archery", verdict="rejected")
    assert archery and library.search("archery", less_sure="all") == []
    with pytest.raises(VtagError, match="a verdict is one of"):
        library.annotate(video, "my dog", verdict="perhaps")


def test_features_are_those_that_the_model_computes_for_the_clips(
    library: Library, videos: Path, scanned: Path
) -> None:
    windows, features = library.features(videos / "0.mp4")
    backend = open_backend(scanned / "model", precision="fp32")
    clips = list(read_clips(videos / "0.mp4", backend.spec))
    assert [[clip.start_ms, clip.end_ms] for clip in clips] == windows.tolist()
    computed = np.stack([backend.run(clip.pixels).features for clip in clips])
    assert np.abs(computed - features).max() < 0.02  # the library keeps float16, the scan may compute in bf16
    assert library.features(videos / "1.mp4").windows[0].tolist() == [3000, 4000]
    with pytest.raises(VtagError, match="knows no model"):
        library.features(videos / "0.mp4", model="unknown")


def test_similar_moments_have_the_players_times(library: Library, videos: Path) -> None:
    similar = library.similar(videos / "1.mp4", at_ms=3500)
    assert similar and all(s.start_ms >= 3000 for s in similar if s.path.endswith(b"1.mp4"))
    with pytest.raises(VtagError, match="ends at"):
        library.similar(videos / "1.mp4", at_ms=60_000)


def test_moments_are_cut_out_of_the_videos(library: Library, videos: Path, tmp_path: Path) -> None:
    library.annotate(videos / "0.mp4", "dog", 1000, 2000)
    (clip,) = library.cut(library.search("dog"), tmp_path, reencode=True)
    assert clip.parent == tmp_path and clip.name.startswith("0 ") and clip.name.endswith(" dog.mp4")
    assert 900 <= probe(os.fsencode(clip)).duration_ms <= 1100


def test_a_mistake_is_an_error_that_says_what_to_do(vtag_home: Path, tmp_path: Path) -> None:
    library = Library.open(tmp_path / "no.db")
    with pytest.raises(VtagError, match="there is no library"):
        library.search("archery")
    assert not (tmp_path / "no.db").exists()


@pytest.mark.parametrize("argument", ["sort", "less_sure", "sensitivity"])
def test_a_wrong_word_is_answered_with_the_right_ones(library: Library, argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} is 'much': it has to be .* or "):
        library.search("dog", **{argument: "much"})  # type: ignore[arg-type]


def failing(events: Iterator[object]) -> None:
    with pytest.raises(VtagError):
        next(events)


def test_errors_of_a_generator_come_with_its_first_event(library: Library, videos: Path) -> None:
    failing(library.scan(videos, model="no such model"))
    failing(library.cut(library.search(""), videos, name="{nonsense}"))
