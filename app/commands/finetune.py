"""`vtag finetune`: new tags from a few clips; draws the decoding's progress, prints what was measured."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.console import complain, out_console, put_json, say
from vtag.app.options import Db, Json
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.events import Event
    from vtag.trainer.finetune import Taught

_MOST_PREVIEWED = 50


def finetune(
    data: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="One folder of clips a tag; or a list of `path label` lines."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="MODEL_FOLDER", help="Default: a model named like FOLDER."),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Where a list's paths begin.", file_okay=False)] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base", metavar="NAME|PATH", help="Whose backbone to stand on; default: the library's model."
        ),
    ] = None,
    per_hour: Annotated[
        float,
        typer.Option("--false-per-hour", min=0.001, help="False moments an hour that are accepted, in all."),
    ] = 1.0,
    preview: Annotated[bool, typer.Option("--preview", help="Name the videos it would now tag.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of the split.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, mps")] = "auto",
    json: Json = False,
    db: Db = None,
) -> None:
    """Teach tags of your own from a few clips; then `vtag retag --model NAME` finds them in all that was scanned."""
    from vtag.engine.library.database import Library
    from vtag.engine.models import load
    from vtag.engine.paths import library_path, models_dir
    from vtag.engine.scan import choose_model
    from vtag.trainer.dataset import read_dataset
    from vtag.trainer.finetune import Settings
    from vtag.trainer.finetune import finetune as teach
    from vtag.trainer.finetune import preview as would_tag

    dataset = read_dataset(data, root=root)
    for remark in dataset.remarks:
        complain(remark)
    folder = out or models_dir() / _name_of(data)
    with Library.open(library_path(db)) as library:
        checkpoint, source = choose_model(library, base)
        try:
            taught = _draw(
                teach(
                    dataset,
                    checkpoint,
                    source,
                    folder,
                    Settings(per_hour=per_hour, seed=seed, device=device),
                    library=library,
                )
            )
        except KeyboardInterrupt:
            complain("interrupted; no model was written, and the clips that were decoded need not be again")
            raise typer.Exit(130) from None
        name = display_path(out) if out else folder.name
        found = would_tag(library, load(folder)) if preview else []
    if json:
        put_json(_as_json(taught, found if preview else None))
        return
    _put(taught)
    if preview:
        _put_preview(found)
    say(f"`vtag retag --model {name}` finds them in all that was scanned, without opening a video")


def _name_of(data: Path) -> str:
    """A model's name from the folder's."""
    from vtag.engine.models import STARTER

    name = re.sub(r"[^a-z0-9._-]+", "-", data.absolute().stem.lower()).strip("-._")[:64]
    return f"{name or 'tags'}-tags" if name in ("", STARTER) or _is_published(name) else name


def _is_published(name: str) -> bool:
    from vtag.engine.catalogue import catalogue

    return name in catalogue()


def _draw(events: Iterator[Event | Taught]) -> Taught:
    from vtag.app.commands.scan import Drawing
    from vtag.trainer.finetune import Taught

    with Drawing() as drawing:
        for event in events:
            if isinstance(event, Taught):
                return event
            drawing.show(event)
    raise AssertionError("finetune ends with what it taught")


def _put(taught: Taught) -> None:
    from rich.table import Table

    table = Table("label", "clips", "sources", "found", "right", "threshold", box=None, pad_edge=False)
    for label, row in taught.labels.items():
        table.add_row(
            printable(label),
            str(row.clips),
            str(row.sources),
            _percent(row.recall),
            _percent(row.precision),
            f"{row.threshold:.2f}",
        )
    out_console().print(table)
    for remark in taught.remarks:
        say(f"note: {printable(remark)}")
    if taught.accuracy is not None:
        say(f"right on {_percent(taught.accuracy)} of clips whose source it had not seen")
    if taught.false_per_hour is not None:
        say(
            f"{taught.false_per_hour:.1f} false moments an hour, in {taught.negative_hours:.1f} hours of the library "
            "that carry none of the labels"
        )


def _put_preview(found: list[tuple[str, str, int, float]]) -> None:
    for path, label, moments, score in found[:_MOST_PREVIEWED]:
        say(
            f"{score:.2f}  {printable(label)}  {moments} {'moment' if moments == 1 else 'moments'}  {printable(path)}"
        )
    if len(found) > _MOST_PREVIEWED:
        say(f"and {len(found) - _MOST_PREVIEWED} more")
    if not found:
        say("it would tag nothing in the library yet")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _as_json(taught: Taught, found: list[tuple[str, str, int, float]] | None) -> dict[str, Any]:
    from dataclasses import asdict

    out: dict[str, Any] = {
        "model": str(taught.folder),
        "labels": {label: asdict(row) for label, row in taught.labels.items()},
        "accuracy": taught.accuracy,
        "negative_hours": taught.negative_hours,
        "false_per_hour": taught.false_per_hour,
        "remarks": list(taught.remarks),
    }
    if found is not None:
        out["preview"] = [
            {"path": path, "label": label, "moments": moments, "score": round(score, 6)}
            for path, label, moments, score in found
        ]
    return out
