"""`vtag library`: the upkeep of a library as a whole."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vtag.app.commands.annotate import open_library
from vtag.app.console import ask_yes_no, can_ask, put, put_json, say
from vtag.app.options import Db, Json
from vtag.app.results import put_path
from vtag.app.times import format_clock_range, format_time_span
from vtag.engine.errors import LibraryError
from vtag.engine.library.timestamps import local_minute
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from sqlite3 import Connection

    from vtag.engine.library.annotations.annotation_log import Annotation
    from vtag.engine.library.maintenance.backup import Backup
    from vtag.engine.library.maintenance.info import LibraryInfo
    from vtag.engine.library.merge.merge import MergeReport

app = typer.Typer(help="Look after a library: size, checks, backups, merging.", no_args_is_help=True)

_SIGNS = {"ok": "ok   ", "note": "note ", "wrong": "WRONG"}


@app.command()
def info(json: Json = False, db: Db = None) -> None:
    """Print what the library contains, and its backups."""
    from vtag.engine.library.maintenance.info import read_info
    from vtag.engine.paths import library_path

    contents = read_info(library_path(db))
    if json:
        put_json(_as_json(contents))
        return
    for name, text in _lines(contents):
        put(f"{name:<12} {text}")


@app.command("path")
def print_path(db: Db = None) -> None:
    """Print the path of the library's file, for other programs."""
    from vtag.engine.paths import library_path

    file = library_path(db)
    if not file.is_file():
        raise LibraryError(f"there is no library at {display_path(file)} yet: `vtag scan FOLDER` makes one")
    put_path(os.fsencode(file))


@app.command()
def check(json: Json = False, db: Db = None) -> None:
    """Check both files of the library; changes nothing.

    Exit code 1 if something is wrong.
    """
    from vtag.engine.library.maintenance.check import check as run_checks
    from vtag.engine.paths import library_path

    findings = []
    for finding in run_checks(library_path(db)):
        findings.append(finding)
        if not json:
            remedy = f"  -> {finding.remedy}" if finding.remedy else ""
            put(f"{_SIGNS[finding.state]}  {finding.subject:<12} {printable(finding.message)}{remedy}")
    if json:
        put_json([asdict(finding) for finding in findings])
    if any(finding.state == "wrong" for finding in findings):
        raise typer.Exit(1)


@app.command()
def backup(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="FILE", help="Copy to write; default: a dated file beside the library."),
    ] = None,
    features: Annotated[
        bool,
        typer.Option(
            "--features/--no-features", help="Include the features, which a scan can compute again."
        ),
    ] = True,
    replace: Annotated[bool, typer.Option("--replace", help="Replace FILE, an earlier backup.")] = False,
    db: Db = None,
) -> None:
    """Copy the library, even while a scan writes to it.

    The copy is a library, too: `--db FILE` opens it.
    """
    from vtag.engine.library.maintenance.backup import back_up
    from vtag.engine.paths import library_path

    target = file.expanduser().absolute() if file else None
    made = back_up(library_path(db), target, with_features=features, replace=replace)
    put(display_path(made.path))


@app.command()
def restore(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Backup; default: the latest beside the library.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the question.")] = False,
    db: Db = None,
) -> None:
    """Go back to a backup, as `backup` or an update of vtag made it.

    What the library contained before is kept beside it.
    """
    from vtag.engine.library.maintenance import backup as backups
    from vtag.engine.paths import library_path

    library = library_path(db)
    source = file.expanduser().absolute() if file else _latest(backups.list_backups(library), library)
    backups.require_backup(library, source)
    question = f"replace {display_path(library)} by {display_path(source)}?"
    if not yes and not can_ask():
        raise LibraryError(f"{question} say --yes")
    if not yes and not ask_yes_no(question):
        raise LibraryError("nothing was changed")
    former = backups.restore(library, source)
    say(
        f"restored {display_path(source)}"
        + (f"; the former content is in {display_path(former)}" if former else "")
    )


@app.command()
def vacuum(db: Db = None) -> None:
    """Return unused space of the library's files to the disk."""
    from vtag.engine.library.maintenance.backup import vacuum as run_vacuum

    with open_library(db) as library:
        for file in run_vacuum(library):
            say(f"{display_path(file.path)}: {_size(file.before_bytes)} -> {_size(file.after_bytes)}")


@app.command()
def merge(
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", help="Libraries to add, such as the shards of a scan.")
    ],
    json: Json = False,
    db: Db = None,
) -> None:
    """Add other libraries to this one.

    The same content is one video. Annotations come along; of two the later counts. Merging again changes nothing.
    """
    from vtag.engine.library.database import LibraryWriter, open_unmigrated
    from vtag.engine.library.maintenance.backup import back_up_before
    from vtag.engine.library.merge.merge import merge as run_merge
    from vtag.engine.library.merge.merge import require_other
    from vtag.engine.paths import library_path

    target = library_path(db)
    is_new = not target.exists()
    others = [file.expanduser().absolute() for file in files]
    for path in others:  # raises, before anything is written
        require_other(target, path)
        open_unmigrated(path).close()
    reports = []
    with LibraryWriter.open(target) as library:
        if not is_new:
            say(f"{display_path(back_up_before(target, 'merge'))} keeps the library as it was")
        for path in others:
            report = run_merge(library, path)
            reports.append({"library": display_path(path), **asdict(report)})
            say(
                f"{display_path(path)}: {pluralize(report.videos, 'new video')}, "
                f"{pluralize(report.windows, 'window')}, {pluralize(report.annotations, 'annotation')}, "
                f"{pluralize(report.models, 'model')}"
            )
            for line in _conflict_lines(library.connection, report):
                say(f"conflict: {line}")
    if json:
        put_json(reports)


def _conflict_lines(reader: Connection, report: MergeReport) -> Iterator[str]:
    """A line for each contradiction between two libraries."""
    from vtag.engine.library.annotations.annotation_file import content_paths
    from vtag.engine.library.annotations.player_times import annotations_on_player_clock

    pairs = report.annotation_conflicts
    paths = content_paths(reader, (a.content for pair in pairs for a in pair if a))
    for pair in pairs:
        own, other = (
            annotation and annotations_on_player_clock(reader, [annotation])[0] for annotation in pair
        )
        annotation = own or other
        assert annotation is not None
        where = paths[annotation.content][1] or annotation.content
        verdicts = f"{_verdict(own)} here, {_verdict(other)} there"
        yield f"{where}: {printable(annotation.label)}: {verdicts}; the later counts"
    for conflict in report.conflicts:
        yield f"{printable(conflict.subject)}: {conflict.own} here, {conflict.other} there; {conflict.kept} counts"


def _verdict(annotation: Annotation | None) -> str:
    """An annotation's verdict, range and date; or that it was removed."""
    if annotation is None:
        return "removed"
    start_ms, end_ms = annotation.range_ms
    extent = "all of it" if annotation.end_ms is None else format_clock_range(start_ms, end_ms)
    return f"{annotation.verdict} ({extent}, {local_minute(annotation.said_at)})"


def _latest(backups: list[Backup], library: Path) -> Path:
    if not backups:
        raise LibraryError(f"there is no backup beside {display_path(library)}: name its FILE")
    return backups[0].path


def _lines(contents: LibraryInfo) -> list[tuple[str, str]]:
    """Name and text of each line of `info`."""
    lines = [
        ("library", f"{display_path(contents.path)}, {_size(contents.size_bytes)}, {contents.schema}"),
        ("features", f"{display_path(contents.features_path)}, {_size(contents.features_size_bytes)}"),
        (
            "videos",
            f"{contents.videos} ({format_time_span(contents.video_ms / 1000)}), {contents.unreadable} unreadable, "
            f"in {pluralize(contents.files, 'file')}, {contents.missing_files} of them missing",
        ),
        (
            "moments",
            f"{contents.moments} sure of {pluralize(contents.labels, 'label')}, "
            f"from {pluralize(contents.windows, 'window')}",
        ),
        ("annotations", f"{contents.annotations}, {pluralize(contents.changes, 'change')} in the log"),
    ]
    if contents.bytes_per_hour is not None:
        lines.append(("per hour", f"{_size(contents.bytes_per_hour)} an hour of video"))
    if contents.unused_bytes:
        lines.append(
            ("unused", f"{_size(contents.unused_bytes)} (`vtag library vacuum` returns it to the disk)")
        )
    for model in contents.models:
        used = ", the library's model" if model.is_used else ""
        counts = f"{pluralize(model.labels, 'label')}, {pluralize(model.videos, 'video')}"
        lines.append(("model", f"{printable(model.name)}: {counts}{used}"))
    lines += [
        ("backup", f"{display_path(b.path)}, {_size(b.size_bytes)}, {b.schema}") for b in contents.backups
    ]
    return lines


def _as_json(contents: LibraryInfo) -> dict[str, Any]:
    return {
        **asdict(contents),
        "path": display_path(contents.path),
        "features_path": display_path(contents.features_path),
        "bytes_per_hour": contents.bytes_per_hour and round(contents.bytes_per_hour),
        "backups": [{**asdict(backup), "path": display_path(backup.path)} for backup in contents.backups],
    }


def _size(size_bytes: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size_bytes < 1000:
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:.1f} GB"
