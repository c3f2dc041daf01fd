"""Scans as processes of their own: what their rows say while they run, when they are done, and when they die."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from footage import make_video
from sample import make_model

from vtag.engine import jobs
from vtag.engine.errors import VtagError
from vtag.engine.library.database import Library, open_reader
from vtag.engine.library.runs import Run, recent


@pytest.fixture
def place(vtag_home: Path) -> Path:
    """The path of an empty library."""
    path = vtag_home / "library.db"
    Library.open(path).close()
    return path


def latest(library: Path) -> Run:
    with closing(open_reader(library)) as reader:
        return recent(reader, 1)[0]


def until(holds: Callable[[], bool], patience_s: float = 120) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_scan_that_reached_its_end_is_done(vtag: Callable, place: Path, tmp_path: Path) -> None:
    """Whoever draws a scan stops listening at its sum: the row has to say so by then."""
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", seconds=2)
    (videos / "b.mp4").write_bytes(b"no video")
    model = make_model(tmp_path / "model")
    assert vtag("scan", videos, "--model", model).returncode == 3
    run = latest(place)
    assert (run.state, run.progress) == ("done", {"videos": 2, "of": 2, "video_ms": 2000})
    assert vtag("scan", videos).returncode == 0
    assert (latest(place).state, latest(place).progress["of"]) == ("done", 0)


def test_a_job_is_seen_while_it_runs_and_is_ended_as_by_ctrl_c(place: Path, tmp_path: Path) -> None:
    for number in range(8):
        make_video(tmp_path / f"{number}.mp4", seconds=30, width=64, height=48, seed=number)
    job = jobs.start_scan(place, [str(tmp_path)], str(make_model(tmp_path / "model")))
    assert latest(place).pid == job.pid
    with pytest.raises(VtagError, match="one at a time"):
        jobs.start_scan(place, [str(tmp_path)])
    assert jobs.cancel(place, latest(place).id)
    assert job.wait(60) == 130
    assert latest(place).state == "interrupted"
    assert "interrupted" in jobs.last_words(place)


def test_a_job_that_was_killed_does_not_seem_to_run(place: Path, tmp_path: Path) -> None:
    """Also while its parent has not asked for it: a dead child keeps its number until then."""
    make_video(tmp_path / "0.mp4", seconds=30)
    job = jobs.start_scan(place, [str(tmp_path)], str(make_model(tmp_path / "model")))
    os.kill(job.pid, signal.SIGKILL)
    until(lambda: latest(place).state == "interrupted")
    assert jobs.running_jobs(place) == []


def test_a_job_that_cannot_start_says_why(place: Path, tmp_path: Path) -> None:
    for paths, said in (([], "name a folder"), (["/nowhere"], "no '/nowhere'"), (["relative"], "whole path")):
        with pytest.raises(VtagError, match=said):
            jobs.start_scan(place, paths)
    with pytest.raises(VtagError, match="no model"):
        jobs.start_scan(place, [str(tmp_path)], "no-such-model")
