"""The benchmark for a card, as far as a processor runs it: all but the calls of CUDA."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from helpers.footage import make_video

from vtag.engine.video.read.convert import Converter
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import Orientation

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
CARD = BENCHMARKS / "card.py"


def run(*options: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CARD, *map(str, options)], capture_output=True, text=True)


def test_every_part_runs_tiny_on_a_processor(tmp_path: Path) -> None:
    done = run("--dry", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    reports = json.loads((tmp_path / "card.json").read_text())
    assert list(reports) == ["check", "a", "b", "c", "d", "e", "f", "g", "compile", "h"]
    for name, report in reports.items():
        assert report["status"] == "done" and not any(line.startswith("WRONG") for line in report["lines"])
        assert report["tables"] or name in ("check", "h"), name
        for table in report["tables"]:
            assert table["rows"] and all(table["head"][0] and row[0] for row in table["rows"])
    differences = [float(row[4]) for row in reports["a"]["tables"][0]["rows"]]
    assert max(differences) < 1e-5
    short, none = reports["f"]["tables"][0]["rows"]
    assert short[1].startswith("computed 1 at a time") and none[1].startswith("refused: the memory of cpu")
    (scan,) = reports["e"]["tables"][0]["rows"]
    assert int(scan[1]) > 0 and float(scan[3]) > 0


def test_a_part_is_killed_at_its_limit_and_that_is_reported(tmp_path: Path) -> None:
    done = run("--dry", "--children", "--part", "g", "--total", "1.2", "--out", tmp_path)
    assert done.returncode == 1
    report = json.loads((tmp_path / "card.json").read_text())["g"]
    assert report["status"] == "killed at its limit of 1 s"
    assert "killed at its limit of 1 s" in done.stdout


def test_the_limits_of_all_parts_fit_into_eight_minutes() -> None:
    rows = [line.split(" | ") for line in run("--list").stdout.splitlines() if line.startswith("| ")][1:]
    limits = {row[0].strip("| "): row[1] for row in rows}
    assert limits.pop("h") == "30 + --minutes"
    assert sum(map(int, limits.values())) <= 480


@pytest.mark.parametrize("colour", [{}, {"colorspace": 1}, {"colorspace": 1, "color_range": 2}])
def test_clips_made_of_a_cards_planes_look_like_the_processors(
    colour: dict[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planes are in the processor's memory here; on a card they come by the same protocol."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    picture_on_card = importlib.import_module("card_parts.card_frames").picture_on_card
    sampling = Sampling.create(8, 15.0, short_side=128, crop=112)
    video = make_video(tmp_path / "video.mp4", seconds=0.2, width=640, height=360, colour=colour)
    with av.open(str(video)) as container:
        frame = next(container.decode(video=0))
    actual = picture_on_card(frame.reformat(format="nv12"), sampling).numpy()
    expected = Converter(sampling, Orientation(), Fraction(1), (112, 112)).convert(frame)[0]
    assert np.abs(actual.astype(int) - expected).mean() < 0.5


def test_a_large_result_comes_back_in_pieces_that_make_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    split_file = importlib.import_module("card_parts.starter").split_file
    whole = tmp_path / "imitate.pt"
    whole.write_bytes(bytes(range(256)) * 10)
    (tmp_path / "out").mkdir()
    pieces = split_file(whole, tmp_path / "out", 1000)
    assert [piece.name for piece in pieces] == ["imitate.pt.00", "imitate.pt.01", "imitate.pt.02"]
    assert b"".join(piece.read_bytes() for piece in pieces) == whole.read_bytes()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA card here")
def test_without_a_card_it_says_so_and_measures_nothing() -> None:
    done = run("--part", "check,a")
    assert done.returncode == 1
    assert "finds no CUDA card: --dry tries all of this without one" in done.stdout
    assert "## a" not in done.stdout
