"""Wrong and surprising arguments: what vtag says is true, and nothing is asked or written before."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video
from helpers.library_factory import fill_library

from vtag.engine.library.database import LibraryWriter

Run = Callable[..., subprocess.CompletedProcess[str]]
VTAG = [sys.executable, "-m", "vtag.app"]


@pytest.fixture
def videos(vtag_home: Path, tmp_path: Path) -> Path:
    """The folder of three tagged videos of the library at home."""
    with LibraryWriter.open(vtag_home / "library.db") as library:
        fill_library(library, tmp_path / "v", 3, threshold=0.3)
    return tmp_path / "v"


def said(run: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line that a command said on stderr."""
    assert run.returncode == code and run.stderr.count("\n") == 1, run.stderr
    return run.stderr


def test_a_scan_of_a_missing_folder_makes_no_library(vtag: Run, vtag_home: Path, tmp_path: Path) -> None:
    assert "cannot be scanned: No such file" in said(vtag("scan", tmp_path / "nothere"), 1)
    assert not list(vtag_home.iterdir())


def test_a_scan_of_an_empty_folder_says_so(vtag: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert vtag("scan", tmp_path / "empty").stderr.startswith("no videos were found\n0 scanned")


@pytest.mark.parametrize("command", ["show", "similar"])
def test_a_folder_or_a_missing_file_is_called_that(vtag: Run, videos: Path, command: str) -> None:
    assert "is a folder: name one video" in said(vtag(command, videos), 1)
    assert "neither in the library nor on the disk" in said(vtag(command, videos / "nope.mp4"), 1)


@pytest.mark.parametrize("command", ["search", "cut -o out", "export --format srt -o out/", "stats"])
def test_a_misspelt_label_is_explained_by_every_command(
    vtag: Run, videos: Path, tmp_path: Path, command: str
) -> None:
    name, *options = command.split()
    run = vtag(name, "archary", *options, cwd=tmp_path)
    assert said(run, 0) == "vtag: no label fits 'archary'; near to it: archery\n"
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_backup_that_is_none_is_not_asked_about(vtag: Run, videos: Path, vtag_home: Path) -> None:
    (vtag_home / "text").write_text("no library" * 1000)
    assert "there is no library" in said(vtag("library", "restore", vtag_home / "nope.db"), 1)
    assert "is damaged, or is not a library" in said(vtag("library", "restore", vtag_home / "text"), 1)


def test_a_library_is_not_copied_before_a_refused_merge(vtag: Run, videos: Path, vtag_home: Path) -> None:
    assert "name only the others" in said(vtag("library", "merge", vtag_home / "library.db"), 1)
    assert not list(vtag_home.glob("*.before-merge"))


def test_numbers_and_words_agree(vtag: Run, videos: Path) -> None:
    ids = [line.split()[0] for line in vtag("search", "yoga", "--sure").stdout.splitlines()[:2]]
    assert "rejected 2 moments" in said(vtag("tag", "reject", *ids), 0)
    assert vtag("tag", "log").stdout.endswith("rejected 2 moments  in 2 videos\n")
    file = next(line for line in vtag("search", "--paths-only").stdout.splitlines())
    assert "forget 1 file" in vtag("forget", file, "--words").stderr


def test_an_onnx_model_is_not_made_in_place_of_a_file(vtag: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "it is no folder" in said(vtag("models", "export", "-o", tmp_path / "file"), 1)


def test_an_output_that_is_full_or_closed(videos: Path) -> None:
    if os.path.exists("/dev/full"):
        with open("/dev/full", "w") as full:
            run = subprocess.run([*VTAG, "search", "yoga"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert said(run, 1) == "vtag: the output cannot be written: No space left on device\n"
    closed = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m vtag.app search yoga >&-"], capture_output=True, text=True
    )
    assert closed.returncode == 0 and closed.stderr == ""


def test_help_names_arguments_plainly(vtag: Run) -> None:
    for command in (
        ["scan"],
        ["search"],
        ["stats"],
        ["forget"],
        ["library", "merge"],
        ["library", "restore"],
    ):
        usage = vtag(*command, "--help").stdout.strip().splitlines()[0]
        assert "[[" not in usage and "...}" not in usage, usage


def test_a_wrong_id_is_named(vtag: Run, videos: Path) -> None:
    run = vtag("tag", "confirm", "abc")
    assert run.returncode == 2 and "'abc' is no moment id" in run.stderr


def test_a_misspelt_word_of_labels_is_corrected(vtag: Run, videos: Path) -> None:
    assert said(vtag("labels", "archary"), 0) == "vtag: no label has 'archary' in it; near to it: archery\n"


def test_the_class_of_other_footage_is_no_label(vtag: Run, tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    assert vtag("tag", "add", make_video(tmp_path / "v" / "a.mp4"), "yoga").returncode == 0
    assert vtag("scan", tmp_path / "v", "--model", "starter").returncode == 0
    assert "starter: 70 labels" in vtag("library", "info").stdout


def test_operators_as_in_other_languages_are_explained(vtag: Run, videos: Path) -> None:
    lower = vtag("search", "yoga not archery").stderr
    assert "searched as" in lower and "in capitals" in lower
    for query in ("yoga NOT archery", "bow and arrow"):
        assert "in capitals" not in vtag("search", query).stderr
