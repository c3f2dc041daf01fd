"""What a scan says before it begins: how much video, about how long; and what that becomes while it runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import make_model

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import runs
from vtag.engine.models.registry import load_model
from vtag.engine.scan.discover import DiscoveredFile
from vtag.engine.scan.estimate import VideoLengths
from vtag.engine.scan.events import ScanEvent, ScanFinished, ScanPlanned, ScanProgress
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.plan import ScanTask
from vtag.engine.scan.scan import scan
from vtag.engine.video.read.probe import read_claimed_ms

Run = Callable[..., subprocess.CompletedProcess[str]]


def task(size_bytes: int, duration_ms: int | None = None) -> ScanTask:
    return ScanTask("key", [DiscoveredFile(b"/nothing", size_bytes, 0, 0, b"/")], duration_ms)


def test_what_is_not_known_is_guessed_by_its_size() -> None:
    lengths = VideoLengths([task(1000, 10_000), task(3000), task(1000)])
    assert lengths.total_ms == 50_000
    lengths.set_length(1, 6_000)
    assert lengths.total_ms == 16_000 + 4_000
    lengths.set_length(1, 14_000)  # better known now
    lengths.drop(2)
    assert lengths.total_ms == 24_000
    lengths.drop(0)
    lengths.drop(1)
    assert lengths.total_ms == 0


def test_where_nothing_is_known_nothing_is_said() -> None:
    assert (
        VideoLengths([]).total_ms
        == VideoLengths([task(1000)]).total_ms
        == VideoLengths([task(0, 500)]).total_ms
        == 0
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    make_video(folder / "a.mp4", seconds=3)
    make_video(folder / "b.mkv", seconds=5, seed=1)
    (folder / "broken.mp4").write_bytes(os.urandom(3000))
    return folder


def events_of(library: LibraryWriter, videos: Path, model: Path, **options: bool) -> list[ScanEvent]:
    checkpoint = load_model(model)
    register_model(library, checkpoint, str(model))
    return list(scan(library, [os.fsencode(videos)], checkpoint, ScanOptions(**options)))


def test_a_scan_says_how_much_there_is_and_ends_at_exactly_that(
    library: LibraryWriter, videos: Path, model: Path
) -> None:
    events = events_of(library, videos, model)
    planned = next(e for e in events if isinstance(e, ScanPlanned))
    assert planned.videos == 3
    assert 8_000 <= planned.video_ms < 12_000  # the broken one counts by its size
    assert planned.estimate_s is not None and planned.estimate_s > 0
    last = [e for e in events if isinstance(e, ScanProgress)][-1]
    assert last.video_ms_done == last.video_ms == events[-1].video_ms
    assert isinstance(events[-1], ScanFinished) and len(events[-1].failed) == 1


def test_a_video_that_cannot_be_read_counts_as_done_also_where_it_is_the_last(
    library: LibraryWriter, tmp_path: Path, model: Path
) -> None:
    (tmp_path / "broken.mp4").write_bytes(os.urandom(3000))
    events = events_of(library, tmp_path, model)
    last = [e for e in events if isinstance(e, ScanProgress)][-1]
    assert (last.videos_done, last.video_ms_done, last.video_ms) == (1, 0, 0)


def test_videos_that_go_away_during_a_scan_are_scanned_when_they_are_back(
    library: LibraryWriter, tmp_path: Path, model: Path
) -> None:
    folder = tmp_path / "share"
    folder.mkdir()
    for seed in range(6):
        make_video(folder / f"{seed}.mp4", seconds=1, fps=4, width=64, height=48, seed=seed)
    checkpoint = load_model(model)
    register_model(library, checkpoint, str(model))
    for event in scan(library, [os.fsencode(folder)], checkpoint, ScanOptions()):
        if isinstance(event, ScanPlanned):
            folder.rename(tmp_path / "away")
    assert isinstance(event, ScanFinished) and event.failed
    (tmp_path / "away").rename(folder)
    again = events_of(library, folder, model)[-1]
    assert isinstance(again, ScanFinished) and not again.failed
    assert library.connection.execute("SELECT count(*) FROM derivations").fetchone() == (6,)


def test_a_length_that_could_not_be_told_before_is_known_once_the_video_is_open(
    library: LibraryWriter, tmp_path: Path, model: Path
) -> None:
    blank = np.zeros((48, 64, 3), np.uint8)  # so little data that no container is believed
    make_video(tmp_path / "blank.mp4", seconds=60, fps=1, width=64, height=48, draw=lambda _: blank)
    events = events_of(library, tmp_path, model)
    assert next(e for e in events if isinstance(e, ScanPlanned)).video_ms == 0
    assert next(e for e in events if isinstance(e, ScanProgress)).video_ms == 60_000


def test_lengths_that_were_read_before_are_believed(
    library: LibraryWriter, videos: Path, model: Path
) -> None:
    events_of(library, videos, model)
    again = next(e for e in events_of(library, videos, model, force=True, dry_run=True))
    assert isinstance(again, ScanPlanned)
    assert again.video_ms == pytest.approx(8_000, rel=0.2)


def test_the_speed_of_a_long_scan_is_remembered(library: LibraryWriter, tmp_path: Path, model: Path) -> None:
    make_video(tmp_path / "long.mp4", seconds=40, width=64, height=48, fps=8)
    estimated = events_of(library, tmp_path, model, dry_run=True)[0]
    assert isinstance(estimated, ScanPlanned) and estimated.estimate_s  # timed: nothing is remembered yet
    assert (estimated.videos, estimated.video_ms) == (1, 40_000)
    events_of(library, tmp_path, model)
    speed = runs.last_speed(library, load_model(model).spec.backbone_hash)
    assert speed is not None and speed > 0
    planned = events_of(library, tmp_path, model, dry_run=True, force=True)[0]
    assert isinstance(planned, ScanPlanned)
    assert planned.estimate_s == pytest.approx(40 / speed)


def test_a_claim_that_no_video_can_hold_is_not_believed(tmp_path: Path) -> None:
    video = make_video(tmp_path / "a.mkv", seconds=3)
    assert read_claimed_ms(video) == pytest.approx(3000, abs=50)
    content = bytearray(video.read_bytes())
    offset = content.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a float64 in milliseconds
    content[offset : offset + 8] = bytes.fromhex("415e848000000000")  # 8,000,000 ms
    video.write_bytes(content)
    assert read_claimed_ms(video) is None


def test_the_second_line_names_videos_hours_and_an_estimate(
    vtag: Run, videos: Path, model: Path, tmp_path: Path
) -> None:
    shutil.copytree(videos, tmp_path / "videos")
    run = vtag("scan", tmp_path / "videos", "--model", model)
    first, second = run.stderr.splitlines()[:2]
    assert re.fullmatch("tiny on cpu with torch, (fp32|bf16)", first)
    assert re.fullmatch(r"3 videos to look at, [89]\.\d s of video, about \d+\.\d s", second), second
