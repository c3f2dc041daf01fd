"""`vtag models` and the offer to download as a user meets them: processes that are killed, and a real terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from helpers.file_server import FileServer, file_response, file_server, stalled_response
from helpers.footage import make_video

from vtag.engine.models.registry import is_installed, load_model
from vtag.engine.paths import models_dir

CHECKPOINT = Path(__file__).parents[1] / "data" / "golden" / "control_ok.pth"
BODY = CHECKPOINT.read_bytes()
MEGABYTES = f"{len(BODY) / 2**20:.4g}"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def entry(server: FileServer, vtag_home: Path) -> str:
    """The address of swin3d-t in a catalogue of one's own: as for a mirror."""
    vtag_home.joinpath("models.toml").write_text(
        f'[swin3d-t]\ntitle = "a small model"\nlicence = "CC0-1.0"\nsize_mb = {MEGABYTES}\nurl = "{server.url()}"\n'
    )
    return server.serve(file_response(BODY))


def begin(*arguments: str | Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "vtag.app", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_part(size: int) -> None:
    deadline = time.monotonic() + 100
    while sum(f.stat().st_size for f in models_dir().rglob("*") if f.is_file()) < size:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_pull_that_was_ended_midway_goes_on_from_there(
    vtag: Run, server: FileServer, entry: str, by: signal.Signals
) -> None:
    half = len(BODY) // 2
    served = file_response(BODY, etag='"slow"')
    server.serve(stalled_response(server, BODY[:half], len(BODY)))
    process = begin("models", "pull", "swin3d-t")
    wait_for_part(half)
    process.send_signal(by)
    stdout, stderr = process.communicate(timeout=180)
    assert stdout == "" and "Traceback" not in stderr
    if by == signal.SIGINT:
        assert process.returncode == 130
        assert "goes on from there" in stderr.splitlines()[-1]
    assert not is_installed("swin3d-t")
    server.serve(served)
    run = vtag("models", "pull", "swin3d-t")
    assert run.returncode == 0, run.stderr
    assert server.ranges() == [None, f"bytes={half}-"]
    assert load_model("swin3d-t").spec.licence == "CC0-1.0"
    assert vtag("models", "verify", "swin3d-t").stdout == "swin3d-t: sound\n"
    assert [p.name for p in models_dir().rglob("*") if "part" in p.name] == []


def test_what_is_here_is_listed_with_the_starter(vtag: Run, entry: str) -> None:
    listed = {row["name"]: row for row in json.loads(vtag("models", "list", "--json").stdout)}
    assert [name for name, row in listed.items() if row["installed"]] == ["starter"]
    assert listed["swin3d-t"]["url"] == entry
    assert vtag("models", "import", CHECKPOINT, "--name", "mine").returncode == 0
    shown = vtag("models", "list").stdout
    assert re.search(r"(?m)^starter +yes +\d+\.\d", shown), shown
    assert re.search(r"(?m)^mine +yes", shown), shown
    assert re.search(rf"(?m)^swin3d-t +{MEGABYTES}", shown), shown


class Terminal:
    """`vtag` at a terminal of its own."""

    def __init__(self, *arguments: str | Path) -> None:
        self.pid, self._master = pty.fork()
        if self.pid == 0:
            os.execv(sys.executable, [sys.executable, "-m", "vtag.app", *map(str, arguments)])
        self.shown = ""

    def until(self, text: str, patience_s: float = 100) -> None:
        """Read until `text` was shown, or the process closes the terminal ("")."""
        deadline = time.monotonic() + patience_s
        while not text or text not in self.shown:
            assert time.monotonic() < deadline, self.shown
            if not select.select([self._master], [], [], 0.2)[0]:
                continue
            try:
                part = os.read(self._master, 4096)
            except OSError:  # Linux: nobody holds the other end
                part = b""
            if not part:
                assert not text, self.shown
                return
            self.shown += part.decode("utf-8", "replace")

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def interrupted(self) -> int:
        """What Ctrl-C ends it with; pressed again, as a person does, where the first came before it was read for."""
        for _ in range(20):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                return self.end(patience_s=5)
        raise AssertionError(self.shown)

    def end(self, patience_s: float = 100) -> int:
        """What it ends with."""
        self.until("", patience_s)
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return make_video(tmp_path / "video.mp4", seconds=1, width=64, height=48)


def test_a_yes_at_a_terminal_downloads_and_looks_with_it(server: FileServer, entry: str, video: Path) -> None:
    terminal = Terminal("scan", video)
    terminal.until("[y/N]")
    asked = " ".join(terminal.shown.split())
    assert all(said in asked for said in (f"{MEGABYTES} MB", "127.0.0.1", "CC0-1.0", "a small model")), asked
    assert server.requests == []
    terminal.type("y\r")
    assert terminal.end() == 0, terminal.shown
    assert len(server.requests) == 1
    assert "swin3d-t on cpu" in terminal.shown


def test_anything_else_takes_the_starter_and_is_not_asked_again(
    server: FileServer, entry: str, video: Path
) -> None:
    terminal = Terminal("scan", video)
    terminal.until("[y/N]")
    terminal.type("\r")
    assert terminal.end() == 0, terminal.shown
    assert "starter on cpu" in terminal.shown
    again = Terminal("scan", video)
    assert again.end() == 0
    assert "[y/N]" not in again.shown
    assert server.requests == []


def test_ctrl_c_at_the_question_is_no_answer(server: FileServer, entry: str, video: Path) -> None:
    terminal = Terminal("scan", video)
    terminal.until("[y/N]")
    assert terminal.interrupted() == 130, terminal.shown
    assert "Traceback" not in terminal.shown
    assert server.requests == []


def test_where_nobody_can_be_asked_nothing_is_downloaded(
    vtag: Run, server: FileServer, entry: str, video: Path
) -> None:
    run = vtag("scan", video, "--dry-run")
    assert run.returncode == 0, run.stderr
    assert len([line for line in run.stderr.splitlines() if "vtag models pull swin3d-t" in line]) == 1
    assert server.requests == []
