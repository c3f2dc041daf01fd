"""`vtag labels`: what can be found, by which other words, and from which score on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from vtag.app.commands.annotate import open_library
from vtag.app.completions import complete_label
from vtag.app.console import complain, put, put_json, say
from vtag.app.options import Db, Json
from vtag.app.query_options import open_library_reader
from vtag.engine.errors import LibraryError
from vtag.engine.text import pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.library.certainty import Sensitivity


class _DefaultToList(TyperGroup):
    """`vtag labels [WORD]` lists; `set` and `reset` are the only words that are commands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Typer's own, with the command that was left out."""
        asks_help = any(arg in ("--help", "-h") for arg in args)
        if not asks_help and (not args or args[0] not in self.commands):
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_DefaultToList, help="List labels and set their thresholds.")


@app.command("list")
def list_labels(
    word: Annotated[
        str | None, typer.Argument(metavar="WORD", help="Word that the labels must match.")
    ] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """List labels with their counts and groups; `vtag labels` does the same."""
    from vtag.engine.library.search.labels import library_thresholds, nearest_labels, vocabulary
    from vtag.engine.library.search.moments import label_counts

    names = vocabulary()
    with open_library_reader(db) as reader:
        label_rows = label_counts(reader, word)
        own_thresholds = library_thresholds(reader)
        near = [] if label_rows or not word else nearest_labels(reader, word)
    rows = [(name, count, names.groups_of(name), own_thresholds.get(name)) for name, count in label_rows]
    if json:
        keys = ("label", "moments", "groups", "threshold")
        put_json([dict(zip(keys, row, strict=True)) for row in rows])
        return
    width = max((len(printable(name)) for name, _ in label_rows), default=0)
    for name, count, groups, threshold in rows:
        remark = ", ".join(map(printable, groups)) + (
            f"  (from {threshold:g})" if threshold is not None else ""
        )
        put(f"{count:>8}  {printable(name):<{width}}  {remark}".rstrip())
    if not label_rows:
        hint = f"; near to it: {', '.join(map(printable, near))}" if near else ""
        complain(
            f"no label has {word!r} in it{hint}" if word else "no label is known yet: `vtag scan FOLDER`"
        )


@app.command("set")
def set_threshold(
    label: Annotated[
        str | None,
        typer.Argument(
            metavar="LABEL", help="Label of this library; for --threshold.", autocompletion=complete_label
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Score that starts a sure moment, in place of the model's."),
    ] = None,
    sensitivity: Annotated[
        Literal["low", "normal", "high"] | None,
        typer.Option("--sensitivity", help="Which moments are sure. low: fewer; high: more."),
    ] = None,
    db: Db = None,
) -> None:
    """Set which moments are sure: of all labels by --sensitivity, or of one label by --threshold.

    For example `vtag labels set --sensitivity high`, or `vtag labels set archery --threshold 0.4`.
    """
    if label is not None and threshold is not None and sensitivity is None:
        _change(db, label, threshold)
    elif sensitivity is not None and label is None and threshold is None:
        _set_sensitivity(db, sensitivity)
    else:
        raise typer.BadParameter("say --sensitivity low, normal or high, or a LABEL and its --threshold")


@app.command("reset")
def reset_threshold(
    label: Annotated[
        str, typer.Argument(metavar="LABEL", help="Label of this library.", autocompletion=complete_label)
    ],
    db: Db = None,
) -> None:
    """Use the model's threshold for a label again."""
    _change(db, label, None)


def _set_sensitivity(db: Path | None, sensitivity: Sensitivity) -> None:
    from vtag.engine.library.certainty import SENSITIVITY_SETTING
    from vtag.engine.library.store.settings import save_setting

    effects = {"low": "fewer moments are sure", "normal": "as calibrated", "high": "more moments are sure"}
    with open_library(db) as library:
        save_setting(library, SENSITIVITY_SETTING, sensitivity)
    say(f"the sensitivity of this library is {sensitivity}: {effects[sensitivity]}")


def _change(db: Any, label: str, threshold: float | None) -> None:
    from vtag.engine.library.analysis import derive
    from vtag.engine.library.search.labels import nearest_labels, set_label_threshold
    from vtag.engine.library.store import heads

    with open_library(db) as library:
        if not set_label_threshold(library, label, threshold):
            suggestions = ", ".join(map(printable, nearest_labels(library.connection, label)))
            hint = f"near to it: {suggestions}" if suggestions else "`vtag labels` lists them"
            raise LibraryError(f"this library has no label {label!r}; {hint}")
        models = heads.models_with_label(library, label)
        moments = sum(counts.sure for model in models for _, counts in derive.retag(library, model))
        changed_heads = [heads.load_head(library, model) for model in models]
    rule = "as its model says" if threshold is None else f"from {threshold:g} on"
    say(f"{printable(label)} is found {rule}; of all labels, {pluralize(moments, 'moment')} derived anew")
    for head in changed_heads:
        if head.requested_threshold is not None and threshold is not None:
            say(
                f"but {printable(head.name)} was told --threshold {head.requested_threshold:g} for all its labels, "
                "which counts before that: `vtag retag --threshold auto` takes it back"
            )
