"""`vtag eval`: how often a model is right on labelled clips; draws the progress, prints figures and confusions."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.console import complain, is_terminal, out_console, put, put_json, say, talk_console
from vtag.app.options import Backend, Device, ExactPrecision, Json, Model, Protocol
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from rich.table import Column, Table

    from vtag.trainer.data.dataset import Dataset
    from vtag.trainer.evaluation.evaluate import ClipFailed, Evaluation, EvaluationProgress, LabelResult

_PLAIN_EVERY_S = 10.0
_WIDEST = 10_000  # columns of text: wider than any terminal
_VIEWS = {"clip": "one clip from the middle, centre crop", "test": "4 clips x 3 crops, averaged"}


def evaluate(
    data: Annotated[
        Path,
        typer.Argument(
            metavar="DATA", help="Folder with one folder of clips a label, or a list of `path label` lines."
        ),
    ],
    model: Model,
    protocol: Protocol = "clip",
    among_classes: Annotated[
        bool, typer.Option("--among-classes", help="Compare only the labels of DATA.")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Root folder of a list's paths.", file_okay=False)] = None,
    backend: Backend = "auto",
    device: Device = "auto",
    precision: ExactPrecision = None,
    json: Json = False,
) -> None:
    """Measure a model on labelled clips."""
    from vtag.engine.backends.factory import open_backend
    from vtag.trainer.data.dataset import read_dataset
    from vtag.trainer.evaluation.evaluate import evaluate as run
    from vtag.trainer.evaluation.evaluate import label_indices

    dataset = read_dataset(data, root=root)
    runtime = open_backend(model, backend=backend, device=device, precision=precision)
    known_labels = label_indices(dataset, runtime.spec)
    _say_remarks(dataset, [label for label, index in known_labels.items() if index is None])
    try:
        result = _draw(
            run(
                dataset,
                runtime,
                protocol=protocol,
                among_classes=among_classes,
            )
        )
    except KeyboardInterrupt:
        complain("interrupted; nothing was measured")
        raise typer.Exit(130) from None
    conditions = {
        "model": runtime.spec.name,
        "protocol": protocol,
        "among_classes": among_classes,
        "device": runtime.device,
        "precision": runtime.precision,
    }
    if json:
        put_json({**_as_json(result), **conditions})
    else:
        put_confusions(result)
        among = " among the data's labels" if among_classes else ""
        put(
            f"top-1 {_percent(result.top1)}, top-5 {_percent(result.top5)}, mean over labels "
            f"{_percent(result.mean_class_accuracy)} of {pluralize(result.clips, 'clip')}{among}"
        )
        put(f"protocol {protocol} ({_VIEWS[protocol]}); {printable(runtime.spec.name)}, {runtime.precision}")
    if result.failures:
        say(f"{pluralize(len(result.failures), 'clip')} could not be read: in no figure")
        raise typer.Exit(3)


def _say_remarks(dataset: Dataset, unknown: list[str]) -> None:
    from vtag.engine.swin.config import NONE_OF_THESE

    for remark in dataset.remarks:
        complain(remark)
    lacking = [label for label in unknown if label.casefold() != NONE_OF_THESE]
    if lacking:
        complain(f"the model does not know {', '.join(lacking)}: clips of that count as wrong")
    if any(label.casefold() == NONE_OF_THESE for label in dataset.labels):
        complain(f"{NONE_OF_THESE!r} is no label that can be right or wrong: its clips are left out")


def _draw(events: Iterator[EvaluationProgress | ClipFailed | Evaluation]) -> Evaluation:
    from vtag.trainer.evaluation.evaluate import ClipFailed, Evaluation

    with _Progress() as progress:
        for event in events:
            if isinstance(event, Evaluation):
                return event
            if isinstance(event, ClipFailed):
                progress.say(f"failed: {display_path(event.path)}: {printable(event.error)}")
            else:
                progress.show(event)
    raise AssertionError("an evaluation ends with its figures")


class _Progress:
    """A bar on stderr, or a line now and then where stderr is no terminal."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._last = time.monotonic()
        self._bar: Progress | None = None
        if is_terminal():
            self._bar = Progress(
                BarColumn(),
                TextColumn("{task.description}"),
                TimeRemainingColumn(),
                console=talk_console(),
                transient=True,
            )
            self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> _Progress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, line: str) -> None:
        if self._bar:
            self._bar.console.print(line)
        else:
            say(line)

    def show(self, event: EvaluationProgress) -> None:
        message = f"{event.done} of {event.total} clips, {_percent(event.right / event.done)} right"
        if self._bar:
            self._bar.update(self._task, completed=event.done, total=event.total, description=message)
        elif time.monotonic() - self._last >= _PLAIN_EVERY_S:
            self._last = time.monotonic()
            say(message)


def put_confusions(result: Evaluation) -> None:
    """Print a row for each label: how many clips were right, and the confusions, as a matrix where that has room."""
    console = out_console()
    columns = sorted({name for row in result.labels.values() for name in row.predictions})
    matrix = _matrix(result, columns)
    unlimited = console.options.update(max_width=_WIDEST)
    if console.measure(matrix, options=unlimited).maximum > console.width:
        console.print(_list(result))
        return
    console.print(matrix)
    rows = {row.known_as for row in result.labels.values()}
    other_labels = [f"{i} {printable(name)}" for i, name in enumerate(columns, 1) if name not in rows]
    if other_labels:
        put(f"columns without a row: {', '.join(other_labels)}")


def _matrix(result: Evaluation, columns: list[str]) -> Table:
    """The confusion matrix: a column for each predicted label, under the number that stands before its rows."""
    from rich.table import Column

    table = _table(*(Column(str(number), justify="right") for number in range(1, len(columns) + 1)))
    for label, row in result.labels.items():
        number = f"{columns.index(row.known_as) + 1} " if row.known_as in columns else ""
        counts = [str(row.predictions.get(column, "·")) for column in columns]
        table.add_row(f"{number}{printable(label)}", str(row.clips), _percent(row.right / row.clips), *counts)
    return table


def _list(result: Evaluation) -> Table:
    """The labels with what each was taken for most often."""
    from rich.table import Column

    table = _table(Column("taken for"))
    for label, row in result.labels.items():
        table.add_row(printable(label), str(row.clips), _percent(row.right / row.clips), _taken_for(row))
    return table


def _table(*columns: Column) -> Table:
    from rich.table import Column, Table

    right = [Column(name, justify="right", no_wrap=True) for name in ("clips", "right")]
    return Table("label", *right, *columns, box=None, pad_edge=False)


def _taken_for(row: LabelResult) -> str:
    other_labels = [(name, count) for name, count in row.predictions.items() if name != row.known_as]
    return ", ".join(f"{printable(name)} {count}" for name, count in other_labels[:4])


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _as_json(result: Evaluation) -> dict[str, Any]:
    return {
        "top1": result.top1,
        "top5": result.top5,
        "mean_class_accuracy": result.mean_class_accuracy,
        "clips": result.clips,
        "failed": [
            {
                "path": os.fsencode(failure.path).decode("utf-8", "replace"),
                "error": printable(failure.error),
            }
            for failure in result.failures
        ],
        "labels": {
            label: {
                "clips": row.clips,
                "right": row.right,
                "known": row.known_as is not None,
                "said": dict(row.predictions),
            }
            for label, row in result.labels.items()
        },
    }
