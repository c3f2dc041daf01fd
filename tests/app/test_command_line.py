"""What holds for every command: pipes that close, no colours where none are wanted, files that are private."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.library_factory import add_model, add_video

from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter

Run = Callable[..., subprocess.CompletedProcess[str]]
VTAG = [sys.executable, "-m", "vtag.app"]


@pytest.fixture
def shelf(vtag_home: Path, tmp_path: Path) -> Path:
    """A library with many moments."""
    with LibraryWriter.open(vtag_home / "library.db") as library:
        model = add_model(library)
        for number in range(60):
            add_video(library, tmp_path / f"{number}.mp4", seed=number, windows=60)
        list(derive.retag(library, model))
    return vtag_home


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_has_read_enough_is_no_error_of_ours(shelf: Path, more: list[str]) -> None:
    for limit in ("3", "5000"):  # what fits into the buffer is written at the end, more of it before
        command = [*VTAG, "search", "archery OR yoga", "--limit", limit, *more]
        read, write = os.pipe()
        os.close(read)  # as `head` does when it has its lines
        run = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
        os.close(write)
        assert run.stderr == ""
        assert run.returncode in (0, 1)


def test_no_colour_where_none_is_wanted(vtag: Run, shelf: Path) -> None:
    for arguments in (["--help"], ["search", "yoga"], ["search", "--nonsense"], ["models", "list"]):
        run = vtag(*arguments, env={**os.environ, "NO_COLOR": "1", "FORCE_COLOR": "1"})
        assert "\x1b[3" not in run.stdout + run.stderr


def test_what_the_library_writes_is_its_owners_alone(shelf: Path) -> None:
    for file in shelf.rglob("*"):
        assert file.stat().st_mode & 0o077 == 0, file


_PRESSED = """
import functools, signal, sys
from vtag.app.__main__ import main

when, sys.argv[1:] = sys.argv[1], ["search", "yoga"]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts us may have told it to be ignored

class Press:
    def find_spec(self, name, path=None, target=None):
        if name == when:
            sys.meta_path.remove(self)
            signal.raise_signal(signal.SIGINT)

sys.meta_path.insert(0, Press())
if when == "a name that is set":
    functools.cached_property.__set_name__ = lambda *_: signal.raise_signal(signal.SIGINT)
main()
"""


@pytest.mark.parametrize(
    "when", ["vtag.app.cli", "typer", "vtag.engine.library.search.moments", "a name that is set"]
)
def test_ctrl_c_while_a_command_starts_says_nothing(shelf: Path, when: str) -> None:
    """Python 3.11 makes a RuntimeError of what interrupts a `__set_name__`."""
    run = subprocess.run([sys.executable, "-c", _PRESSED, when], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


def test_ctrl_c_while_python_ends_says_nothing(shelf: Path) -> None:
    """As after a command that loaded torch, which takes a second to end."""
    code = "import atexit, signal, sys; atexit.register(signal.raise_signal, signal.SIGINT); "
    code += "sys.argv[1:] = ['search', 'yoga', '--limit', '1']; from vtag.app.cli import main; main()"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "") and run.stdout.count("\n") == 1


def test_a_narrow_terminal_is_filled_and_not_passed(vtag: Run, shelf: Path, tmp_path: Path) -> None:
    for arguments in (["show", tmp_path / "0.mp4"], ["stats"]):
        for columns in (40, 80):
            run = vtag(*arguments, env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"})
            assert 12 < max(map(len, run.stdout.splitlines())) <= columns, run.stdout


@pytest.mark.parametrize("option", ["--backend", "--precision", "--view"])
def test_a_word_that_an_option_does_not_know_is_a_mistake_of_usage(
    vtag: Run, tmp_path: Path, option: str
) -> None:
    run = vtag("scan", tmp_path, option, "nonsense")  # also where there is nothing to look at
    assert run.returncode == 2
    assert "nonsense" in run.stderr
