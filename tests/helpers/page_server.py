"""Runs `vtag ui` as a process, over a library of generated videos."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from helpers.zygote import shared_zygote


@contextlib.contextmanager
def serve_page(
    home: Path,
    *arguments: str,
    password: str | None = None,
    is_killed: bool = False,
    messages: list[str] | None = None,
) -> Iterator[tuple[str, int]]:
    """The address of a running `vtag ui` over the library at `home`, and the server's process id.

    A new interpreter, which ends with SIGINT.

    Args:
        is_killed: the caller kills the server itself.
        messages: gets what the server prints after its address.
    """
    environment = _environment(home, password)
    command = [sys.executable, "-m", "vtag.app", "ui", "--port", "0", "--no-browser", *arguments]
    server = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)
    assert server.stderr is not None
    output: list[str] = []
    later = [] if messages is None else messages
    reading = threading.Thread(target=_read_lines, args=(server.stderr, later), daemon=True)
    try:
        for line in server.stderr:
            output.append(line)
            if match := re.search(r"vtag is at (http://\S+)/ ", line):
                reading.start()
                yield match[1], server.pid
                assert "Traceback" not in "".join(later), "".join(later)
                break
        else:
            raise AssertionError("".join(output))
    finally:
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(60) == (-signal.SIGKILL if is_killed else 0)
        finally:
            server.kill()


@contextlib.contextmanager
def serve_page_warm(
    home: Path,
    *arguments: str,
    password: str | None = None,
    is_killed: bool = False,
    messages: list[Path] | None = None,
) -> Iterator[tuple[str, int]]:
    """As `serve_page`, from a process that has imported the server: it is there in half a second, not in four.

    Not for tests of its memory or of variables that libraries read when they are imported.

    Args:
        is_killed: the caller kills the server itself.
        messages: gets the file into which the server prints.
    """
    zygote = shared_zygote()
    server = zygote.start(
        "ui", "--port", "0", "--no-browser", *arguments, environment=_environment(home, password)
    )
    try:
        deadline = time.monotonic() + 120
        while not (match := re.search(r"vtag is at (http://\S+)/ ", server.stderr.read_text())):
            assert zygote.wait(server, 0.05) is None and time.monotonic() < deadline, (
                server.stderr.read_text()
            )
        if messages is not None:
            messages.append(server.stderr)
        yield match[1], server.pid
        assert "Traceback" not in server.stderr.read_text(), server.stderr.read_text()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(server.pid, signal.SIGINT)
        assert zygote.wait(server, 60) == (-signal.SIGKILL if is_killed else 0)


def _environment(home: Path, password: str | None) -> dict[str, str]:
    environment = {**os.environ, "VTAG_HOME": str(home)}
    environment.pop("VTAG_UI_PASSWORD", None)
    return environment | ({"VTAG_UI_PASSWORD": password} if password else {})


def _read_lines(stream: IO[str], lines: list[str]) -> None:
    for line in stream:
        lines.append(line)


def make_library(folder: Path, *, videos: int = 3, seconds: float = 6, names: tuple[str, ...] = ()) -> Path:
    """The home of a scanned library of generated videos. Every window of them is part of a moment."""
    from helpers.footage import make_video
    from helpers.small_model import make_model

    clips = folder / "clips"
    clips.mkdir(parents=True)
    for seed, name in enumerate(names or tuple(f"video{number}.mp4" for number in range(videos))):
        make_video(clips / name, seconds=seconds, seed=seed)
    scan_into(folder / "home", clips, make_model(folder / "model"))
    return folder / "home"


def scan_into(home: Path, clips: Path, model: Path) -> None:
    """Scan `clips` into the library at `home`, with a threshold so low that nearly every window has a moment."""
    ran = shared_zygote().run(
        "scan", clips, "--model", model, "--threshold", "0.1", VTAG_HOME=os.fspath(home)
    )
    assert ran.status == 0, ran.stderr
