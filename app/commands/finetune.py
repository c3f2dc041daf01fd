"""`vtag finetune`: new tags from a few clips; draws the progress, prints what was measured."""

from __future__ import annotations

import re
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.console import complain, out_console, put_json, say
from vtag.app.options import Db, Json
from vtag.app.tag_lines import known_sentence, preview_sentence
from vtag.app.times import format_time_span
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.library.analysis.head_preview import PreviewRow
    from vtag.engine.library.database import LibraryWriter
    from vtag.trainer.evaluation.head_metrics import FinetuneResult
    from vtag.trainer.heads.finetune import FinetuneBase, FinetuneEvent

_MAX_PREVIEWED = 50
_FROM_LIBRARY = "from-library"


def finetune(
    data: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Folder with one folder of clips a tag, or a list of `path label` lines.",
            show_default=False,
        ),
    ] = None,
    from_library: Annotated[
        bool, typer.Option("--from-library", help="Learn from your annotations.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="MODEL_FOLDER", help="Output folder; default: a model named like FOLDER."
        ),
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Root folder of a list's paths.", file_okay=False)] = None,
    base: Annotated[
        str | None,
        typer.Option(
            "--base",
            metavar="NAME|PATH|none",
            help="Base model; default: the library's. none: random weights of its sizes.",
        ),
    ] = None,
    train: Annotated[
        str,
        typer.Option(
            "--train", metavar="head|stages=N|all", help="Part that learns; the head alone takes seconds."
        ),
    ] = "head",
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of a network's training.")] = 30,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Clips in a step.")] = 8,
    lr: Annotated[
        float, typer.Option("--lr", min=0, help="Learning rate of the head; the network has a tenth.")
    ] = 1e-3,
    amp: Annotated[bool, typer.Option("--amp/--no-amp", help="Use bf16 if the device supports it.")] = True,
    colour: Annotated[float, typer.Option(min=0, max=1, help="Strength of colour changes.")] = 0.2,
    mixup: Annotated[float, typer.Option(min=0, help="Mixup alpha; 0 turns it off.")] = 0.0,
    label_smoothing: Annotated[
        float, typer.Option("--label-smoothing", min=0, max=0.9, help="Label smoothing.")
    ] = 0.1,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted training.")] = False,
    per_hour: Annotated[
        float,
        typer.Option(
            "--false-per-hour", min=0.001, help="Accepted false moments an hour, all tags together."
        ),
    ] = 1.0,
    preview: Annotated[bool, typer.Option("--preview", help="Print the videos that it would tag.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    device: Annotated[str, typer.Option(help="Compute device: auto, cpu, cuda or mps.")] = "auto",
    json: Json = False,
    db: Db = None,
) -> None:
    """Teach tags from a few clips.

    `vtag retag --model NAME` then finds them in every scanned video.
    """
    from vtag.engine.library.analysis.head_preview import preview_model
    from vtag.engine.library.database import LibraryWriter
    from vtag.engine.models.registry import load_model
    from vtag.engine.paths import library_path, models_dir
    from vtag.trainer.data.dataset import Dataset, read_dataset
    from vtag.trainer.heads.finetune import FinetuneSettings
    from vtag.trainer.heads.finetune import finetune as teach
    from vtag.trainer.heads.finetune_network import NetworkSettings
    from vtag.trainer.loop.state_paths import state_folder

    if data is None and not from_library:
        raise typer.BadParameter("name a FOLDER of clips, or --from-library", param_hint="FOLDER")
    part = _part(train)
    network = None
    if part is not None:
        network = NetworkSettings(
            part=part,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            amp=amp,
            colour=colour,
            mixup=mixup,
            label_smoothing=label_smoothing,
        )
    elif resume:
        raise typer.BadParameter(
            "a head is taught in seconds: there is nothing to resume", param_hint="--resume"
        )
    dataset = read_dataset(data, root=root) if data else Dataset((), ())
    for remark in dataset.remarks:
        complain(remark)
    folder = out or models_dir() / _name_of(data or Path(_FROM_LIBRARY))
    settings = FinetuneSettings(per_hour=per_hour, seed=seed, device=device, network=network, resume=resume)
    with LibraryWriter.open(library_path(db)) as library:
        steps = teach(
            dataset, _base(library, base, seed), folder, settings, library=library, from_library=from_library
        )
        try:
            result = _draw(steps)
        except KeyboardInterrupt:
            advice = "the clips that were decoded need not be again"
            if state_folder(folder).is_dir():
                advice = "the same command with --resume goes on"
            complain(f"interrupted; no model was written, and {advice}")
            raise typer.Exit(130) from None
        name = display_path(out) if out else folder.name
        preview_rows = preview_model(library, load_model(folder)) if preview else []
        sentences = _preview_sentences(library, folder, result) if preview and not json else []
    if json:
        put_json(_as_json(result, preview_rows if preview else None))
        return
    _print_result(result)
    if preview:
        _print_preview(preview_rows, sentences)
    if network is None and base != _NONE:
        say(f"`vtag retag --model {name}` finds them in all that was scanned and will be, and opens no video")
        label, row = next(iter(result.labels.items()))
        say(
            f"to move a line after that: `vtag labels set {shlex.quote(label)} --threshold "
            f"{row.threshold:.2f}`, lower to find more, higher to be surer"
        )
    else:
        say(f"`vtag scan PATHS --model {name}` looks at videos with the new network")


_NONE = "none"


def _part(train: str) -> Any:
    """The part of the network that learns; None: the head alone."""
    if train == "head":
        return None
    if train == "all":
        return "all"
    if match := re.fullmatch(r"stages=([1-9])", train):
        return int(match[1])
    raise typer.BadParameter(f"{train!r} is not head, stages=N or all", param_hint="--train")


def _base(library: LibraryWriter, base: str | None, seed: int) -> FinetuneBase:
    """What to stand on: the model that was asked for, the library's, or random weights of its sizes."""
    from vtag.engine.models.registry import backbone_source
    from vtag.engine.scan.model_selection import choose_model
    from vtag.trainer.heads.finetune import FinetuneBase
    from vtag.trainer.loop.network import random_checkpoint

    checkpoint, source = choose_model(library, None if base == _NONE else base)
    if base == _NONE:
        return FinetuneBase(random_checkpoint(checkpoint.spec, seed=seed), None)
    return FinetuneBase(checkpoint, backbone_source(source))


def _name_of(data: Path) -> str:
    """A model's name from the folder's."""
    from vtag.engine.models.catalog import model_stem
    from vtag.engine.models.registry import STARTER

    name = model_stem(data)
    return f"{name or 'tags'}-tags" if name in ("", STARTER) or _is_published(name) else name


def _is_published(name: str) -> bool:
    from vtag.engine.models.catalog import read_catalog

    return name in read_catalog()


def _draw(steps: Generator[FinetuneEvent, None, None]) -> FinetuneResult:
    from vtag.app.scan_view import ScanView
    from vtag.app.training_view import TrainingView, stop_after_step
    from vtag.trainer.evaluation.head_metrics import FinetuneResult
    from vtag.trainer.heads.window_features import WindowsDone
    from vtag.trainer.loop.loop import EpochDone, StepDone, TrainingDone, TrainingResumed

    with stop_after_step() as stop, ScanView() as scan_view, TrainingView() as view:
        for event in steps:
            if isinstance(event, FinetuneResult):
                return event
            if isinstance(event, StepDone):
                stop.begin()
                view.step(event)
            elif isinstance(event, EpochDone):
                view.epoch(event)
            elif isinstance(event, WindowsDone):
                view.windows(event)
            elif isinstance(event, TrainingResumed):
                view.resumed(event)
            elif isinstance(event, TrainingDone):
                stop.finish()
            else:
                scan_view.show(event)
            if stop.requested:
                steps.close()
                raise KeyboardInterrupt
    raise AssertionError("finetune ends with what it taught")


def _print_result(result: FinetuneResult) -> None:
    from rich.table import Table

    table = Table("label", "clips", "sources", "found", "right", "line", box=None, pad_edge=False)
    for label, row in result.labels.items():
        table.add_row(
            printable(label),
            str(row.clips),
            str(row.sources),
            _percent(row.recall),
            _percent(row.precision),
            f"{row.threshold:.2f}",
        )
    out_console().print(table)
    for label, row in result.labels.items():
        say(known_sentence(printable(label), row.threshold, row.yes, row.no))
    for remark in result.remarks:
        say(f"note: {printable(remark)}")
    if result.accuracy is not None:
        say(f"right on {_percent(result.accuracy)} of clips whose source it had not seen")
    if result.false_per_hour is not None:
        span = format_time_span(3600 * (result.negative_hours or 0))
        say(
            f"in {span} of the library without your labels, {result.false_per_hour:.1f} moments an hour lie above "
            "the lines; they are false unless it shows a tag there"
        )


def _preview_sentences(library: LibraryWriter, folder: Path, result: FinetuneResult) -> list[str]:
    """What each tag would find in the library with its line."""
    from vtag.engine.library.analysis.tag_preview import preview_tag, score_tag
    from vtag.engine.library.page_queries import label_annotations

    sentences = []
    for label, row in result.labels.items():
        scores = score_tag(library, folder, label)
        judged = label_annotations(library.connection, label)
        preview = preview_tag(scores, scores.line, judged, 1, held_out_scores=(row.yes, row.no))
        sentences.append(preview_sentence(printable(label), preview.line))
    return sentences


def _print_preview(preview_rows: list[PreviewRow], sentences: list[str]) -> None:
    for sentence in sentences:
        say(sentence)
    for path, label, moments, score in preview_rows[:_MAX_PREVIEWED]:
        say(f"{score:.2f}  {printable(label)}  {pluralize(moments, 'moment')}  {printable(path)}")
    if len(preview_rows) > _MAX_PREVIEWED:
        say(f"and {len(preview_rows) - _MAX_PREVIEWED} more")
    if not preview_rows:
        say("it would tag nothing in the library yet")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f} %"


def _as_json(result: FinetuneResult, preview_rows: list[PreviewRow] | None) -> dict[str, Any]:
    from dataclasses import asdict

    out: dict[str, Any] = {
        "model": str(result.folder),
        "labels": {label: asdict(row) for label, row in result.labels.items()},
        "accuracy": result.accuracy,
        "negative_hours": result.negative_hours,
        "false_per_hour": result.false_per_hour,
        "remarks": list(result.remarks),
    }
    if preview_rows is not None:
        out["preview"] = [
            {"path": path, "label": label, "moments": moments, "score": round(score, 6)}
            for path, label, moments, score in preview_rows
        ]
    return out
