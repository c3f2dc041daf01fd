"""`vtag retag`, `forget`, `clean` and `relocate`: derive anew, and keep what is known of files true."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.commands.annotate import open_library
from vtag.app.console import ask_yes_no, can_ask, put_json, say
from vtag.app.options import Db, Json, Threshold, parse_threshold
from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path, join_parts, pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.library.maintenance.clean import CleanPlan
    from vtag.engine.library.maintenance.forget import ForgetPlan

_MAX_LISTED = 20


def retag(
    threshold: Threshold = None,
    model: Annotated[
        str | None,
        typer.Option(metavar="NAME|PATH", help="Model whose backbone was used in a scan."),
    ] = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Derive all moments again; opens no video."""
    from vtag.engine.library.analysis import derive
    from vtag.engine.library.maintenance.forget import forget_replaced_models
    from vtag.engine.library.store import heads
    from vtag.engine.scan.model_selection import resolve_model_id

    parsed_threshold = parse_threshold(threshold)
    with open_library(db) as library:
        model_id = resolve_model_id(library, model)
        if parsed_threshold is not None:
            heads.set_model_threshold(
                library, model_id, None if parsed_threshold == "auto" else parsed_threshold
            )
        counts = [count for _, count in derive.retag(library, model_id)]
        forget_replaced_models(library, model_id)
        name = heads.load_head(library, model_id).name
    if not counts:
        raise LibraryError(
            f"nothing was seen with the backbone of {printable(name)}: `vtag scan --model` first"
        )
    sure, less_sure = (sum(column) for column in zip(*counts, strict=True))
    if json:
        put_json({"model": name, "videos": len(counts), "moments": sure, "less_sure": less_sure})
    videos = pluralize(len(counts), "video")
    say(
        f"{printable(name)}: {pluralize(sure, 'moment')} in {videos}, {less_sure} less sure; no video was opened"
    )


def forget(
    path: Annotated[
        Path | None, typer.Argument(metavar="PATH", help="File or folder; it need not exist any more.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Model to forget, in place of PATH.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the question.")] = False,
    words: Annotated[bool, typer.Option("--words", help="Include your annotations.")] = False,
    db: Db = None,
) -> None:
    """Remove a file, folder or model's data.

    The videos themselves stay.
    """
    from vtag.engine.library.maintenance import forget as forgetting

    if (path is None) == (model is None):
        raise typer.BadParameter("say what to forget: a PATH or a --model")
    if model is not None:
        _forget_model(model, yes, db)
        return
    assert path is not None
    with open_library(db) as library:
        plan = forgetting.plan_forget(library, os.fsencode(path))
        forgetting.refuse_annotation_loss(plan, is_confirmed=words)
        _ask(f"forget {_forgotten(plan)}?", yes)
        forgetting.forget(library, plan, with_annotations=words)
    say(f"forgot {_forgotten(plan)}")


def _forgotten(plan: ForgetPlan) -> str:
    """What `forget` removes: files, what was found in those without another copy, annotations."""
    parts = [pluralize(len(plan.files), "file")]
    if plan.annotations:
        parts.append(f"{pluralize(plan.annotations, 'annotation')} of yours")
    if plan.contents:
        parts.append(f"what was found in {pluralize(len(plan.contents), 'video')}")
    return join_parts(parts)


def _forget_model(model: str, yes: bool, db: Path | None) -> None:
    from vtag.engine.library.maintenance import forget as forgetting
    from vtag.engine.library.store import heads

    with open_library(db) as library:
        model_id = heads.require_model(library, model)
        name = printable(heads.load_head(library, model_id).name)
        _ask(f"forget {name} and its moments?", yes)
        count = forgetting.forget_model(library, model_id)
    say(f"forgot {name} and its {pluralize(count, 'moment')}; features and annotations stay")


def clean(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the question.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Print every file.")] = False,
    db: Db = None,
) -> None:
    """Remove the data of deleted files.

    Your annotations of them stay.
    """
    from vtag.engine.library.maintenance import clean as cleaning

    with open_library(db) as library:
        gone = cleaning.plan_clean(library)
        for root, count in gone.absent_roots:
            files = pluralize(count, "file")
            say(f"{root} is gone as a whole, with {files}: left alone (`vtag forget` it if that is meant)")
        if not (gone.files or gone.contents or gone.stale_observations):
            say("there is nothing to remove")
            return
        listed = gone.files if verbose else gone.files[:_MAX_LISTED]
        for _, path in listed:
            say(f"gone: {path}")
        if len(gone.files) > len(listed):
            say(f"and {len(gone.files) - len(listed)} more (--verbose names them)")
        _ask(f"remove {_cleaned(gone)}?", yes)
        cleaning.clean(library, gone)
    say(f"removed {_cleaned(gone)}")


def _cleaned(plan: CleanPlan) -> str:
    """What `clean` removes, and what stays."""
    parts = []
    if plan.files:
        parts.append(f"the data of {pluralize(len(plan.files), 'deleted file')}")
    if plan.contents:
        parts.append(f"what was found in {pluralize(len(plan.contents), 'video')} without any file")
    if plan.stale_observations:
        parts.append(f"the features of {pluralize(plan.stale_observations, 'video')} that nothing uses")
    stays = f" ({pluralize(plan.annotations, 'annotation')} of yours {'stays' if plan.annotations == 1 else 'stay'})"
    return join_parts(parts) + (stays if plan.annotations else "")


def relocate(
    old: Annotated[Path, typer.Argument(metavar="OLD", help="Former path of the folder.")],
    new: Annotated[Path, typer.Argument(metavar="NEW", help="Current path.")],
    db: Db = None,
) -> None:
    """Move a folder's data to its new path.

    For example of a disk that is mounted under another name.
    """
    from vtag.engine.library.maintenance.clean import relocate as move

    with open_library(db) as library:
        count, existing = move(library, os.fsencode(old), os.fsencode(new))
    say(
        f"{pluralize(count, 'file')} moved to {display_path(new)} in the library; {existing} of them there now"
    )


def _ask(question: str, yes: bool) -> None:
    if yes:
        return
    if not can_ask():
        raise LibraryError(f"{question} say --yes")
    if not ask_yes_no(question):
        raise LibraryError("nothing was forgotten")
