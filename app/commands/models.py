"""`vtag models`: the catalogue, the models that are here, and their ways in and out."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.completions import complete_model
from vtag.app.console import (
    ask_yes_no,
    can_ask,
    complain,
    is_terminal,
    out_console,
    put,
    put_json,
    say,
    talk_console,
)
from vtag.app.options import Db, Json
from vtag.app.results import put_path
from vtag.engine.errors import ModelError
from vtag.engine.text import display_path, normalize_label, pluralize, printable, read_text_file

if TYPE_CHECKING:
    from vtag.engine.models.catalog import CatalogEntry
    from vtag.engine.models.download import ProgressCallback
    from vtag.engine.models.image_models import ImageSpec
    from vtag.engine.models.registry import InstalledModel
    from vtag.engine.swin.config import ModelSpec

app = typer.Typer(help="List, download, import and export models.", no_args_is_help=True)

Name = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="Model name, as `vtag models list` prints it.", autocompletion=complete_model
    ),
]
Labels = Annotated[
    Path | None,
    typer.Option(
        "--labels", metavar="FILE", help="Label file: one label a line, in the order of the class ids."
    ),
]

_PLAIN_EVERY_S = 5.0  # a line of progress where there is no terminal
_WIDE = 200  # columns, where nobody looks
_MOST_CLIPS = 64  # in a call of an exported file
_MB = 2**20


@app.command("list")
def list_models(json: Json = False) -> None:
    """List published and installed models."""
    from vtag.engine.models.catalog import read_catalog
    from vtag.engine.models.registry import installed_models

    installed = {model.name: model for model in installed_models()}
    entries = read_catalog()
    own_models = [model for model in installed.values() if model.name not in entries]
    if json:
        put_json(
            [
                _as_json(installed.get(name), entries.get(name))
                for name in [*(m.name for m in own_models), *entries]
            ]
        )
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("name", "here", "MB", "top-1"):
        table.add_column(column, justify="right" if column in ("MB", "top-1") else "left", no_wrap=True)
    table.add_column("licence", overflow="fold")
    for model in own_models:
        table.add_row(model.name, _installed_cell(model), _megabytes(model.size_bytes), "", _licence(model))
    for entry in entries.values():
        model_here = installed.get(entry.name)
        size = (
            _megabytes(model_here.size_bytes)
            if model_here
            else f"{entry.size_mb:g}"
            if entry.size_mb
            else "?"
        )
        top1 = "" if entry.top1 is None else f"{entry.top1:.1f}"
        table.add_row(entry.name, _installed_cell(model_here), size, top1, printable(entry.licence))
    console = out_console()
    console.print(table, width=None if console.is_terminal else _WIDE)
    console.print("\ntop-1: percent as published, on Kinetics-400 unless said otherwise")
    for line in _notes(own_models, list(entries.values()), installed):
        console.print(line)


def _notes(
    own_models: list[InstalledModel], entries: list[CatalogEntry], installed: dict[str, InstalledModel]
) -> Iterator[str]:
    for model in own_models:
        yield f"{model.name}: {_describe(model)}"
    for entry in entries:
        is_other_dataset = entry.top1 is not None and entry.trained_on != "Kinetics-400"
        broken = installed[entry.name].problem if entry.name in installed else ""
        parts = (broken, f"top-1 on {entry.trained_on}" if is_other_dataset else "", entry.note)
        if any(parts):
            yield f"{entry.name}: {printable('; '.join(filter(None, parts)))}"


@app.command()
def pull(name: Name, labels: Labels = None) -> None:
    """Download a published model, or continue its download."""
    from vtag.engine.models.catalog import read_catalog
    from vtag.engine.models.registry import is_installed

    entry = read_catalog().get(name)
    if entry and is_installed(name):
        say(f"{name} is here already")
        return
    names = _read_labels(labels)
    if entry:
        say(f"{entry.name}: {printable(entry.title)}, {printable(entry.terms)}")
    try:
        fetch_shown(name, names)
    except KeyboardInterrupt:
        complain(f"interrupted; what came so far is kept, and `vtag models pull {name}` goes on from there")
        raise typer.Exit(130) from None


def fetch_shown(name: str, labels: list[str] | None = None) -> None:
    """Download a model of the catalogue, and show how far that is."""
    from vtag.engine.models.registry import pull_model

    with _progress(name) as on_progress:
        folder = pull_model(name, labels, on_progress)
    say(f"{name} is here now: {display_path(folder)}")


@app.command("import")
def import_model(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Checkpoint or model folder.")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model.")] = None,
    labels: Labels = None,
) -> None:
    """Install a checkpoint file under a name."""
    from vtag.engine.models.registry import import_model

    say(f"{import_model(file, name, _read_labels(labels))} is here now")


@app.command()
def export(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Output folder.")],
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            metavar="NAME|PATH",
            help="Model to export; default: the library's.",
            autocompletion=complete_model,
        ),
    ] = None,
    precision: Annotated[
        str, typer.Option(help="Numeric precision: fp32, fp16 for GPUs, or int8 for CPUs with VNNI.")
    ] = "fp32",
    size: Annotated[
        int | None, typer.Option(min=8, max=2048, metavar="PIXELS", help="Clip size in pixels.")
    ] = None,
    batch: Annotated[str, typer.Option(metavar="dynamic|N", help="Batch size of the graph.")] = "dynamic",
    opset: Annotated[int, typer.Option(help="ONNX operator set.")] = 18,
    clips: Annotated[
        list[Path] | None,
        typer.Option("--clips", metavar="PATH", help="Videos to compare on; default: the library's."),
    ] = None,
    db: Db = None,
) -> None:
    """Export a model to ONNX.

    The file runs without torch. It is compared with torch on real videos before it is kept.
    """
    from vtag.engine.export_model import export_model

    if batch != "dynamic" and not (batch.isdecimal() and 1 <= int(batch) <= _MOST_CLIPS):
        raise typer.BadParameter(f"{batch!r} is neither dynamic nor 1 to {_MOST_CLIPS}", param_hint="--batch")
    done = export_model(
        model,
        output.expanduser(),
        precision=precision,
        size=size,
        batch=None if batch == "dynamic" else int(batch),
        opset=opset,
        clips=[os.fsencode(path) for path in clips or []],
        db=db,
        on_begin=lambda name: say(f"exporting {printable(name)}, and comparing it with torch: takes a while"),
    )
    compared = done.compared
    kind = "windows of videos" if compared.real else "generated clips (no videos were at hand)"
    say(
        f"{printable(done.name)} in {precision}: {_megabytes(done.size_bytes)} MB at {display_path(output)}; "
        f"on {compared.windows} {kind} it differs from torch by {compared.logits:.1e} in the logits, "
        f"top-1 is the same on {compared.top1:.0%}"
    )


@app.command()
def verify(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Model name; default: all.")] = None,
) -> None:
    """Check models against their recorded hashes; exit 1 on a difference."""
    from vtag.engine.models.registry import installed_models, verify_model

    broken = 0
    for model_name in [name] if name else [model.name for model in installed_models()]:
        try:
            verify_model(model_name)
            put(f"{printable(model_name)}: sound")
        except ModelError as error:
            broken += 1
            complain(str(error))
    if broken:
        raise typer.Exit(1)


@app.command()
def path(name: Name) -> None:
    """Print the folder of a model."""
    from vtag.engine.models.registry import installed_folder

    put_path(os.fsencode(installed_folder(name)))


@app.command()
def remove(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the question.")] = False,
) -> None:
    """Delete an installed model and its partial download."""
    from vtag.engine.models.registry import disk_usage, remove_model

    size_bytes = disk_usage(name)
    if not yes:
        if not can_ask():
            raise ModelError(f"say --yes to delete the model {printable(name)}")
        if not ask_yes_no(f"delete the model {name} ({_megabytes(size_bytes)} MB)?"):
            raise ModelError(f"{name} was left as it is")
    remove_model(name)
    say(f"{name} is gone")


@contextmanager
def _progress(name: str) -> Iterator[ProgressCallback]:
    """Draws a bar on a terminal, else now and then a line."""
    if not is_terminal():
        yield _plain_progress(name)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress("{task.description}", *columns, console=talk_console(), transient=True) as bar:
        task = bar.add_task(name, total=None)

        def draw(done_bytes: int, total: int | None) -> None:
            bar.update(task, completed=done_bytes, total=total)

        yield draw


def _plain_progress(name: str) -> ProgressCallback:
    last = time.monotonic()

    def tell(done_bytes: int, total: int | None) -> None:
        nonlocal last
        if time.monotonic() - last < _PLAIN_EVERY_S and done_bytes != total:
            return
        last = time.monotonic()
        say(f"{name}: {_megabytes(done_bytes)}{f' of {_megabytes(total)}' if total else ''} MB")

    return tell


def _read_labels(file: Path | None) -> list[str] | None:
    if file is None:
        return None
    try:
        text = read_text_file(file.expanduser())
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the labels {display_path(file)} cannot be read: {printable(str(error))}"
        ) from error
    return [label for line in text.splitlines() if (label := normalize_label(line))]


def _as_json(model: InstalledModel | None, entry: CatalogEntry | None) -> dict[str, Any]:
    name = model.name if model else entry.name if entry else ""
    return {
        "name": name,
        "installed": model is not None,
        "kind": model.kind if model else entry.kind if entry else "",
        "path": str(model.folder) if model else None,
        "problem": model.problem or None if model else None,
        "size_mb": entry.size_mb if entry else round(model.size_bytes / _MB, 1) if model else None,
        "top1": entry.top1 if entry else None,
        "trained_on": entry.trained_on or None if entry else None,
        "licence": entry.licence if entry else _licence(model) if model else "",
        "url": entry.url if entry else None,
        "title": entry.title if entry else _describe(model) if model else "",
        "note": entry.note or None if entry else None,
    }


def _installed_cell(model: InstalledModel | None) -> str:
    if model is None:
        return ""
    return "broken" if model.problem else "yes"


def _describe(model: InstalledModel) -> str:
    from vtag.engine.models.registry import STARTER
    from vtag.engine.swin.config import FINETUNED_PREFIX

    if model.problem:
        return printable(model.problem)
    if model.name == STARTER:
        return "small, comes with vtag"
    if not model.spec:
        return ""
    source = printable(model.spec.source)
    if source and not source.startswith(FINETUNED_PREFIX):
        source = f"from {source}"
    return ", ".join(filter(None, (_count_labels(model.spec), source)))


def _count_labels(spec: ModelSpec | ImageSpec) -> str:
    from vtag.engine.swin.config import NONE_OF_THESE, ModelSpec

    if not isinstance(spec, ModelSpec):
        return "an image model"
    return pluralize(sum(label != NONE_OF_THESE for label in spec.labels), "label")


def _licence(model: InstalledModel) -> str:
    return printable(model.spec.licence) if model.spec else ""


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / _MB:.1f}"
