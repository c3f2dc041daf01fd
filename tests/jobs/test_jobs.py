"""Scans as processes of their own: what their rows say while they run, when they are done, and when they die."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.small_model import LONG_SCAN_OPTIONS, make_long_videos, make_model

from vtag.engine.errors import VtagError
from vtag.engine.jobs import job_queue as engine_jobs
from vtag.engine.jobs.job_queue import JobQueue, active_runs, scan_arguments
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.store import runs
from vtag.engine.library.store.runs import Run, recent_runs


@pytest.fixture
def library_file(vtag_home: Path) -> Path:
    """The path of an empty library."""
    path = vtag_home / "library.db"
    LibraryWriter.open(path).close()
    return path


def latest(library: Path) -> Run:
    with closing(open_reader(library)) as reader:
        return recent_runs(reader, 1)[0]


def until(holds: Callable[[], bool], patience_s: float = 180) -> None:
    deadline = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_scan_that_reached_its_end_is_done(vtag: Callable, library_file: Path, tmp_path: Path) -> None:
    """Whoever draws a scan stops listening at its sum: the row has to say so by then."""
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", seconds=2)
    (videos / "b.mp4").write_bytes(b"no video")
    model = make_model(tmp_path / "model")
    assert vtag("scan", videos, "--model", model).returncode == 3
    run = latest(library_file)
    assert (run.state, run.progress["videos"], run.progress["of"], run.progress["video_ms"]) == (
        "done",
        2,
        2,
        2000,
    )
    assert vtag("scan", videos).returncode == 0
    assert (latest(library_file).state, latest(library_file).progress["of"]) == ("done", 0)


def submit_long_scan(library_file: Path, folder: Path, model: Path) -> JobQueue:
    """A long scan of `folder` that has a row of its own by now."""
    make_long_videos(folder)
    jobs = JobQueue(library_file)
    assert jobs.submit(
        "scan",
        str(folder),
        scan_arguments(library_file, [str(folder)], "--model", str(model), *LONG_SCAN_OPTIONS),
    )
    until(lambda: running_runs(library_file) != [])
    return jobs


def running_runs(library_file: Path) -> list[Run]:
    with closing(open_reader(library_file)) as reader:
        return active_runs(reader)


def test_a_job_is_seen_while_it_runs_and_is_ended_as_by_ctrl_c(library_file: Path, tmp_path: Path) -> None:
    jobs = submit_long_scan(library_file, tmp_path, make_model(tmp_path / "model"))
    assert jobs.current_job() and not jobs.starting_job()  # it has a row
    arguments = scan_arguments(library_file, [str(tmp_path)])
    assert not jobs.submit("scan", str(tmp_path), arguments)  # one at a time: it waits
    (waits,) = jobs.waiting_jobs()
    jobs.cancel(waits.number)
    assert jobs.interrupt()
    until(lambda: latest(library_file).state == "interrupted" and jobs.current_job() is None)
    assert "interrupted" in jobs.last_message()
    assert jobs.failure == ""  # a person ended it


def test_a_paused_job_rests_goes_on_and_can_be_ended(library_file: Path, tmp_path: Path) -> None:
    jobs = submit_long_scan(library_file, tmp_path, make_model(tmp_path / "model"))
    until(lambda: latest(library_file).progress.get("video_ms", 0) > 0)
    assert jobs.pause()
    until(lambda: latest(library_file).state == "paused")
    assert len(running_runs(library_file)) == 1  # nothing else gets its turn
    until(lambda: worked(latest(library_file).pid) == (time.sleep(0.5), worked(latest(library_file).pid))[1])
    progress = latest(library_file).progress
    assert jobs.resume()
    until(lambda: latest(library_file).progress != progress or latest(library_file).state == "done")
    jobs.pause()
    jobs.interrupt()  # also where it is paused
    until(lambda: latest(library_file).state in ("interrupted", "done") and jobs.current_job() is None)
    assert not jobs.pause() and not jobs.resume()


def worked(pid: int) -> int:
    """Processor time of a process and its children, in clock ticks."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            number, _, fields = stat.read_text("utf-8", "replace").partition(" ")
            fields = fields.rpartition(")")[2].split()
            if pid in (int(number), int(fields[1])):
                ticks += int(fields[11]) + int(fields[12])
    return ticks


def test_a_job_that_was_killed_does_not_seem_to_run(library_file: Path, tmp_path: Path) -> None:
    """Also while its parent has not asked for it: a dead child keeps its number until then."""
    submit_long_scan(library_file, tmp_path, make_model(tmp_path / "model"))
    os.kill(latest(library_file).pid, signal.SIGKILL)
    until(lambda: latest(library_file).state == "interrupted")
    assert running_runs(library_file) == []


def test_a_job_that_another_server_started_meanwhile_is_not_started_again(
    library_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LibraryWriter.open(library_file) as library:
        row = runs.start(library, "scan", "x")  # by this process, which runs: the job has to wait
        queue, second_queue = JobQueue(library_file), JobQueue(library_file)
        queue.submit("scan", "it", ["--version"])
        runs.finish(library, row, "done")

    def nothing(reader: object) -> list[Run]:
        monkeypatch.setattr(engine_jobs, "active_runs", active_runs)
        second_queue.start_next()  # just then
        return []

    monkeypatch.setattr(engine_jobs, "active_runs", nothing)
    queue.start_next()
    assert queue.current_job() is None and queue.waiting_jobs() == []
    until(lambda: second_queue.current_job() is None)
    assert second_queue.failure == ""


@pytest.mark.slow  # three processes, one after the other
def test_what_needs_a_job_goes_with_it(library_file: Path, tmp_path: Path) -> None:
    """Else a model that could not be taught would be asked for, and that failure would hide the first."""
    jobs = submit_long_scan(library_file, tmp_path, make_model(tmp_path / "model"))
    for number in range(2):  # a job that fails, what needs it, and another one
        jobs.submit(
            "finetune", f"{number}", ["finetune", str(tmp_path / "nowhere"), "--db", str(library_file)]
        )
        jobs.submit(
            "retag",
            f"with {number}",
            ["retag", "--db", str(library_file), "--model", "none"],
            needs_previous=True,
        )
    first, _, second, _ = jobs.waiting_jobs()
    jobs.cancel(second.number)
    assert [job.subject for job in jobs.waiting_jobs()] == ["0", "with 0"]
    jobs.interrupt()

    def all_ran() -> bool:
        jobs.start_next()
        return jobs.current_job() is None and not jobs.waiting_jobs()

    until(all_ran)
    assert "nowhere" in jobs.failure and first.subject == "0"


def test_a_job_that_cannot_start_says_why(library_file: Path, tmp_path: Path) -> None:
    for paths, message in (
        ([], "name a folder"),
        (["/nowhere"], "no '/nowhere'"),
        (["relative"], "whole path"),
    ):
        with pytest.raises(VtagError, match=message):
            scan_arguments(library_file, paths)
    jobs = JobQueue(library_file)
    jobs.submit(
        "scan", str(tmp_path), scan_arguments(library_file, [str(tmp_path)], "--model", "no-such-model")
    )
    until(lambda: jobs.current_job() is None)
    assert "no model" in jobs.failure
