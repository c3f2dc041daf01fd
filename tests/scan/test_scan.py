"""The main job through the command line: scan, scan again, search, show, retag, forget."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import LABELS, LONG_SCAN_OPTIONS, make_long_videos, make_model

from vtag.engine.checkpoints.load import Checkpoint, save_model_folder
from vtag.engine.library.database import open_reader
from vtag.engine.models.registry import load_model

Run = Callable[..., subprocess.CompletedProcess[str]]
EVERYTHING = " OR ".join(f'"{label}"' for label in LABELS)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("footage")
    (folder / "deep").mkdir()
    make_video(folder / "long.mp4", seconds=6, seed=1)
    make_video(folder / "short.mkv", seconds=0.5, seed=2)
    make_video(folder / "deep" / "portrait.mov", seconds=2.6, width=90, height=160, seed=3)
    return folder


@pytest.fixture
def videos(footage: Path, tmp_path: Path) -> Path:
    shutil.copytree(footage, tmp_path / "videos")
    return tmp_path / "videos"


def summary(run: subprocess.CompletedProcess[str]) -> dict:
    assert run.returncode in (0, 3), run.stderr
    return json.loads(run.stdout)


def moments(vtag: Run, *arguments: str) -> list[dict]:
    run = vtag("search", EVERYTHING, "--json", "--limit", "1000", *arguments)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


def without_ids(rows: list[dict]) -> list[dict]:
    return sorted(({k: v for k, v in m.items() if k != "id"} for m in rows), key=str)


def test_a_folder_is_scanned_and_its_moments_are_found(vtag: Run, videos: Path, model: Path) -> None:
    first = vtag("scan", videos, "--model", model, "--threshold", "0.05", "--json")
    done = summary(first)
    assert (done["scanned"], done["skipped"], done["failed"]) == (3, 0, [])
    # 6 s: six windows of a second; 0.5 s: one; 2.6 s: two and one more at the true end
    assert done["windows"] == 10
    assert done["video_seconds"] == pytest.approx(9.1, abs=0.1)
    assert first.stderr.startswith("tiny on cpu with torch, ")  # fp32, or bf16 where the processor has it

    rows = moments(vtag)
    assert {Path(m["path"]).name for m in rows} == {"long.mp4", "short.mkv", "portrait.mov"}
    assert all(
        Path(m["path"]).is_absolute() and m["source"] == "model" and m["model"] == "tiny" for m in rows
    )
    assert [m["score"] for m in rows] == sorted((m["score"] for m in rows), reverse=True)
    durations_ms = {"long.mp4": 6000, "short.mkv": 500, "portrait.mov": 2600}
    assert all(0 <= m["start_ms"] < m["end_ms"] <= durations_ms[Path(m["path"]).name] + 40 for m in rows)
    assert {"id", "path", "label", "start_ms", "end_ms", "score", "model", "source", "sure"} == set(rows[0])


def test_without_a_model_a_new_library_takes_the_starter_and_keeps_it(
    vtag: Run, videos: Path, model: Path
) -> None:
    first = vtag("scan", videos / "long.mp4", "--json")
    assert summary(first)["scanned"] == 1
    assert "starter" in first.stderr
    second = vtag("scan", videos / "long.mp4", "--model", model, "--json")
    assert summary(second)["scanned"] == 1
    assert summary(vtag("scan", videos / "long.mp4", "--json"))["skipped"] == 1


def test_a_second_scan_opens_no_video_and_a_renamed_file_keeps_its_moments(
    vtag: Run, videos: Path, model: Path
) -> None:
    vtag("scan", videos, "--model", model, "--threshold", "0.05")
    rows_before = moments(vtag)
    again = summary(vtag("scan", videos, "--json"))
    assert (again["scanned"], again["skipped"], again["windows"]) == (0, 3, 0)
    (videos / "long.mp4").rename(videos / "deep" / "renamed.mp4")
    moved = summary(vtag("scan", videos, "--json"))
    assert (moved["scanned"], moved["skipped"]) == (0, 3)
    rows_after = moments(vtag)
    assert [m["id"] for m in rows_after] == [m["id"] for m in rows_before]
    assert {Path(m["path"]).name for m in rows_after} == {"renamed.mp4", "short.mkv", "portrait.mov"}


def test_retag_says_what_a_fresh_scan_says_without_any_video(
    vtag: Run, videos: Path, model: Path, tmp_path: Path
) -> None:
    other_model = make_model(
        tmp_path / "other", seed=0, labels=LABELS[::-1]
    )  # the same backbone, another head
    for name, chosen in (("a", model), ("b", other_model)):
        vtag("scan", videos, "--model", chosen, "--threshold", "0.2", "--db", tmp_path / f"{name}{name}/x.db")
    vtag("scan", videos, "--model", model, "--threshold", "0.9")
    hidden = videos.rename(tmp_path / "elsewhere")
    assert vtag("retag", "--threshold", "0.2").returncode == 0
    retagged = moments(vtag)
    assert vtag("retag", "--model", other_model, "--threshold", "0.2").returncode == 0
    with_other = moments(vtag, "--model", "other")
    hidden.rename(videos)
    assert without_ids(retagged) == without_ids(moments(vtag, "--db", str(tmp_path / "aa/x.db")))
    assert without_ids(with_other) == without_ids(moments(vtag, "--db", str(tmp_path / "bb/x.db")))
    assert retagged and with_other


def test_a_bad_file_costs_itself_alone_and_is_not_tried_again(vtag: Run, videos: Path, model: Path) -> None:
    (videos / "bad.mp4").write_bytes(b"\0" * 5000)
    first = vtag("scan", videos, "--model", model, "--json")
    assert first.returncode == 3
    done = summary(first)
    assert done["scanned"] == 3
    assert [Path(f["path"]).name for f in done["failed"]] == ["bad.mp4"]
    assert first.stderr.count("bad.mp4") == 1  # named as it fails, and not again at the end
    assert "Traceback" not in first.stderr
    again = vtag("scan", videos, "--json")
    assert again.returncode == 0
    assert summary(again)["known_failed"] == 1
    retried = vtag("scan", videos, "--retry-failed", "--json")
    assert retried.returncode == 3
    assert len(summary(retried)["failed"]) == 1


def test_a_file_replaced_under_its_name_is_looked_at_again(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos, "--model", model)
    make_video(videos / "long.mp4", seconds=3, seed=9)
    assert summary(vtag("scan", videos, "--json"))["scanned"] == 1


def test_observations_that_were_thrown_away_are_made_again(
    vtag: Run, videos: Path, model: Path, vtag_home: Path
) -> None:
    vtag("scan", videos, "--model", model, "--threshold", "0.05")
    rows_before = moments(vtag)
    for file in vtag_home.glob("observations.db*"):
        file.unlink()
    assert without_ids(moments(vtag)) == without_ids(rows_before)
    assert summary(vtag("scan", videos, "--json"))["scanned"] == 3
    assert without_ids(moments(vtag)) == without_ids(rows_before)


def test_a_dry_run_keeps_nothing(vtag: Run, videos: Path, model: Path) -> None:
    run = vtag("scan", videos, "--model", model, "--dry-run")
    assert run.returncode == 0
    assert "3 videos to look at" in run.stderr
    assert summary(vtag("scan", videos, "--model", model, "--json"))["scanned"] == 3


def test_forgetting_a_file_removes_its_moments(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos, "--model", model, "--threshold", "0.05")
    assert vtag("forget", videos / "long.mp4").returncode == 1  # nobody can be asked
    assert vtag("forget", videos / "long.mp4", "--yes").returncode == 0
    assert "long.mp4" not in {Path(m["path"]).name for m in moments(vtag)}
    assert summary(vtag("scan", videos, "--json"))["scanned"] == 1


def test_show_draws_one_videos_timeline(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos, "--model", model, "--threshold", "0.05")
    timeline = vtag("show", videos / "long.mp4")
    assert timeline.returncode == 0, timeline.stderr
    listed = json.loads(vtag("show", videos / "long.mp4", "--json").stdout)
    assert listed
    assert all(m["label"] in timeline.stdout for m in listed)
    unknown = vtag("show", videos / "nothing.mp4")
    assert unknown.returncode == 1
    assert "neither in the library nor on the disk" in unknown.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["scan"], 2, "Missing argument"),
        (["scan", "/nowhere/at/all"], 1, "/nowhere/at/all cannot be scanned"),
        (["models", "remove", "starter", "--yes"], 1, "comes with vtag and stays"),
        (["search", "archery"], 1, "no library"),
        (["retag"], 1, "no library"),
        (["predict", "x.mp4", "--model", "swin3d-t"], 1, "swin3d-t is not here"),
        (["predict", "x.mp4", "--model", "swin3d-tt"], 1, "did you mean"),
        (["models", "verify", "../../etc"], 1, "no model"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(vtag: Run, arguments: list[str], code: int, message: str) -> None:
    run = vtag(*arguments)
    assert run.returncode == code
    assert message in run.stderr
    assert "Traceback" not in run.stderr
    assert run.stdout == ""


def test_a_word_that_fits_no_label_names_the_nearest(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos / "short.mkv", "--model", model)
    run = vtag("search", "archry")
    assert run.returncode == 0
    assert run.stdout == ""
    assert "archery" in run.stderr


def test_ctrl_c_ends_a_scan_in_seconds_and_keeps_what_was_finished(
    vtag: Run, videos: Path, model: Path, vtag_home: Path
) -> None:
    make_long_videos(videos)
    vtag("scan", videos / "short.mkv", "--model", model, *LONG_SCAN_OPTIONS)
    command = [sys.executable, "-m", "vtag.app", "scan", str(videos), "--json", *LONG_SCAN_OPTIONS]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_videos(vtag_home, 2)  # the first of this scan is in the library
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=180)
    assert process.returncode == 130, stderr
    assert stdout == "" and "Traceback" not in stderr
    assert "goes on from there" in stderr.splitlines()[-1]
    remaining = vtag("scan", videos, "--dry-run", "--json", *LONG_SCAN_OPTIONS).stdout
    assert 2 <= json.loads(remaining)["skipped"] < 7


def wait_for_videos(home: Path, count: int) -> None:
    deadline = time.monotonic() + 180
    stored = 0
    while stored < count:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        with closing(open_reader(home / "library.db")) as reader:
            stored = reader.execute("SELECT count(*) FROM derivations").fetchone()[0]


def test_features_that_are_no_numbers_cost_no_other_model_the_video(
    vtag: Run, videos: Path, model: Path, tmp_path: Path
) -> None:
    """Such a model is sound as a file; its answers are not."""
    checkpoint = load_model(model)
    huge = {"norm.weight": np.full_like(checkpoint.tensors["norm.weight"], 3e38)}
    save_model_folder(Checkpoint(checkpoint.spec, {**checkpoint.tensors, **huge}), tmp_path / "wild")
    run = vtag("scan", videos / "short.mkv", "--model", tmp_path / "wild", "--json")
    assert run.returncode == 3, run.stderr
    assert {f["error"] for f in summary(run)["failed"]} == {
        "the model gave features that are no numbers: try another precision, or another model"
    }
    assert summary(vtag("scan", videos / "short.mkv", "--model", model, "--json"))["scanned"] == 1


def test_retag_goes_back_to_the_models_own_threshold(vtag: Run, videos: Path, model: Path) -> None:
    silent = vtag("scan", videos / "long.mp4", "--model", model, "--threshold", "1")
    assert "0 moments" in silent.stderr and "less sure" in silent.stderr
    assert not any(m["sure"] for m in moments(vtag))
    vtag("scan", videos / "long.mp4", "--model", model, "--threshold", "auto")
    default_rows = without_ids(moments(vtag))
    assert default_rows
    assert vtag("retag", "--threshold", "0").returncode == 0
    assert without_ids(moments(vtag)) != default_rows
    assert vtag("retag", "--threshold", "auto").returncode == 0
    assert without_ids(moments(vtag)) == default_rows
    for wrong in ("high", "nan"):
        run = vtag("retag", "--threshold", wrong)
        assert (run.returncode, "--threshold" in run.stderr) == (2, True)


def test_reading_commands_import_nothing_heavy(vtag: Run, videos: Path, model: Path) -> None:
    vtag("scan", videos / "short.mkv", "--model", model)
    code = (
        "import sys; sys.argv = ['vtag', *{}]\n"
        "from vtag.app.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {{'torch', 'av', 'gradio', 'onnxruntime', 'sqlite_utils', 'numpy'}} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    for arguments in (["--help"], ["search", "archery"], ["labels"], ["show", str(videos / "short.mkv")]):
        run = subprocess.run([sys.executable, "-c", code.format(arguments)], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr


@pytest.mark.slow  # 220 windows: minutes on two cores
@pytest.mark.timeout(900)
def test_real_clips_are_scanned_to_the_end(vtag: Run, shared: Path) -> None:
    done = summary(
        vtag(
            "scan", shared / "clips", "--model", shared / "golden/torchvision_mini.pth", "--json", timeout=280
        )
    )
    assert (done["scanned"], done["failed"]) == (58, [])
    again = summary(vtag("scan", shared / "clips", "--json"))
    assert (again["scanned"], again["skipped"], again["windows"]) == (0, 58, 0)


def test_names_that_are_no_text_are_scanned_found_and_shown(vtag: Run, videos: Path, model: Path) -> None:
    odd = os.fsencode(videos) + b"/na\xefve \x1b[31m\n.mp4"
    try:
        shutil.copy(os.fsencode(videos / "long.mp4"), odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    run = vtag("scan", odd.decode("utf-8", "surrogateescape"), "--model", model, "--threshold", "0.05")
    assert run.returncode == 0, run.stderr
    listed = vtag("search", EVERYTHING)
    assert "\x1b" not in listed.stdout
    assert "\\x1b[31m\\n.mp4" in listed.stdout
