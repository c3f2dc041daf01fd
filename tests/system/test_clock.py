"""The clock of speeds: a process that is stopped for a while is no slower for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.small_model import make_model
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.library.database import open_reader
from vtag.engine.library.store import runs
from vtag.engine.system.clock import ActiveClock

_CHILD = """
import sys, time
from vtag.engine.system.clock import ActiveClock
clock = ActiveClock(stopped_s=1)
clock.keep_reading(0.1)
worked, wall = clock.seconds(), time.monotonic()
print("ready", flush=True)
sys.stdin.readline()
print(time.monotonic() - wall - (clock.seconds() - worked))
"""


@given(st.lists(st.floats(0.001, 20), max_size=30))
def test_only_long_silence_is_left_out(gaps: list[float]) -> None:
    time_s = [100.0]
    clock = ActiveClock(lambda: time_s[0], stopped_s=5)
    begun = clock.seconds()
    for gap in gaps:
        time_s[0] += gap
        clock.seconds()
    assert clock.seconds() - begun == pytest.approx(sum(gap for gap in gaps if gap <= 5))


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_stopped_process_does_not_count_its_pause() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGSTOP)
    time.sleep(2)
    child.send_signal(signal.SIGCONT)
    out, _ = child.communicate("go\n", timeout=180)
    assert float(out) > 1.9  # of 2 s; a loaded machine may have kept it from its turn for longer


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_paused_scan_is_no_slower_for_it(tmp_path: Path, vtag_home: Path) -> None:
    """Neither in its row, which the page shows, nor in the sum, nor in the speed that estimates are made of."""
    (tmp_path / "clips").mkdir()
    for number in range(30):
        make_video(tmp_path / "clips" / f"{number}.mp4", seconds=120, fps=8, width=64, height=48, seed=number)
    command = [sys.executable, "-m", "vtag.app", "scan", str(tmp_path / "clips")]
    command += ["--model", str(make_model(tmp_path / "model"))]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def row() -> runs.Run | None:
        if not (vtag_home / "library.db").exists():
            return None
        with closing(open_reader(vtag_home / "library.db")) as reader:
            return next(iter(runs.recent_runs(reader, 1)), None)

    while not ((run := row()) and run.progress.get("video_ms")):
        assert child.poll() is None
        time.sleep(0.1)
    os.kill(child.pid, signal.SIGSTOP)
    time.sleep(20)
    os.kill(child.pid, signal.SIGCONT)
    _, stderr = child.communicate(timeout=280)
    assert child.returncode == 0, stderr
    run = row()
    assert run is not None
    passed = runs.estimate_run(run._replace(progress={**run.progress, "worked_s": None})).speed
    reported = runs.estimate_run(run).speed
    assert passed and reported
    worked_s, passed_s = (run.progress["video_ms"] / 1000 / speed for speed in (reported, passed))
    assert passed_s - worked_s > 19
