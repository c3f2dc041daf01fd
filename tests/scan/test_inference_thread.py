"""The way from clips to the library: batches across videos, passes over all of them, windows without news."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import disc_frame, make_video
from helpers.small_model import LONG_SCAN_OPTIONS, make_long_videos, make_model
from hypothesis import given
from hypothesis import strategies as st
from sqlite_utils import Migrations

from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.protocol import Output
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.jobs import job_queue
from vtag.engine.library import database, migrations
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import coverage, runs
from vtag.engine.scan.inference_thread import InferenceThread
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.passes import PASSES, window_starts
from vtag.engine.scan.pipeline import open_backends_for_scan, open_local_pipeline
from vtag.engine.video.decode.messages import ClipReady
from vtag.engine.video.read.change_detector import ChangeDetector
from vtag.engine.video.read.sampling import Sampling, plan_windows

Run = Callable[..., subprocess.CompletedProcess[str]]
SAMPLING = Sampling.create(32, 15.0)
EVERYTHING = 'archery OR yoga OR "riding a bike"'


# --- the model's thread -----------------------------------------------------------------------------------------


class Freed:
    """Counts the clips whose memory was given back."""

    def __init__(self) -> None:
        self.count = 0

    def clip(self, job: int, start_ms: int, pixels: np.ndarray) -> ClipReady:
        return ClipReady(job, start_ms, start_ms + 1000, pixels, self._free)

    def _free(self) -> None:
        self.count += 1


def random_clip(seed: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (1, 8, side, side, 3), np.uint8)


def take_all(model: InferenceThread) -> list[object]:
    results: list[object] = []
    while model.pending:
        results += model.take(5)
    return results


@pytest.mark.parametrize("cards", [1, 2])
def test_clips_of_several_videos_and_shapes_come_back_with_their_own_features(
    tmp_path: Path, cards: int
) -> None:
    backend = open_backend(make_model(tmp_path / "model"), device="cpu", precision="fp32")
    pixels = [random_clip(seed, side) for seed, side in enumerate([32, 32, 40, 32, 40, 32, 32])]
    freed = Freed()
    with InferenceThread([backend] * cards, 3) as model:
        for number, clip in enumerate(pixels):
            model.put(freed.clip(number % 2, number, clip))
        results = take_all(model)
    assert sorted(s.start_ms for s in results) == list(range(7))
    for s in results:
        assert s.job_id == s.start_ms % 2
        expected = backend.run(pixels[s.start_ms]).features
        np.testing.assert_allclose(s.features, expected, rtol=1e-5, atol=1e-5)
    assert freed.count == 7
    assert model.profile.clips == 7 and model.profile.batches >= 3


def test_a_scan_opens_a_backend_for_each_device_that_is_listed(tmp_path: Path) -> None:
    checkpoint = load_checkpoint(make_model(tmp_path / "model"))
    options = ScanOptions(device="cpu,cpu", backend="torch", precision="fp32")
    with open_local_pipeline(checkpoint, options, SAMPLING, (), processes=1) as pipeline:
        assert pipeline.provenance(0).device == "cpu,cpu"
    with pytest.raises(ModelError, match="no device 'moon'"):
        open_backends_for_scan(checkpoint, ScanOptions(device="cpu,moon"), SAMPLING)


class Broken:
    def run(self, clips: np.ndarray) -> Output:
        raise ModelError("the card fell off the bus")


def test_what_the_model_raises_reaches_the_caller_and_the_memory_is_given_back() -> None:
    freed = Freed()
    with pytest.raises(ModelError, match="fell off"), InferenceThread(Broken(), 2) as model:
        for number in range(5):
            model.put(freed.clip(0, number, random_clip(0)))
        take_all(model)
    assert freed.count == 5


# --- passes -----------------------------------------------------------------------------------------------------


@given(st.integers(1, 40_000_000), st.integers(1, PASSES))
def test_a_pass_looks_at_windows_of_the_video_and_the_last_at_all(length_ms: int, number: int) -> None:
    starts = window_starts(number, length_ms, SAMPLING)
    windows = [w.start_ms for w in plan_windows(length_ms, SAMPLING)] if length_ms < 1_000_000 else None
    if number == PASSES:
        assert starts is None
    if starts is not None and windows is not None:
        assert starts <= set(windows)
        assert 3 <= len(starts) < len(windows)


def test_an_hour_is_searchable_after_a_fortieth_and_a_clip_is_seen_whole() -> None:
    hour = window_starts(1, 3_600_000, SAMPLING)
    assert hour is not None and len(hour) == 42
    gaps = np.diff(sorted(hour))
    assert gaps.max() < 1.2 * gaps.mean()
    assert window_starts(1, 6_000, SAMPLING) is None


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    for i, seconds in enumerate([2, 24, 40]):
        make_video(folder / f"v{i}.mp4", seconds=seconds, width=64, height=48, seed=i)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return make_model(tmp_path / "model")


def observed(home: Path) -> dict[str, tuple[bytes, bytes]]:
    with sqlite3.connect(home / "observations.db") as db:
        rows = db.execute("SELECT content_key, windows, features FROM observations")
        return {key: (windows, features) for key, windows, features in rows}


def test_passes_see_together_what_one_sees_and_a_search_says_how_far_it_has_come(
    vtag: Run,
    videos: Path,
    model: Path,
    vtag_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ("--model", model, "--precision", "fp32", "--threshold", "0.05")
    first = vtag("scan", videos, *options, "--passes", "1", "--json", "--profile")
    assert first.returncode == 0, first.stderr
    row = json.loads(first.stdout)
    assert (row["scanned"], row["unfinished"]) == (3, 2)
    assert "here and there" in first.stderr and "the model worked" in first.stderr
    coarse = observed(vtag_home)
    assert [len(w) // 16 for w, _ in sorted(coarse.values(), key=lambda o: len(o[0]))] == [2, 5, 7]
    search = vtag("search", EVERYTHING)
    assert search.stdout and "2 videos were looked at only here and there so far" in search.stderr

    second = vtag("scan", videos, "--precision", "fp32", "--json")
    row = json.loads(second.stdout)
    assert (row["scanned"], row["skipped"], row["unfinished"]) == (2, 1, 0)
    assert "here and there" not in vtag("search", EVERYTHING).stderr
    assert json.loads(vtag("scan", videos, "--json").stdout)["skipped"] == 3
    by_passes = observed(vtag_home)

    monkeypatch.setenv("VTAG_HOME", str(tmp_path / "other"))
    vtag("scan", videos, *options)
    single_pass = observed(tmp_path / "other")
    for key, (windows, features) in single_pass.items():
        assert by_passes[key][0] == windows
        halves = [np.frombuffer(f, "<f2").astype(float) for f in (by_passes[key][1], features)]
        np.testing.assert_allclose(*halves, rtol=0, atol=2e-3)


def test_forcing_passes_looks_at_everything_anew(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos, "--model", model)
    forced = json.loads(vtag("scan", videos, "--force", "--passes", "3", "--json").stdout)
    assert (forced["scanned"], forced["windows"], forced["unfinished"]) == (3, 66, 0)


def test_an_older_library_learns_what_is_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    older, steps = Migrations("vtag"), database.SCHEMA.steps[:3]
    for name in steps:
        older()(getattr(migrations, name))
    path = tmp_path / "library.db"
    with monkeypatch.context() as patch:
        patch.setattr(migrations, "library_migrations", older)
        patch.setattr(database, "SCHEMA", database.Schema("vtag", steps))
        with LibraryWriter.open(path) as library:
            library.connection.execute(
                "INSERT INTO contents (key, size_bytes, added_at) VALUES ('1-a', 1, '')"
            )
    with LibraryWriter.open(path) as library:
        assert coverage.partial_coverage(library.connection) is None
        coverage.mark_partial(library, 1, "b", "s", 1, 2)
        assert coverage.partial_contents(library, "b", "s") == {1}
        library.connection.execute("DELETE FROM contents")
        assert coverage.partial_contents(library, "b", "s") == set()


# --- windows that show nothing new --------------------------------------------------------------------------------


def still(value: int = 90, noise: int = 2) -> np.ndarray:
    random = np.random.default_rng(value)
    picture = random.integers(0, 200, (1, 1, 100, 120, 3))
    return np.clip(picture + random.integers(-noise, noise + 1, (1, 8, 100, 120, 3)), 0, 255).astype(np.uint8)


def test_a_still_window_is_no_news_but_a_small_thing_that_moves_is() -> None:
    stillness = ChangeDetector()
    assert stillness.has_change(still())  # the first is always looked at
    assert not stillness.has_change(still(noise=3))
    someone = still()
    someone[:, 5, 60:72, 40:45] = 255
    assert stillness.has_change(someone)
    assert not stillness.has_change(still())  # that one is gone again, and the last frame seen was without
    slide = still(91)
    assert stillness.has_change(slide)  # each slide once
    assert not stillness.has_change(slide)


def test_only_what_changes_is_scanned_of_a_video_that_stands_still(
    vtag: Run, model: Path, tmp_path: Path
) -> None:
    def draw(i: int) -> np.ndarray:
        return disc_frame(max(8.0, i / 30), 160, 120)  # the disc begins to move after eight seconds

    make_video(tmp_path / "still.mp4", seconds=12, draw=draw)
    assert (
        json.loads(vtag("scan", tmp_path / "still.mp4", "--model", model, "--json").stdout)["windows"] == 12
    )
    skipped = vtag("scan", tmp_path / "still.mp4", "--force", "--skip-static", "--json")
    assert 5 <= json.loads(skipped.stdout)["windows"] <= 6


# --- how hard, how politely ---------------------------------------------------------------------------------------


def test_effort_sets_stride_and_view_where_none_are_told(model: Path) -> None:
    spec = load_checkpoint(model).spec if model.is_file() else open_backend(model).spec
    samplings = {
        effort: scan_sampling(spec, ScanOptions(effort=effort)) for effort in ("fast", "normal", "thorough")
    }
    assert [s.stride_ms for s in samplings.values()] == [2000, 1000, 500]
    assert [s.view for s in samplings.values()] == ["center", "center", "full"]
    sampling = scan_sampling(spec, ScanOptions(effort="thorough", stride_s=3.0, view="three"))
    assert (sampling.stride_ms, sampling.view) == (3000, "three")


@pytest.mark.skipif(sys.platform == "win32", reason="no signals")
def test_a_scan_is_nice_can_be_paused_and_goes_on(tmp_path: Path, model: Path, vtag_home: Path) -> None:
    (tmp_path / "videos").mkdir()
    make_long_videos(tmp_path / "videos")
    command = [sys.executable, "-m", "vtag.app", "scan", str(tmp_path / "videos"), "--model", str(model)]
    library = vtag_home / "library.db"
    with subprocess.Popen(
        [*command, "--nice", *LONG_SCAN_OPTIONS], stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        process.stderr.readline()  # what runs where: it looks now
        jobs = job_queue.JobQueue(library)
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) > niceness or niceness > 9
        assert jobs.pause()
        wait_for(lambda: state_of(library) == "paused")
        assert jobs.resume()  # it was paused, not gone
        wait_for(lambda: state_of(library) == "running")
        assert jobs.interrupt()
        stderr = process.stderr.read()
    assert process.returncode == 130, stderr
    assert "what was finished is kept" in stderr
    assert not jobs.pause()


def state_of(library: Path) -> str:
    with closing(database.open_reader(library)) as reader:
        return runs.recent_runs(reader, 1)[0].state


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
