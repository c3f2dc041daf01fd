"""What helps when something went wrong: a log that programs read, and a bundle without a person's paths."""

from __future__ import annotations

import json
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.small_model import make_model
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.bug_report import HIDDEN, hide_paths

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_a_log_has_the_run_and_a_bundle_has_no_paths(vtag: Run, tmp_path: Path, vtag_home: Path) -> None:
    videos = tmp_path / "Grandma's 80th: party"
    videos.mkdir()
    make_video(videos / "cake, candles.mp4", seconds=1, fps=4, width=64, height=48)
    (videos / "broken: film.mp4").write_bytes(b"no video")
    log = tmp_path / "vtag.log"
    model = make_model(tmp_path / "model")
    ran = vtag("scan", videos, "--model", model, "--log-file", log, "--json")
    assert ran.returncode == 3 and json.loads(ran.stdout)["scanned"] == 1
    assert vtag(f"--log-file={log}", "search", "(", "--json").returncode == 1
    assert vtag(f"--log-file={log}", "search", "Ann's secret", "--model=hers").returncode == 1
    assert vtag(f"--log-file={log}", "search", "Ann's secret").returncode == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    runs = list(dict.fromkeys(line["run"] for line in lines))
    assert len(runs) == 4
    first, second, *_ = ([line for line in lines if line["run"] == run] for run in runs)
    assert [first[0]["kind"], first[-1]["kind"], first[-1]["code"]] == ["begin", "end", 3]
    assert first[0]["arguments"][0] == "scan" and "--log-file" not in first[0]["arguments"]
    (scanned,) = (line for line in first if line["kind"] == "VideoScanned")
    assert scanned["path"] == str(videos / "cake, candles.mp4") and scanned["windows"] == 1
    assert any(line["kind"] == "VideoScanFailed" for line in first)
    assert {line["text"] for line in first if line["kind"] == "message"} == set(ran.stderr.splitlines())
    assert second[-1]["code"] == 1

    (vtag_home / "job.log").write_text(f"failed: {videos}/broken: film.mp4: not a video\n")
    bundle = tmp_path / "report.zip"
    assert vtag("doctor", "--bundle", bundle, "--log-file", log).returncode in (0, 1)
    with zipfile.ZipFile(bundle) as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(texts) == {"system.json", "checks.json", "library.json", "logs/job.log", "logs/vtag.log"}
    for name, text in texts.items():
        for secret in ("Grandma", "cake", "film", str(tmp_path), str(vtag_home), "archery", "secret", "hers"):
            assert secret not in text, (name, secret)
    assert texts["logs/job.log"] == "failed: [path]\n"
    lines = [json.loads(line) for line in texts["logs/vtag.log"].splitlines()]
    begun = [line["arguments"] for line in lines if line["kind"] == "begin"]
    assert begun[:3] == [
        ["scan", "[text]", "--model", "[text]", "--json"],
        ["search", "[text]", "--json"],
        ["search", "[text]", "--model"],
    ]
    library = json.loads(texts["library.json"])
    assert library["rows"]["contents"] == 2 and library["is_current"]
    again = vtag("doctor", "--bundle", bundle)
    assert again.returncode == 1 and "exists already" in again.stderr
    assert vtag("doctor", "--bundle", tmp_path / "full.zip", "--with-paths").returncode in (0, 1)
    with zipfile.ZipFile(tmp_path / "full.zip") as archive:
        assert "Grandma" in archive.read("logs/job.log").decode()


def test_a_log_that_cannot_be_written_is_an_error(vtag: Run, tmp_path: Path) -> None:
    ran = vtag("search", "x", "--log-file", tmp_path / "none" / "vtag.log")
    assert ran.returncode == 1 and "cannot be written" in ran.stderr and len(ran.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "path", ["/home/ann/My films/a: b.mp4", "C:\\Users\\Ann\\a.mp4", "~/x y/z", "../ann"]
)
@given(
    before=st.sampled_from(["", "failed: ", "note: (", "'"]), reason=st.sampled_from(["", ": not a video"])
)
def test_no_part_of_a_path_is_left(path: str, before: str, reason: str) -> None:
    text = hide_paths(f"{before}{path}{reason}")
    assert not any(word in text for word in ("ann", "Ann", "films", "mp4", "z", "x y"))
    assert text == f"{before}{HIDDEN}"
