"""`vtag retag` and `vtag forget`: derive anew, and remove what is known of a file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import can_ask, put_json, say
from vtag.app.options import Db, Json
from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path, printable


def retag(
    threshold: Annotated[
        float | None, typer.Option(min=0, max=1, help="The score at which a moment begins; remembered.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="A model with a backbone that was scanned with."),
    ] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Derive all moments anew from what was seen; opens no video."""
    from vtag.engine.library import derive, heads
    from vtag.engine.library.database import Library
    from vtag.engine.paths import library_path
    from vtag.engine.scan import remembered_or_loaded

    path = library_path(db)
    if not path.is_file():
        raise LibraryError(f"there is no library at {display_path(path)} yet: `vtag scan FOLDER` makes one")
    with Library.open(path) as library:
        model_id = remembered_or_loaded(library, model)
        if threshold is not None:
            heads.tell_threshold(library, model_id, threshold)
        counts = [count for _, count in derive.retag(library, model_id)]
        name = heads.head(library, model_id).name
    if not counts:
        raise LibraryError(
            f"nothing was seen with the backbone of {printable(name)}: `vtag scan --model` first"
        )
    if json:
        put_json({"model": name, "videos": len(counts), "moments": sum(counts)})
    say(f"{printable(name)}: {sum(counts)} moments in {len(counts)} videos, and no video was opened")


def forget(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or folder; it may be gone already.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Also what you said of it yourself.")] = False,
    db: Db = None,
) -> None:
    """Remove all that is known of a file or folder; the videos themselves stay."""
    from vtag.engine.library import forget as forgetting
    from vtag.engine.library.database import Library
    from vtag.engine.paths import library_path

    file = library_path(db)
    if not file.is_file():
        raise LibraryError(f"there is no library at {display_path(file)}")
    with Library.open(file) as library:
        what = forgetting.look(library, os.fsencode(path))
        forgetting.refuse_words(what, told=words)
        said = f", and {what.words} words that you said of them" if what.words else ""
        question = f"forget {len(what.files)} files and {len(what.contents)} videos' moments{said}?"
        if not yes:
            if not can_ask():
                raise LibraryError(f"{question} say --yes")
            typer.confirm(question, abort=True, err=True)
        forgetting.forget(library, what, words=words)
    say(f"forgot {len(what.files)} files")
