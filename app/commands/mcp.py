"""`vtag mcp`: the library for assistants that call tools."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import say
from vtag.app.interrupts import INTERRUPTED
from vtag.app.options import Db


def mcp(
    allow_write: Annotated[
        bool, typer.Option("--allow-write", help="Allow annotations, and clips in the folder of --clips.")
    ] = False,
    clips: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Folder for clips, which exists; nothing is written anywhere else."
        ),
    ] = None,
    db: Db = None,
) -> None:
    """Serve the library to an assistant, by the Model Context Protocol on stdin and stdout.

    Read-only unless --allow-write. docs/mcp.md says how to add it to an assistant.
    """
    from importlib.util import find_spec

    from vtag.engine.errors import VtagError
    from vtag.engine.text import display_path

    if clips is not None and not allow_write:
        raise typer.BadParameter("clips are written: say --allow-write, too", param_hint="--clips")
    if clips is not None and not clips.expanduser().is_dir():
        raise VtagError(f"there is no folder {display_path(clips)}: make it, or name another one")
    if find_spec("mcp") is None:
        raise VtagError("the package mcp is not installed here: `pip install 'vtag[mcp]'`")
    from vtag.app.mcp_server import build_server

    folder = clips.expanduser().absolute() if clips else None
    # the SDK waits for the next line of stdin before it heeds an interrupt
    signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    if sys.stdin.isatty():
        say("waiting for an assistant on stdin; it starts `vtag mcp` itself (docs/mcp.md). Ctrl-C ends this")
    build_server(db, allow_write=allow_write, clips=folder).run("stdio")
