"""`vtag search`, `show`, `labels` and `forget` as a user types them."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.library_factory import add_model, add_video, fill_library

from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def videos(vtag_home: Path, tmp_path: Path) -> Path:
    """Three tagged videos in the library at home."""
    with LibraryWriter.open(vtag_home / "library.db") as library:
        fill_library(library, tmp_path / "v", 3, threshold=0.3)
    return tmp_path / "v"


def ran(run: subprocess.CompletedProcess[str], code: int = 0) -> subprocess.CompletedProcess[str]:
    assert run.returncode == code, run.stderr
    assert "Traceback" not in run.stderr
    return run


def test_a_moment_is_shown_with_score_time_label_and_path(vtag: Run, videos: Path) -> None:
    lines = ran(vtag("search", "yoga")).stdout.splitlines()
    listed = json.loads(ran(vtag("search", "yoga", "--json")).stdout)
    assert len(lines) == len(listed) > 0
    first = listed[0]
    number, line = lines[0].split(maxsplit=1)
    assert int(number) == first["id"]
    assert line.startswith(f"{first['score']:.2f}  0:00:0{first['start_ms'] // 1000}-0:00:0")
    assert lines[0].endswith(first["path"])
    assert Path(first["path"]).parent == videos


def test_a_minus_is_a_part_of_the_query(vtag: Run, videos: Path) -> None:
    assert ran(vtag("search", "bike")).stdout
    assert not ran(vtag("search", "bike", "-riding")).stdout
    assert ran(vtag("search", "bike", "-horse")).stdout == ran(vtag("search", "bike")).stdout
    assert ran(vtag("search", "bike", "-horse", "--limit", "1")).stdout.count("\n") == 1
    assert "needs a word" in ran(vtag("search", "-bike"), 1).stderr


def test_a_misspelled_option_is_no_word_of_the_query(vtag: Run, videos: Path) -> None:
    assert "--limt" in ran(vtag("search", "bike", "--limt", "5"), 2).stderr


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_is_help(vtag: Run, asked: str) -> None:
    assert "--min-score" in ran(vtag("search", asked)).stdout


def test_a_query_that_is_no_text_is_answered(vtag: Run, videos: Path) -> None:
    command = [sys.executable, "-m", "vtag.app", "search", b"yo\xff\xfega"]
    run = subprocess.run(command, capture_output=True)
    assert run.returncode == 0, run.stderr
    assert b"no label fits" in run.stderr and b"Traceback" not in run.stderr


def test_nothing_found_is_no_error_and_says_why(vtag: Run, videos: Path, vtag_home: Path) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        add_model(library, seed=1, name="unused")
    unknown = ran(vtag("search", "archry"))
    assert (unknown.stdout, unknown.stderr) == ("", "vtag: no label fits 'archry'; near to it: archery\n")
    none = ran(vtag("search", "yoga", "--model", "unused", "--json"))
    assert json.loads(none.stdout) == [] and "nothing was found for 'yoga'" in none.stderr


def test_a_path_that_is_no_text_is_shown_escaped_and_told_exactly(
    vtag: Run, vtag_home: Path, tmp_path: Path
) -> None:
    path = os.fsencode(tmp_path) + b"/na\xefve\n\xff.mp4"
    try:
        Path(os.fsdecode(path)).touch()
    except OSError:
        pytest.skip("this file system takes text alone")
    with LibraryWriter.open(vtag_home / "library.db") as library:
        model_id = add_model(library)
        add_video(library, Path(os.fsdecode(path)))
        heads.set_model_threshold(library, model_id, 0.1)
        list(derive.retag(library, model_id))
    listed = json.loads(ran(vtag("search", "yoga", "--json")).stdout)
    assert {base64.b64decode(m["path_bytes"]) for m in listed} == {path}
    assert all(m["path"].endswith("na\ufffdve\n\ufffd.mp4") for m in listed)
    assert ran(vtag("search", "yoga")).stdout.splitlines()[0].endswith(r"na\xefve\n\xff.mp4")
    shown = subprocess.run([sys.executable, "-m", "vtag.app", "show", path, "--json"], capture_output=True)
    assert len(json.loads(shown.stdout)) >= len(listed)


def test_a_file_that_is_not_there_now_is_marked(vtag: Run, videos: Path) -> None:
    for file in videos.iterdir():
        file.unlink()
    assert all(line.endswith("(not there now)") for line in ran(vtag("search", "yoga")).stdout.splitlines())


@pytest.mark.parametrize("columns", ["60", "100"])
def test_a_timeline_fits_the_terminal(vtag: Run, videos: Path, columns: str) -> None:
    drawn = ran(vtag("show", videos / "0.mp4", env={**os.environ, "COLUMNS": columns})).stdout.splitlines()
    assert len(drawn) > 1
    assert {len(line) for line in drawn[1:]} == {int(columns)}
    assert drawn[0].endswith("0:00:08")
    assert all("█" in line for line in drawn[1:])


def test_a_timeline_is_drawn_where_only_ascii_is_written(vtag: Run, videos: Path) -> None:
    drawn = ran(vtag("show", videos / "0.mp4", env={**os.environ, "PYTHONIOENCODING": "ascii"})).stdout
    assert "#" in drawn and drawn.isascii()


def test_a_file_that_was_moved_since_the_scan_is_shown(vtag: Run, videos: Path) -> None:
    before = json.loads(ran(vtag("show", videos / "1.mp4", "--json")).stdout)
    moved = (videos / "1.mp4").rename(videos / "renamed.mp4")
    after = json.loads(ran(vtag("show", moved, "--json")).stdout)
    assert before and {m["path"] for m in after} == {str(moved)}
    assert [m["id"] for m in after] == [m["id"] for m in before]


def test_labels_are_listed_with_how_often_they_were_seen(vtag: Run, videos: Path) -> None:
    listed = json.loads(ran(vtag("labels", "--json")).stdout)
    assert {row["label"] for row in listed} == {"archery", "riding a bike", "yoga"}
    for row in listed:
        found = json.loads(
            ran(vtag("search", f'"{row["label"]}"', "--json", "--sure", "--limit", "999")).stdout
        )
        assert len(found) == row["moments"]
    assert [row["label"] for row in json.loads(ran(vtag("labels", "rid", "--json")).stdout)] == [
        "riding a bike"
    ]
    assert "no label" in ran(vtag("labels", "xyzzy")).stderr


def test_forgetting_asks_and_never_takes_a_word_with_it_untold(
    vtag: Run, videos: Path, vtag_home: Path
) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        library.connection.execute(
            "INSERT INTO words (content_id, label, verdict, said_at) VALUES (1, 'yoga', 'added', '')"
        )
    assert "--words" in ran(vtag("forget", videos, "--yes"), 1).stderr
    assert "say --yes" in ran(vtag("forget", videos, "--words"), 1).stderr
    assert "forgot 3 files" in ran(vtag("forget", videos, "--yes", "--words")).stderr
    assert json.loads(ran(vtag("search", "yoga", "--json")).stdout) == []
    assert "nothing is known" in ran(vtag("forget", videos, "--yes"), 1).stderr


@pytest.mark.parametrize("sort", ["score", "date", "length"])
def test_each_order_holds_and_shows_the_same_moments(vtag: Run, videos: Path, sort: str) -> None:
    for age, file in enumerate(sorted(videos.iterdir())):
        os.utime(file, (10**9 + age, 10**9 + age))
    with LibraryWriter.open(Path(os.environ["VTAG_HOME"]) / "library.db") as library:
        library.connection.execute("UPDATE files SET mtime_ns = id * 1000000000")
    every = json.loads(ran(vtag("search", "yoga OR bike", "--limit", "999", "--json")).stdout)
    found = json.loads(ran(vtag("search", "yoga OR bike", "--limit", "999", "--json", "--sort", sort)).stdout)
    keys = {
        "score": [-m["score"] for m in found],
        "date": [(-int(Path(m["path"]).stem), m["start_ms"]) for m in found],
        "length": [m["start_ms"] - m["end_ms"] for m in found],
    }
    assert keys[sort] == sorted(keys[sort])
    assert sorted(m["id"] for m in found) == sorted(m["id"] for m in every)


def test_grouped_by_video_each_video_is_there_once_with_its_moments(vtag: Run, videos: Path) -> None:
    flat = json.loads(ran(vtag("search", "yoga", "--limit", "999", "--json")).stdout)
    grouped = json.loads(ran(vtag("search", "yoga", "--group", "video", "--json")).stdout)
    assert [video["path"] for video in grouped] == list(dict.fromkeys(m["path"] for m in flat))
    assert sorted(m["id"] for video in grouped for m in video["moments"]) == sorted(m["id"] for m in flat)
    lines = ran(vtag("search", "yoga", "--group", "video", "--limit", "2")).stdout.splitlines()
    assert [line.split()[1] for line in lines if not line.startswith(" ")] == [v["path"] for v in grouped[:2]]


def test_a_table_and_paths_are_for_programs(vtag: Run, videos: Path) -> None:
    listed = json.loads(ran(vtag("search", "yoga", "--json")).stdout)
    table = list(csv.DictReader(io.StringIO(ran(vtag("search", "yoga", "--csv")).stdout)))
    assert [(int(r["id"]), r["path"], float(r["score"])) for r in table] == [
        (m["id"], m["path"], m["score"]) for m in listed
    ]
    once = list(dict.fromkeys(m["path"] for m in listed))
    assert ran(vtag("search", "yoga", "--paths-only")).stdout.splitlines() == once
    assert ran(vtag("search", "yoga", "--print0")).stdout.split("\0") == [*once, ""]
    assert "one of" in ran(vtag("search", "yoga", "--print0", "--json"), 2).stderr


def test_every_command_says_which_labels_an_everyday_phrase_means(vtag: Run, videos: Path) -> None:
    line = 'bow and arrow: searched as "archery"'
    for command in (
        ["search"],
        ["stats"],
        ["export", "--format", "json"],
        ["cut", "--dry-run", "-o", videos / "out"],
    ):
        assert line in ran(vtag(*command, "bow and arrow")).stderr
    assert (
        ran(vtag("search", "bow and arrow", "--json")).stdout
        == ran(vtag("search", "archery", "--json")).stdout
    )
    assert "'slam dunk' means dunking basketball" in ran(vtag("search", "slam dunk")).stderr


def test_a_mistake_is_pointed_at(vtag: Run, videos: Path) -> None:
    assert (
        ran(vtag("search", "yoga AND"), 1).stderr
        == "vtag: the query at column 6: 'AND' has nothing behind it\n"
    )
    assert "no label fits 'archry'; near to it: archery" in ran(vtag("search", "yoga AND archry")).stderr


@pytest.mark.parametrize("name", ["mpv", "vlc"])
def test_the_player_gets_an_argument_list_at_the_moment(
    vtag: Run, videos: Path, tmp_path: Path, name: str
) -> None:
    odd = videos / "-x; touch oops #1.mp4"
    with LibraryWriter.open(Path(os.environ["VTAG_HOME"]) / "library.db") as library:
        add_video(library, odd, seed=9)
        list(derive.retag(library, 1))
    player = tmp_path / "bin" / name
    player.parent.mkdir()
    player.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/part && /bin/mv {tmp_path}/part {tmp_path}/told\n'
    )
    player.chmod(0o755)
    environment = {**os.environ, "PATH": str(player.parent)}  # without the machine's own players
    first = json.loads(ran(vtag("search", "yoga path:oops", "--json", "--open", env=environment)).stdout)[0]
    deadline = time.monotonic() + 120
    while not (tmp_path / "told").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    option, *rest = (tmp_path / "told").read_text().splitlines()
    seconds = float(option.split("=")[1])
    assert seconds == first["start_ms"] / 1000
    assert rest == (["--", str(odd)] if name == "mpv" else [odd.as_uri()])


def test_without_a_player_it_is_said(vtag: Run, videos: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    assert "neither mpv nor vlc" in ran(vtag("search", "yoga", "--open", env=environment), 1).stderr


@pytest.mark.parametrize(
    "command", [["search", "yoga", "--limit"], ["stats", "--top"], ["tag", "log", "--limit"]]
)
def test_a_limit_above_every_number_leaves_all(vtag: Run, videos: Path, command: list[str]) -> None:
    ran(vtag(*command, "99999999999999999999"))


def test_labels_are_drawn_over_time(vtag: Run, videos: Path, vtag_home: Path) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        for content, recorded in ((1, "2012-03-01"), (2, "2012-09-01T10:00:00Z"), (3, "2020-01-01")):
            library.connection.execute(
                "UPDATE contents SET recorded_at = ? WHERE id = ?", (recorded, content)
            )
    found = json.loads(ran(vtag("stats", "--json")).stdout)
    assert found["periods"] == [str(year) for year in range(2012, 2021)] and found["undated"] == 0
    counted = {row["label"]: row["moments"] for row in json.loads(ran(vtag("labels", "--json")).stdout)}
    assert {row["label"]: row["moments"] for row in found["labels"]} == {
        k: n for k, n in counted.items() if n
    }
    for row in found["labels"]:
        per_video = [
            len(
                json.loads(
                    ran(vtag("search", f'label:"{row["label"]}"', f"path:{i}.mp4", "--json", "--sure")).stdout
                )
            )
            for i in range(3)
        ]
        assert row["counts"] == [per_video[0] + per_video[1], *[0] * 7, per_video[2]]
        break
    drawn = ran(vtag("stats", env={**os.environ, "COLUMNS": "80"})).stdout.splitlines()
    assert len(drawn) == len(found["labels"]) + 1
    assert drawn[-1].split() == ["2012", "2020"] and max(map(len, drawn)) <= 80
    assert "█" in drawn[0]
    only = json.loads(ran(vtag("stats", "yoga", "path:0.mp4", "--json")).stdout)
    assert [row["label"] for row in only["labels"]] == ["yoga"]
    assert ran(vtag("stats", env={**os.environ, "PYTHONIOENCODING": "ascii"})).stdout.isascii()
