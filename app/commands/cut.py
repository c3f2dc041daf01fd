"""`vtag cut`: moments as video files."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import complain, is_terminal, put, say
from vtag.app.options import Db, within_integers
from vtag.app.query_options import (
    Maybe,
    MinScore,
    ModelFilter,
    Query,
    SensitivityOption,
    Sort,
    explain_empty_result,
    min_margin,
    open_library_reader,
    query_text,
    report_everyday_terms,
)
from vtag.app.times import format_clock
from vtag.app.video_clocks import read_clock
from vtag.engine.clip_stems import clip_stems
from vtag.engine.errors import VideoError, VtagError
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment


def cut(
    query: Query,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Output folder; created if missing.")
    ],
    reencode: Annotated[
        bool, typer.Option("--reencode", help="Encode exact cuts (H.264, AAC) instead of copying.")
    ] = False,
    name: Annotated[
        str,
        typer.Option(
            metavar="TEMPLATE",
            help="File name from {name} {label} {start} {end} {score} {id} {number}; the extension is added.",
        ),
    ] = "{name} {start} {label}",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the names and stop.")] = False,
    maybe: Maybe = False,
    sensitivity: SensitivityOption = None,
    min_score: MinScore = 0.0,
    limit: Annotated[
        int | None, typer.Option(min=1, callback=within_integers, help="Maximum number of clips.")
    ] = None,
    sort: Sort = "score",
    model: ModelFilter = None,
    db: Db = None,
) -> None:
    """Write moments as video files.

    A copied clip begins at the key frame before its moment; --reencode is exact.
    """
    from vtag.engine.library.search.moments import search
    from vtag.engine.library.search.player_times import MomentClocks
    from vtag.engine.video.write.clip_names import check_template

    check_template(name)
    with open_library_reader(db) as reader:
        text = query_text(query)
        report_everyday_terms(reader, text)
        moments = search(
            reader,
            text,
            min_score=min_score,
            limit=limit,
            model=model,
            sort=sort,
            less_sure="all" if maybe else "none",
            min_margin=min_margin(sensitivity),
        )
        if not moments:
            complain(explain_empty_result(reader, text, is_sure_only=not maybe))
            return
        player_moments = MomentClocks(reader, read_clock).to_player(moments)
    stems = clip_stems(moments, player_moments, name, os.fsencode(output.expanduser()))
    if dry_run:
        for moment, (_, stem) in zip(player_moments, stems, strict=True):
            span = f"{format_clock(moment.start_ms)}-{format_clock(moment.end_ms)}"
            put(f"{display_path(stem)}  {span} of {display_path(moment.path)}")
        return
    _make_folder(output)
    written = existing = failed = 0
    losses: Counter[str] = Counter()  # what clips lack, and in how many
    for moment, stem in _with_progress_bar(stems):
        outcome = _cut_one(moment, stem, losses, reencode=reencode)
        written += outcome == "written"
        existing += outcome == "there"
        failed += outcome == "failed"
    existing_note = f", {existing} were there already" if existing else ""
    say(
        f"{pluralize(written, 'clip')} written{existing_note}"
        + (f", {failed} could not be" if failed else "")
    )
    if losses:
        say(f"not kept: {', '.join(_loss_text(loss, count, written) for loss, count in losses.items())}")
    if failed:
        raise typer.Exit(3)


def _loss_text(loss: str, count: int, clips: int) -> str:
    return loss if count == clips else f"{loss} (in {pluralize(count, 'clip')})"


def _cut_one(moment: Moment, stem: bytes, losses: Counter[str], *, reencode: bool) -> str:
    from vtag.engine.video.write import cut as cutting

    suffixes = cutting.candidate_suffixes(moment.path, reencode=reencode)
    if any(os.path.lexists(stem + suffix.encode()) for suffix in suffixes):
        return "there"
    try:
        done = cutting.cut(moment.path, moment.start_ms, moment.end_ms, stem, reencode=reencode)
    except VideoError as error:
        complain(str(error))
        return "failed"
    put(display_path(done.path))
    losses.update(done.not_kept)
    return "written"


def _with_progress_bar(stems: list[tuple[Moment, bytes]]) -> Iterator[tuple[Moment, bytes]]:
    """The clips in order, with a progress bar at a terminal."""
    if not is_terminal() or len(stems) < 2:
        yield from stems
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from vtag.app.console import talk_console

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # Paths that go to a pipe are data and stay on stdout
    at_terminal = sys.stdout.isatty()
    with Progress(*columns, console=talk_console(), transient=True, redirect_stdout=at_terminal) as progress:
        task = progress.add_task("", total=len(stems))
        for moment, stem in stems:
            progress.update(task, description=printable(moment.label))
            yield moment, stem
            progress.advance(task)


def _make_folder(output: Path) -> None:
    try:
        output.expanduser().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VtagError(f"{display_path(output)} cannot be made a folder: {error.strerror}") from error
