"""Several processes work with one library at the same time: nothing is done twice, lost, or refused as locked."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.stopped_scan import stop_with_videos, stored_videos
from helpers.undisturbed import Outcome, integrity, read_outcome, run_vtag
from helpers.warm_process import WarmProcess

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.search.moments import search

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Two at once"
SCAN = ("--threshold", "0.05", "--precision", "fp32", "--stride", "0.3", "--json")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight videos whose scan takes some seconds."""
    folder = tmp_path_factory.mktemp("footage")
    for number in range(8):
        make_video(folder / f"{number}.mp4", seconds=20, fps=2, width=64, height=48, seed=number)
    return folder


@pytest.fixture(scope="module")
def alone(footage: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """What one scan of the footage stores."""
    library = tmp_path_factory.mktemp("alone") / "library.db"
    assert run_vtag("scan", footage, "--model", model, *SCAN, "--db", library).returncode == 0
    return read_outcome(library)


def finish(process: WarmProcess) -> dict:
    stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert "locked" not in stderr and "in use" not in stderr
    return json.loads(stdout)


def test_two_scans_share_the_videos(
    footage: Path, model: Path, alone: Outcome, tmp_path: Path, times: Callable, record: Callable
) -> None:
    rounds, windows = times(1, 10), sum(row[5] for row in alone.rows["windows"])
    for number in range(rounds):
        library = tmp_path / str(number) / "library.db"
        arguments = ("scan", footage, "--model", model, *SCAN, "--db", library)
        both = [WarmProcess(*arguments) for _ in range(2)]
        done = [finish(process) for process in both]
        for one in done:
            assert one["scanned"] + one["by_another_scan"] + one["skipped"] == 8
        assert sum(one["windows"] for one in done) == windows  # no window was computed twice
        assert alone.differences(read_outcome(library)) == []
        assert not library.with_name("library.db.scans").exists()
    record(
        PART,
        "two scans of one folder",
        rounds,
        "each video scanned by one of them; the result as of one scan",
    )


def test_a_scan_takes_over_what_a_killed_one_had(
    footage: Path, model: Path, alone: Outcome, tmp_path: Path, times: Callable, record: Callable
) -> None:
    rounds = times(1, 20)
    for number in range(rounds):
        library = tmp_path / str(number) / "library.db"
        arguments = ("scan", footage, "--model", model, *SCAN, "--db", library)
        both = [WarmProcess(*arguments) for _ in range(2)]
        killed = stop_with_videos(both, library, stored=number % 4)
        both.remove(killed)
        killed.kill()
        killed.communicate()
        assert finish(both[0])["scanned"] > 0
        assert alone.differences(read_outcome(library)) == []
        assert integrity(library) == ["ok", "ok"]
    record(
        PART, "two scans, one of them killed", rounds, "the other scanned what was left, with the same result"
    )


def test_a_scan_says_who_holds_what_it_waits_for(
    footage: Path, model: Path, tmp_path: Path, times: Callable, record: Callable
) -> None:
    """The holder is stopped, as on a share that stalls; when it goes on, both end."""
    rounds = times(1, 10)
    for number in range(rounds):
        library = tmp_path / str(number) / "library.db"
        arguments = ("scan", footage, "--model", model, *SCAN, "--db", library)
        first = WarmProcess(*arguments)
        stop_with_videos([first], library, stored=number % 4)
        second = WarmProcess(*arguments)
        assert f"(process {first.pid})" in second.wait_for_message("another scan has under way")
        with closing(open_reader(library)) as reader:
            deadline = time.monotonic() + 300
            while str(first.pid) not in (waits := last_progress(reader)):
                assert time.monotonic() < deadline, waits
                time.sleep(0.1)
        first.send_signal(signal.SIGCONT)
        done = [finish(process) for process in (first, second)]
        # what the first had stored was skipped by the second, or taken over while it waited
        assert sum(one["scanned"] for one in done) == 8
    record(
        PART,
        "a scan whose videos a stopped process holds",
        rounds,
        "it named the process, waited, and went on with it",
    )


def last_progress(reader: sqlite3.Connection) -> str:
    (progress,) = reader.execute("SELECT progress FROM runs ORDER BY id DESC LIMIT 1").fetchone()
    return str(progress)


def test_forced_scans_share_too(footage: Path, model: Path, alone: Outcome, tmp_path: Path) -> None:
    library = tmp_path / "library.db"
    arguments = ("scan", footage, "--model", model, *SCAN, "--db", library)
    finish(WarmProcess(*arguments))
    both = [WarmProcess(*arguments, "--force") for _ in range(2)]
    done = [finish(process) for process in both]
    assert all(one["scanned"] + one["by_another_scan"] == 8 for one in done)
    assert alone.differences(read_outcome(library)) == []


def test_scan_clean_tags_and_readers_at_the_same_time(
    footage: Path, model: Path, alone: Outcome, tmp_path: Path, times: Callable, record: Callable
) -> None:
    rounds = times(1, 10)
    counts = {"tags": 0, "reads": 0}
    for number in range(rounds):
        library = tmp_path / str(number) / "library.db"
        scan = WarmProcess("scan", footage, "--model", model, *SCAN, "--db", library)
        wait_for_videos(library, 1)
        stop, errors = threading.Event(), []
        workers = [
            threading.Thread(target=repeat, args=(stop, errors, lambda path=library: read(path, counts)))
            for _ in range(10)
        ]
        workers += [
            threading.Thread(target=repeat, args=(stop, errors, lambda path=library: confirm(path, counts)))
            for _ in range(2)
        ]
        for worker in workers:
            worker.start()
        cleaned = run_vtag("clean", "--yes", "--db", library)
        retagged = run_vtag("retag", "--db", library)
        finish(scan)
        stop.set()
        for worker in workers:
            worker.join()
        assert errors == []
        assert (cleaned.returncode, retagged.returncode) == (0, 0), (cleaned.stderr, retagged.stderr)
        outcome = read_outcome(library)
        assert outcome.differences(alone) in ([], ["words", "segments"])
        assert integrity(library) == ["ok", "ok"]
        with LibraryWriter.open(library) as opened:
            said = len(annotation_log.list_annotations(opened.connection))
        assert said == len({row[:4] for row in outcome.rows["words"]}) > 0
    record(
        PART,
        "a scan, clean, retag, two people who confirm tags and ten readers",
        rounds,
        f"{counts['reads']:,} searches and {counts['tags']:,} tags; no lock was seen, no tag was lost",
    )


def repeat(stop: threading.Event, errors: list[BaseException], work: Callable[[], None]) -> None:
    while not stop.is_set():
        try:
            work()
        except BaseException as error:
            errors.append(error)
            return
        time.sleep(0.02)


def read(library: Path, counts: dict[str, int]) -> None:
    with closing(open_reader(library)) as reader:
        search(reader, 'archery OR "riding a bike" OR yoga', limit=100)
    counts["reads"] += 1


def confirm(library: Path, counts: dict[str, int]) -> None:
    """Confirm a moment as the page does, and hold that it is there."""
    with LibraryWriter.open(library) as opened:
        moments = search(opened.connection, 'archery OR "riding a bike" OR yoga', limit=3)
        for moment in moments:
            try:
                annotation_log.confirm(opened, [moment.id])
            except LibraryError as error:  # the scan or `retag` derived it again meanwhile
                if "there is no moment" not in str(error):
                    raise
            else:
                counts["tags"] += 1


def wait_for_videos(library: Path, count: int) -> None:
    """Wait until a scan has stored so many videos; opens the library as a person does, while it is made."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        if library.exists() and os.path.getsize(library):
            open_reader(library).close()
            if stored_videos(library) >= count:
                return
        time.sleep(0.05)
    raise AssertionError("the scan stored nothing")
