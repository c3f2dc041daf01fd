"""`vtag models`: the catalogue, and the models that are here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from vtag.app.console import can_ask, out_console, put, put_json, say
from vtag.app.options import Json
from vtag.engine.errors import ModelError
from vtag.engine.text import display_path, printable

app = typer.Typer(help="Models from elsewhere: what there is, and what is here.", no_args_is_help=True)


@app.command("list")
def list_models(json: Json = False) -> None:
    """List the catalogue and the models that are here."""
    from vtag.engine.models import catalogue, installed

    here = installed()
    entries = catalogue()
    own = [name for name in here if name not in entries]
    if json:
        rows = [
            {
                "name": e.name,
                "installed": e.name in here,
                "size_mb": e.size_mb,
                "top1": e.top1,
                "licence": e.licence,
                "url": e.url,
            }
            for e in entries.values()
        ]
        put_json(rows + [{"name": name, "installed": True} for name in own])
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "here", "MB", "top-1", "what", "licence"):
        table.add_column(column)
    for e in entries.values():
        size, top1 = (f"{v:g}" if v else "" for v in (e.size_mb, e.top1))
        table.add_row(e.name, "yes" if e.name in here else "", size, top1, e.title, e.licence)
    for name in own:
        table.add_row(name, "yes", "", "", "imported or trained here", "")
    out_console().print(table)


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A checkpoint or model folder.")],
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="One label a line, in the order of the class ids.")
    ] = None,
) -> None:
    """Bring a checkpoint in by hand."""
    from vtag.engine.models import import_file

    names = None
    if labels:
        try:
            names = [line.strip() for line in labels.read_text(encoding="utf-8").splitlines() if line.strip()]
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"the labels {display_path(labels)} cannot be read: {error}") from error
    say(f"{import_file(file, name, names)} is here now")


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="All where left out.")] = None,
) -> None:
    """Hold a model's weights against the hash that was recorded."""
    from vtag.engine.models import installed
    from vtag.engine.models import verify as check

    for each in [name] if name else installed():
        check(each)
        put(f"{printable(each)}: sound")


@app.command()
def path(name: Annotated[str, typer.Argument(metavar="NAME")]) -> None:
    """Print the folder of a model."""
    from vtag.engine.models import path_of

    put(str(path_of(name)))


@app.command()
def remove(
    name: Annotated[str, typer.Argument(metavar="NAME")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model that is here."""
    from vtag.engine.models import path_of
    from vtag.engine.models import remove as delete

    path_of(name)
    if not yes:
        if not can_ask():
            raise ModelError(f"say --yes to delete the model {printable(name)}")
        typer.confirm(f"delete the model {name}?", abort=True, err=True)
    delete(name)
    say(f"{name} is gone")
