"""How much memory a scan takes does not depend on how much there is to scan. The long form alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Memory"
TOLERANCE = 1.10
MEASURED = """
import json, resource, sys
from vtag.app.cli import main
try:
    main()
except SystemExit as done:
    assert done.code in (0, None), done.code
peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
print(json.dumps(peaks), file=sys.stderr)
"""


def peaks_kb(*arguments: str | Path) -> tuple[int, int]:
    """The peak memory (kB) of a command and of the largest of its processes."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    own, children = json.loads(ran.stderr.splitlines()[-1])
    return own, children


@pytest.mark.usefixtures("only_long")
def test_an_hour_of_4k_takes_what_a_minute_takes(model: Path, tmp_path: Path, record: Callable) -> None:
    rng = np.random.default_rng(0)
    pictures = [
        rng.integers(0, 255, (68, 120, 3), np.uint8).repeat(32, 0)[:2160].repeat(32, 1) for _ in range(4)
    ]
    for name, seconds in (("minute", 60), ("hour", 3600)):
        (tmp_path / name).mkdir()
        make_video(
            tmp_path / name / "a.mp4",
            times=[5.0 * i for i in range(seconds // 5)],
            width=3840,
            height=2160,
            draw=lambda i: pictures[i % 4],
        )
    taken = {
        name: peaks_kb("scan", tmp_path / name, "--model", model, "--db", tmp_path / f"{name}.db")
        for name in ("minute", "hour")
    }
    for minute, hour in zip(taken["minute"], taken["hour"], strict=True):
        assert hour < TOLERANCE * minute, taken
    happened = ", ".join(
        f"{name}: {own // 1024} MB and {child // 1024} MB" for name, (own, child) in taken.items()
    )
    record(PART, "an hour and a minute of 4K: peaks of the scan and of its largest decoder", 2, happened)


@pytest.mark.usefixtures("only_long")
def test_many_files_take_what_few_take(model: Path, tmp_path: Path, record: Callable) -> None:
    """Files that are known to be no videos; a row each."""
    taken = {}
    for count in (1_000, 100_000):
        folder = tmp_path / str(count)
        for number in range(count):
            place = folder / f"{number // 1000}"
            if number % 1000 == 0:
                place.mkdir(parents=True)
            os.link(_seed(tmp_path, number // 60_000), place / f"{number}.mp4")
        library = tmp_path / f"{count}.db"
        subprocess.run(
            [sys.executable, "-m", "vtag.app", "scan", folder, "--model", model, "--db", library], check=True
        )
        taken[count] = peaks_kb("scan", folder, "--model", model, "--db", library)
    extra_mb = (taken[100_000][0] - taken[1_000][0]) / 1024
    assert extra_mb < 200, taken
    happened = f"{taken[1_000][0] // 1024} MB and {taken[100_000][0] // 1024} MB"
    record(PART, "a scan of 1,000 and of 100,000 known files: peaks", 2, happened)


def _seed(folder: Path, number: int) -> Path:
    """A video; a file has no more than 65,000 names."""
    path = folder / f"seed{number}.mp4"
    return path if path.exists() else make_video(path, seconds=1, fps=4, width=64, height=48, seed=number)
