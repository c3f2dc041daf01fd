"""Output of the command line: results on stdout, messages on stderr. Escapes control characters."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import typer

from vtag.app.log_file import log
from vtag.engine.text import printable, to_json

if TYPE_CHECKING:
    from rich.console import Console


def say(message: str) -> None:
    """Print a message on stderr."""
    log("message", text=message)
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def say_at_once(message: str) -> None:
    """Print a message from a signal handler, past the stream, which may be in the middle of a write."""
    with suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f"{message}\n".encode())


def complain(message: str) -> None:
    """Print an error or warning on stderr, in one line."""
    say(f"vtag: {' '.join(printable(message.replace(chr(10), ' ')).split())}")


def put(line: str) -> None:
    """Print a line of results on stdout."""
    sys.stdout.write(f"{line}\n")


def put_text(text: str) -> None:
    """Print a text of several lines on stdout in UTF-8: escaped at a terminal, as it is elsewhere."""
    if sys.stdout.isatty():
        text = "\n".join(map(printable, text.split("\n")))
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))  # whatever the terminal's encoding is
    sys.stdout.buffer.flush()


def dim(text: str) -> str:
    """`text`, in a weaker colour at a terminal that has colours."""
    plain = not sys.stdout.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("NO_COLOR")
    return text if plain else f"\x1b[2m{text}\x1b[22m"


def put_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    put(to_json(value, indent=2 if sys.stdout.isatty() else None))


def is_terminal() -> bool:
    """Whether stderr is a terminal that can draw."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def can_ask() -> bool:
    """Whether stdin and stderr are a terminal."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask_yes_no(question: str) -> bool:
    """Ask a yes-or-no question. Raises Exit with code 130 at Ctrl-C."""
    try:
        return typer.confirm(question, err=True)
    except typer.Abort:
        raise typer.Exit(130) from None


def out_console() -> Console:
    """The Rich console for results on stdout; respects NO_COLOR and pipes."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())


def talk_console() -> Console:
    """The Rich console for progress and messages on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)
