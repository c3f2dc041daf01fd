"""A folder that is watched: what is added is looked at once it rests; a share that goes away deletes nothing."""

from __future__ import annotations

import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.footage import make_video
from helpers.small_model import make_model

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import runs
from vtag.engine.scan import watch as engine_watch
from vtag.engine.scan.events import ScanEvent, ScanFinished, WatchStatus
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.engine.scan.watch import watch

PATIENCE_S = 120.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "tiny")


class Watched:
    """A watch in a thread of its own."""

    def __init__(self, path: Path, model: Path, folder: Path, *, poll: bool) -> None:
        self.events: queue.Queue[ScanEvent] = queue.Queue()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(path, model, folder, poll), daemon=True)
        self._thread.start()

    def _run(self, path: Path, model: Path, folder: Path, poll: bool) -> None:
        with LibraryWriter.open(path) as library:
            checkpoint = load_checkpoint(model)
            register_model(library, checkpoint, str(model))
            options = ScanOptions(threshold=0.05)
            events = watch(
                library, [os.fsencode(folder)], checkpoint, options, poll=poll, rest_s=1.0, poll_s=1.0
            )
            for event in events:
                self.events.put(event)
                if self._end.is_set():
                    events.close()

    def until(self, fits: Callable[[ScanEvent], bool]) -> ScanEvent:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            event = self.events.get(timeout=PATIENCE_S)
            if fits(event):
                return event
        raise AssertionError("it never came")

    def scanned(self) -> int:
        done = self.until(lambda event: isinstance(event, ScanFinished))
        assert isinstance(done, ScanFinished) and not done.failed
        return done.scanned


@pytest.mark.parametrize("poll", [False, True])
def test_what_is_added_is_looked_at_once_it_rests(tmp_path: Path, model: Path, poll: bool) -> None:
    folder = tmp_path / "v"
    folder.mkdir()
    make_video(tmp_path / "whole.mp4", seconds=1)
    shutil.copy(tmp_path / "whole.mp4", folder / "first.mp4")
    content = (tmp_path / "whole.mp4").read_bytes()
    watched = Watched(tmp_path / "home" / "library.db", model, folder, poll=poll)
    begun = watched.until(lambda event: isinstance(event, WatchStatus))
    assert isinstance(begun, WatchStatus) and begun.polling == poll
    assert watched.scanned() == 1
    make_video(tmp_path / "other.mp4", seconds=1, seed=4)
    content = (tmp_path / "other.mp4").read_bytes()
    longest_s, last_write = 0.0, time.monotonic()
    with (folder / "slow.mp4").open("wb") as file:  # it grows for longer than a file has to rest
        for quarter in range(4):
            file.write(content[len(content) * quarter // 4 : len(content) * (quarter + 1) // 4])
            file.flush()
            longest_s, last_write = max(longest_s, time.monotonic() - last_write), time.monotonic()
            time.sleep(0.5)
    if longest_s > 0.9:  # on a busy machine it rested, and may have been looked at in parts
        assert watched.until(lambda event: isinstance(event, ScanFinished) and event.scanned == 1)
        return
    assert watched.scanned() == 1  # one whole video: none that failed, none twice
    with LibraryWriter.open(tmp_path / "home" / "library.db") as library:
        assert library.connection.execute("SELECT count(*) FROM contents").fetchone() == (2,)
        assert len(runs.recent_runs(library.connection)) == 2  # walks that found nothing to do leave no trace


def test_a_share_that_goes_away_is_waited_for_and_nothing_is_deleted(tmp_path: Path, model: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    make_video(share / "a.mp4", seconds=1)
    watched = Watched(tmp_path / "home" / "library.db", model, share, poll=True)
    assert watched.scanned() == 1
    with LibraryWriter.open(tmp_path / "home" / "library.db") as library:
        annotation_log.add(library, 1, "grandma")
        share.rename(tmp_path / "offline")
        gone = watched.until(lambda event: isinstance(event, WatchStatus) and bool(event.absent))
        assert isinstance(gone, WatchStatus) and gone.present == ()
        time.sleep(2)
        assert library.connection.execute("SELECT state FROM files").fetchall() == [("present",)]
        make_video(tmp_path / "offline" / "b.mp4", seconds=1, seed=2)
        (tmp_path / "offline").rename(share)
        assert watched.scanned() == 1
        assert len(annotation_log.list_annotations(library.connection)) == 1


def test_a_share_that_is_away_for_a_moment_ends_no_watch(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share"
    share.mkdir()
    make_video(share / "a.mp4", seconds=1)

    def away(*arguments: Any) -> Iterator[ScanEvent]:
        monkeypatch.setattr(engine_watch, "scan", scan)
        share.rename(tmp_path / "offline")
        try:
            yield from scan(*arguments)
        finally:
            (tmp_path / "offline").rename(share)

    monkeypatch.setattr(engine_watch, "scan", away)
    assert Watched(tmp_path / "home" / "library.db", model, share, poll=True).scanned() == 1


@pytest.fixture
def process(tmp_path: Path, model: Path) -> Iterator[subprocess.Popen[str]]:
    (tmp_path / "v").mkdir()
    command = [sys.executable, "-m", "vtag.app", "scan", tmp_path / "v", "--watch", "--model", model]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield started
    started.kill()
    started.communicate()


def test_the_command_watches_until_it_is_interrupted(process: subprocess.Popen[str], tmp_path: Path) -> None:
    assert process.stderr is not None
    assert process.stderr.readline() == f"watching {tmp_path}/v; Ctrl-C ends it\n"
    make_video(tmp_path / "a.mp4", seconds=1).rename(tmp_path / "v" / "a.mp4")
    lines = []
    while not lines or " scanned (" not in lines[-1]:
        lines.append(process.stderr.readline())
        assert lines[-1], lines
    assert lines[-1].startswith("1 scanned")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130 and "what was finished is kept" in stderr and "Traceback" not in stderr
