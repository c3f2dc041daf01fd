"""`vtag tag` and `vtag words`: what a person says of moments, taken back in order, kept in a file of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.completions import complete_label
from vtag.app.console import complain, put, put_json, say
from vtag.app.options import Db, Json, parse_time_option, within_integers
from vtag.app.times import format_clock_range
from vtag.engine.errors import LibraryError
from vtag.engine.library.timestamps import local_minute
from vtag.engine.system.atomic_write import atomic_path
from vtag.engine.text import display_path, pluralize, printable, text_lines

if TYPE_CHECKING:
    from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
    from vtag.engine.library.database import LibraryWriter

tag = typer.Typer(help="Add, confirm, reject or rename tags.", no_args_is_help=True)
words = typer.Typer(help="List, export and import your annotations.", invoke_without_command=True)

_NO_ANNOTATIONS = "there are no annotations of yours yet: `vtag tag add`, `confirm` and `reject` make them"


def _parse_id(text: str) -> int:
    """A moment's id. Raises BadParameter."""
    if text.isascii() and text.isdecimal():
        return int(text)
    raise typer.BadParameter(f"{text!r} is no moment id: `vtag search` prints them first in each line")


Ids = Annotated[
    list[int],
    typer.Argument(metavar="ID", parser=_parse_id, help="Moment ids, as `vtag search` prints them."),
]


@tag.command()
def add(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Video, scanned or not.")],
    label: Annotated[
        str, typer.Argument(metavar="LABEL", help="Label, new or known.", autocompletion=complete_label)
    ],
    start: Annotated[
        int | None,
        typer.Option(
            "--from",
            parser=parse_time_option,
            metavar="TIME",
            help="Start time, such as 1:23.5; default: the whole video.",
        ),
    ] = None,
    end: Annotated[
        int | None, typer.Option("--to", parser=parse_time_option, metavar="TIME", help="End time.")
    ] = None,
    db: Db = None,
) -> None:
    """Add LABEL to FILE, or to a part of it."""
    from vtag.engine.library.annotations import annotation_log
    from vtag.engine.library.annotations.player_times import range_on_library_clock
    from vtag.engine.scan.content_facts import register_video

    with open_library(db, new=True) as library:
        content_id = register_video(library, os.fsencode(file))
        start, end = range_on_library_clock(library.connection, content_id, start, end)
        _say_change(library, annotation_log.add(library, content_id, label, start, end))


@tag.command()
def confirm(ids: Ids, db: Db = None) -> None:
    """Confirm that moments show their label."""
    from vtag.engine.library.annotations import annotation_log

    with open_library(db) as library:
        _say_change(library, annotation_log.confirm(library, ids))


@tag.command()
def reject(ids: Ids, db: Db = None) -> None:
    """Reject moments: searches no longer find them."""
    from vtag.engine.library.annotations import annotation_log

    with open_library(db) as library:
        _say_change(library, annotation_log.reject(library, ids))


@tag.command()
def rename(
    ids: Ids,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="Correct label.")],
    db: Db = None,
) -> None:
    """Replace the label of moments."""
    from vtag.engine.library.annotations import annotation_log

    with open_library(db) as library:
        _say_change(library, annotation_log.rename(library, ids, label))


@tag.command()
def undo(db: Db = None) -> None:
    """Undo the latest change."""
    from vtag.engine.library.annotations import undo_redo

    with open_library(db) as library:
        line = _player_line(library, undo_redo.undo(library))
    say(f"undone: {line}")


@tag.command()
def log(
    limit: Annotated[
        int, typer.Option(min=1, callback=within_integers, help="Maximum number of changes.")
    ] = 50,
    json: Json = False,
    db: Db = None,
) -> None:
    """List your changes, latest first."""
    from vtag.app.query_options import open_library_reader
    from vtag.engine.library.annotations import annotation_log
    from vtag.engine.library.annotations.annotation_file import content_paths
    from vtag.engine.library.annotations.player_times import change_on_player_clock

    with open_library_reader(db) as reader:
        changes = [change_on_player_clock(reader, c) for c in annotation_log.list_changes(reader, limit)]
        paths = content_paths(
            reader, (annotation.content for change in changes for annotation in change.before + change.after)
        )
    if json:
        put_json([_change_as_json(change) for change in changes])
        return
    for change in changes:
        undone = "  (undone)" if change.undone_at else ""
        contents = {annotation.content for annotation in change.after or change.before}
        place = paths[contents.pop()][1] if len(contents) == 1 else f"in {len(contents)} videos"
        put(f"{local_minute(change.at)}  {_line(change)}{f'  {place}' if place else ''}{undone}")
    if not changes:
        complain(_NO_ANNOTATIONS)


@words.callback()
def list_words(
    context: typer.Context,
    homeless: Annotated[
        bool, typer.Option("--homeless", help="Annotations without a video: it is gone or became another.")
    ] = False,
    json: Json = False,
    db: Db = None,
) -> None:
    """List your annotations, oldest first."""
    if context.invoked_subcommand:
        return
    from vtag.app.query_options import open_library_reader
    from vtag.engine.library.annotations import annotation_file, annotation_log
    from vtag.engine.library.annotations.player_times import annotations_on_player_clock

    with open_library_reader(db) as reader:
        if homeless:
            rows = annotation_file.orphaned_annotations(reader)
        else:
            annotations = annotation_log.list_annotations(reader)
            paths = annotation_file.content_paths(reader, (annotation.content for annotation in annotations))
            rows = [(annotation, paths[annotation.content][1]) for annotation in annotations]
        times = annotations_on_player_clock(reader, (annotation for annotation, _ in rows))
        rows = [(annotation, path) for annotation, (_, path) in zip(times, rows, strict=True)]
    if json:
        put_json([{**annotation._asdict(), "path": path} for annotation, path in rows])
        return
    for annotation, path in rows:
        put(
            f"{local_minute(annotation.said_at)}  {annotation.verdict:<9}  {_named(annotation)}  "
            f"{path or annotation.content}"
        )
    if not rows:
        complain("every annotation has its video" if homeless else _NO_ANNOTATIONS)


@words.command("export")
def export_words(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output file, or - for stdout.")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    db: Db = None,
) -> None:
    """Write your annotations to FILE, one JSON object a line."""
    from vtag.app.query_options import open_library_reader
    from vtag.engine.library.annotations.annotation_file import export_lines

    with open_library_reader(db) as reader:
        lines = list(export_lines(reader))
    if str(file) == "-":
        for line in lines:
            put(line)
        return
    if file.exists() and not force:
        raise LibraryError(f"{display_path(file)} is there already: say --force to write over it")
    _write(file, lines)
    say(f"wrote {pluralize(len(lines), 'annotation')} to {display_path(file)}")


@words.command("import")
def import_words(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="File of `words export`, or - for stdin.")],
    db: Db = None,
) -> None:
    """Merge the annotations of FILE into the library.

    Of two annotations on the same label and range, the later one counts.
    """
    from vtag.engine.library.annotations.annotation_file import (
        LONGEST_LINE,
        import_lines,
        orphaned_annotations,
    )

    def lines() -> Iterator[bytes]:
        with open(0, "rb", closefd=False) if str(file) == "-" else file.open("rb") as source:
            for line in text_lines(source, LONGEST_LINE + 1):
                yield line.encode("utf-8", "surrogateescape")

    with open_library(db, new=True) as library:
        try:
            change, count = import_lines(library, lines(), display_path(file))
        except OSError as error:
            raise LibraryError(f"{display_path(file)} cannot be read: {error.strerror or error}") from error
        waiting = {annotation.content for annotation, _ in orphaned_annotations(library.connection)}
    say(
        f"read {pluralize(count, 'annotation')}: {len(change.after)} taken, {count - len(change.after)} known already"
    )
    if waiting_count := sum(annotation.content in waiting for annotation in change.after):
        say(
            f"{pluralize(waiting_count, 'annotation')} {'waits' if waiting_count == 1 else 'wait'} "
            "for a scan to find the video"
        )


AnnotatedLabel = Annotated[
    str, typer.Argument(metavar="LABEL", help="Label of your annotations.", autocompletion=complete_label)
]


@words.command("rename")
def rename_words(
    label: AnnotatedLabel,
    name: Annotated[str, typer.Argument(metavar="NAME", help="New name.")],
    db: Db = None,
) -> None:
    """Rename LABEL in all your annotations; `vtag tag undo` reverts it."""
    from vtag.engine.library.annotations import annotation_log

    with open_library(db) as library:
        _say_change(library, annotation_log.rename_label(library, label, name))
        _say_taught(library, label)


@words.command("remove")
def remove_words(label: AnnotatedLabel, db: Db = None) -> None:
    """Remove all your annotations of LABEL; `vtag tag undo` reverts it."""
    from vtag.engine.library.annotations import annotation_log

    with open_library(db) as library:
        _say_change(library, annotation_log.remove_label(library, label))
        _say_taught(library, label)


def _say_taught(library: LibraryWriter, label: str) -> None:
    """A model that learned a label before goes on finding it under that name: that is not left unsaid."""
    from vtag.engine.library.store import heads

    for model in heads.models_with_label(library, label):
        name = printable(heads.load_head(library, model).name)
        say(f"the model {name} still finds {printable(label)}; taught anew (`vtag finetune`), it would not")


@contextmanager
def open_library(db: Path | None, *, new: bool = False) -> Iterator[LibraryWriter]:
    """The library, open for writing. Raises LibraryError where there is none, unless a `new` one may be made."""
    from vtag.engine.library.database import LibraryWriter
    from vtag.engine.paths import library_path

    path = library_path(db)
    if not new and not path.is_file():
        raise LibraryError(f"there is no library at {display_path(path)} yet: `vtag scan FOLDER` makes one")
    with LibraryWriter.open(path) as library:
        yield library


def _write(file: Path, lines: Iterable[str]) -> None:
    """The whole file or none of it; what a person said is theirs alone to read."""
    try:
        with atomic_path(file, mode=0o600) as part, part.open("w", encoding="utf-8") as target:
            target.writelines(f"{line}\n" for line in lines)
    except OSError as error:
        raise LibraryError(f"{display_path(file)} cannot be written: {error.strerror or error}") from error


def _say_change(library: LibraryWriter, change: AnnotationChange) -> None:
    say(_player_line(library, change) if change.id else "that was said already: nothing changed")


def _player_line(library: LibraryWriter, change: AnnotationChange) -> str:
    """`_line` with the times of the player."""
    from vtag.engine.library.annotations.player_times import change_on_player_clock

    return _line(change_on_player_clock(library.connection, change))


def _line(change: AnnotationChange) -> str:
    """A change in one line: what was done to which moment, or to how many."""
    changed = [
        annotation
        for annotation in change.after
        if annotation.verdict != "rejected" or change.action != "renamed"
    ]
    changed = changed or list(change.before)
    if len(changed) == 1:
        return f"{change.action} {_named(changed[0])}"
    noun = "moment" if change.action in ("added", "confirmed", "rejected") else "annotation"
    return f"{change.action} {pluralize(len(changed), noun)}"


def _named(annotation: Annotation) -> str:
    if annotation.start_ms is None or annotation.end_ms is None:
        return f"{printable(annotation.label)} (all of it)"
    return f"{printable(annotation.label)} {format_clock_range(annotation.start_ms, annotation.end_ms)}"


def _change_as_json(change: AnnotationChange) -> dict[str, object]:
    return {
        **change._asdict(),
        "before": [annotation._asdict() for annotation in change.before],
        "after": [annotation._asdict() for annotation in change.after],
    }
