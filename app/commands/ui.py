"""`vtag ui`: the web page over the library, on this machine."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import can_ask, say
from vtag.app.options import Db


def ui(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's needs a password.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
    auth: Annotated[
        bool, typer.Option("--auth", help="Ask for a password; VTAG_UI_PASSWORD sets it without asking.")
    ] = False,
    api: Annotated[
        bool, typer.Option("--api", help="Answer programs, too, below /api/v1 (docs/http.md).")
    ] = False,
    db: Db = None,
) -> None:
    """Open the page in a browser."""
    from vtag.engine.errors import VtagError
    from vtag.engine.paths import home, library_path

    password = os.environ.get("VTAG_UI_PASSWORD") or None
    if auth and not password:
        if not can_ask():
            raise VtagError("--auth asks at a terminal; where there is none, set VTAG_UI_PASSWORD")
        password = typer.prompt("Password for the page", hide_input=True, confirmation_prompt=True, err=True)
    say("starting ...")
    from vtag.app.ui.server import serve

    def ready(address: str) -> None:
        say(f"vtag is at {address} (Ctrl-C ends it)")
        if api:
            say(f"the API is described at {address}api/v1/openapi.json")
        if not no_browser:
            import webbrowser

            with contextlib.suppress(webbrowser.Error):
                webbrowser.open(address)

    with contextlib.suppress(KeyboardInterrupt):
        serve(
            library_path(db),
            home() / "cache" / "pictures",
            host=host,
            port=port,
            password=password,
            has_api=api,
            on_ready=ready,
        )
    _say_paused(library_path(db))


def _say_paused(library: Path) -> None:
    """What was paused outlives the page, and holds its memory: that is not left unsaid."""
    from contextlib import closing

    from vtag.engine.jobs.job_queue import active_runs
    from vtag.engine.library.database import open_reader

    with closing(open_reader(library)) as reader:
        paused = [run for run in active_runs(reader) if run.state == "paused"]
    for run in paused:
        say(
            f"a {run.kind} is still paused: Go on in `vtag ui` goes on with it, and so does `kill -CONT {run.pid}`"
        )
