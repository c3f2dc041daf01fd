"""How vtag speaks: data on stdout, messages on stderr, one line an error; escapes what came from a disk."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from vtag.engine.text import printable

if TYPE_CHECKING:
    from rich.console import Console


def say(message: str) -> None:
    """One line of talk on stderr."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def say_at_once(message: str) -> None:
    """One line of talk from a signal handler: the stream may be in the middle of another line, and refuse it."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{message}\n".encode())


def complain(message: str) -> None:
    """One line on stderr that says what is wrong and what to do."""
    say(f"vtag: {' '.join(printable(message.replace(chr(10), ' ')).split())}")


def put(line: str) -> None:
    """One line of data on stdout."""
    sys.stdout.write(f"{line}\n")


def put_json(value: Any) -> None:
    """One JSON document on stdout, and nothing else."""
    put(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def is_terminal() -> bool:
    """Whether a person watches stderr on a terminal that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether a question can be asked and answered."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def agreed(question: str) -> bool:
    """Whether a person says yes; Ctrl-C at the question ends the command as it does elsewhere."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.Exit(130) from None


def out_console() -> Console:
    """The console for data that is drawn for people; obeys NO_COLOR and pipes."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def talk_console() -> Console:
    """The console for progress and messages, on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def clock(milliseconds: int) -> str:
    """A time in a video as people write it: h:mm:ss."""
    seconds = milliseconds // 1000
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
