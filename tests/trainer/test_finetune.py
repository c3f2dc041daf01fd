"""Tags from a person's clips: what is learned is found, all else stays silent, nothing is half-written."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.small_model import make_model
from helpers.striped_clips import make_clips
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import ModelError
from vtag.engine.models.registry import load_model
from vtag.trainer.evaluation.calibrate import calibrate_threshold
from vtag.trainer.heads.linear_head import fit_head

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    make_model(folder / "base", seed=3)
    make_clips(folder / "labelled" / "red_stripes", "red", 4)
    make_clips(folder / "labelled" / "green stripes", "green", 4)
    make_clips(folder / "library", "noise", 6, seconds=20)
    make_clips(
        folder / "library", "red", 1, first=50, seconds=1
    )  # nobody knows of it: a negative that is none
    return folder


@pytest.fixture
def scanned(vtag: Run, material: Path) -> Run:
    """The command line over a library of noise and a few red stripes, seen with the base's backbone."""
    assert vtag("scan", material / "library", "--model", material / "base").returncode == 0
    return vtag


def test_what_was_taught_is_found_in_what_was_scanned(scanned: Run, material: Path, vtag_home: Path) -> None:
    run = scanned("finetune", material / "labelled", "--json", "--preview")
    assert run.returncode == 0, run.stderr
    document = json.loads(run.stdout)
    assert set(document["labels"]) == {"red stripes", "green stripes"}
    assert document["accuracy"] == 1.0
    assert document["false_per_hour"] is not None
    assert {Path(row["path"]).name for row in document["preview"]} == {"red50.mp4"}
    for video in (material / "library").iterdir():  # no video is opened from here on
        video.rename(video.with_suffix(".gone"))
    try:
        run = scanned("retag", "--model", "labelled")
        assert run.returncode == 0, run.stderr
        moments = json.loads(scanned("search", "stripes", "--json", "--sure", "--model", "labelled").stdout)
        assert {Path(moment["path"]).name for moment in moments} == {"red50.mp4"}
        assert {moment["label"] for moment in moments} == {"red stripes"}
        assert scanned("search", "none of these", "--json").stdout.strip() in ("[]", "")
    finally:
        for video in (material / "library").iterdir():
            video.rename(video.with_suffix(".mp4"))
    listed = scanned("models", "list")
    assert "labelled" in listed.stdout
    assert scanned("models", "verify", "labelled").returncode == 0
    rescan = scanned("scan", material / "library", "--model", "labelled", "--json")
    assert json.loads(rescan.stdout)["scanned"] == 0  # the backbone is the same
    weights = vtag_home / "models" / "labelled" / "model.safetensors"
    assert weights.stat().st_size < 4096  # the head alone


def test_the_clips_are_decoded_once_in_their_life(scanned: Run, material: Path) -> None:
    first = scanned("finetune", material / "labelled", "--json")
    second = scanned("finetune", material / "labelled", "--json", "--false-per-hour", "10")
    assert "8 videos to look at" in first.stderr
    assert "0 videos to look at" in second.stderr
    again = scanned("finetune", material / "labelled", "--json", "--false-per-hour", "10")
    assert json.loads(again.stdout) == json.loads(second.stdout)


def test_one_label_is_enough_and_is_humble_without_other_footage(
    scanned: Run, vtag: Run, material: Path, tmp_path: Path
) -> None:
    make_clips(tmp_path / "one" / "red", "red", 3, first=80)
    assert scanned("finetune", tmp_path / "one", "-o", tmp_path / "model").returncode == 0
    alone = vtag(
        *("finetune", tmp_path / "one", "--base", material / "base", "-o", tmp_path / "alone"),
        *("--json", "--db", tmp_path / "new" / "library.db"),
    )
    assert alone.returncode == 0
    taught = json.loads(alone.stdout)
    assert "holds no other footage" in taught["remarks"][0]
    assert taught["labels"]["red"]["threshold"] >= 0.5


def test_what_is_wrong_with_clips_is_said_and_the_rest_goes_on(
    vtag: Run, material: Path, tmp_path: Path
) -> None:
    make_clips(tmp_path / "data" / "red", "red", 2)
    make_clips(tmp_path / "data" / "green", "green", 1)
    (tmp_path / "data" / "green" / "broken.mp4").write_bytes(b"no video")
    (tmp_path / "data" / "blue").mkdir()
    (tmp_path / "data" / "blue" / "broken.mkv").write_bytes(b"no video either")
    run = vtag("finetune", tmp_path / "data", "--base", material / "base", "-o", tmp_path / "model")
    assert run.returncode == 0, run.stderr
    assert "broken.mp4" in run.stderr and "broken.mkv" in run.stderr
    assert "no clip of blue could be read" in run.stderr
    assert "green: clips of one source alone" in run.stderr
    assert load_model(tmp_path / "model").spec.labels == ("green", "red", "none of these")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder"),
        (["empty"], "holds no folders"),
        (["labelled", "--base", "nothing-like-it"], "no model"),
        (["labelled", "--base", "base/model.json"], "model.json"),
    ],
)
def test_wrong_arguments_are_one_line(
    vtag: Run, material: Path, arguments: list[str], message: str, tmp_path: Path
) -> None:
    (material / "empty").mkdir(exist_ok=True)
    resolved = [str(material / a) if (material / a).exists() or a == "nowhere" else a for a in arguments]
    run = vtag("finetune", *resolved, "-o", tmp_path / "model")
    assert run.returncode == 1
    assert message in run.stderr.splitlines()[-1]
    assert "Traceback" not in run.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.skipif(os.geteuid() == 0 and not os.path.exists("/proc"), reason="needs a place that refuses")
def test_an_output_that_cannot_be_written_is_one_line(vtag: Run, material: Path) -> None:
    run = vtag("finetune", material / "labelled", "--base", material / "base", "-o", "/proc/model")
    assert run.returncode == 1
    assert "/proc/model" in run.stderr.splitlines()[-1]


def test_a_head_needs_its_own_backbone(vtag: Run, material: Path, tmp_path: Path) -> None:
    base = make_model(tmp_path / "base", seed=5)
    run = vtag("finetune", material / "labelled", "--base", base, "-o", tmp_path / "model")
    assert run.returncode == 0, run.stderr
    make_model(base, seed=6)
    with pytest.raises(ModelError, match="another"):
        load_model(tmp_path / "model")
    for file in base.iterdir():
        file.unlink()
    base.rmdir()
    with pytest.raises(ModelError, match="stands on the backbone of another model"):
        load_model(tmp_path / "model")


def test_a_head_learns_what_is_separable_and_admits_what_is_not() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    apart = rng.normal(size=(120, 16)).astype(np.float32)
    apart[np.arange(120), labels] += 6
    fold = np.arange(120) % 5
    good = fit_head(apart, labels, fold, 3, background=2)
    assert (good.held_out_scores.argmax(1) == labels).mean() > 0.97
    assert ((apart @ good.weight.T + good.bias).argmax(1) == labels).mean() > 0.97
    noise = fit_head(rng.normal(size=(120, 16)).astype(np.float32), labels, fold, 3)
    assert (noise.held_out_scores.argmax(1) == labels).mean() < 0.5
    assert noise.held_out_scores.max() < 0.95


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 3), st.floats(1, 30))
def test_a_threshold_lets_about_as_much_through_as_was_asked(
    seed: int, spread: float, per_hour: float
) -> None:
    """Scores whose log-odds have an exponential tail, 10 hours to calibrate, 2000 to look."""
    rng = np.random.default_rng(seed)

    def scores(hours: int) -> np.ndarray:
        return 1 / (1 + np.exp(4 - rng.exponential(spread, hours * 1000)))

    limit = calibrate_threshold(scores(10), 10, per_hour)
    passed = (scores(2000) >= limit).sum() / 2000
    if 0.06 < limit < 0.99:
        assert per_hour / 4 < passed < per_hour * 4
