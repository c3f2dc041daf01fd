"""`vtag export`: moments in the formats of other programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtag.app.console import complain, put, put_text, say
from vtag.app.options import Db
from vtag.app.query_options import (
    Maybe,
    MinScore,
    ModelFilter,
    Query,
    SensitivityOption,
    explain_empty_result,
    min_margin,
    open_library_reader,
    query_text,
    report_everyday_terms,
)
from vtag.app.sidecars import labels_by_file
from vtag.app.video_clocks import read_clock, read_has_sound
from vtag.engine.errors import VtagError
from vtag.engine.text import display_path, pluralize

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def export(
    query: Query,
    format: Annotated[
        Literal[
            "mpv",
            "m3u8",
            "srt",
            "vtt",
            "chapters",
            "matroska",
            "csv",
            "kdenlive",
            "fcpxml",
            "otio",
            "edl",
            "xmp",
            "nfo",
            "json",
        ],
        typer.Option("--format", help="Output format.", show_choices=False, metavar="FORMAT"),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            metavar="PATH",
            help="Output file, or FOLDER/ for one file a video; default: stdout.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Overwrite existing files.")] = False,
    maybe: Maybe = False,
    sensitivity: SensitivityOption = None,
    min_score: MinScore = 0.0,
    model: ModelFilter = None,
    db: Db = None,
) -> None:
    from vtag.engine.library.exports import (
        FORMATS,
        SIDECARS,
        WITH_SOUND,
        exported_moments,
        files,
        format_writer,
    )
    from vtag.engine.library.exports.edl import describe_mixed_rates
    from vtag.engine.library.search.moments import search

    with open_library_reader(db) as reader:
        text = query_text(query)
        report_everyday_terms(reader, text)
        rows = search(
            reader,
            text,
            min_score=min_score,
            model=model,
            limit=None,
            less_sure="all" if maybe else "none",
            min_margin=min_margin(sensitivity),
        )
        has_sound = read_has_sound if format in WITH_SOUND else lambda _: True
        moments = exported_moments.with_video_details(reader, rows, read_clock, has_sound)
        if not moments:
            complain(explain_empty_result(reader, text, is_sure_only=not maybe))
    target = None if output is None else os.fsencode(output)
    if format == "edl" and (notice := describe_mixed_rates(moments)):
        say(notice)
    if format in SIDECARS:
        _write_sidecars(moments, target, format)
        return
    videos = files.group_by_video(moments)
    format_info = FORMATS[format]
    if not format_info.is_of_one_video or (len(videos) <= 1 and not _is_folder(target)):
        selected = (
            moments if not format_info.is_of_one_video else [m for of_one in videos.values() for m in of_one]
        )
        _write_one(format_writer(format)(selected), target, overwrite)
        return
    if target is None:
        raise VtagError(
            f"the format {format} is for one video, and {len(videos)} were found: name a folder with -o"
        )
    _make_folder(target)
    for video, path in files.export_paths(list(videos), target, format_info.suffix).items():
        files.write_new(path, format_writer(format)(videos[video]), overwrite=overwrite)
        put(display_path(path))


def _write_one(text: str, target: bytes | None, overwrite: bool) -> None:
    from vtag.engine.library.exports import files

    if target is None:
        put_text(text)
    else:
        files.write_new(target, text, overwrite=overwrite)
        say(f"wrote {display_path(target)}")


def _write_sidecars(moments: list[ExportedMoment], folder: bytes | None, format: str) -> None:
    """Write a sidecar beside each video, or all into `folder`; a sidecar that cannot be merged is reported."""
    from vtag.engine.library.exports import FORMATS, files, nfo, xmp

    if folder is not None:
        _make_folder(folder)
    labels = labels_by_file(moments, with_copies=folder is None)
    paths = {video: nfo.nfo_path(video) if format == "nfo" else video + b".xmp" for video in labels}
    if folder is not None:
        extra = b"" if format == "nfo" else b".x"  # an XMP sidecar keeps the video's own extension
        names = files.export_paths([video + extra for video in labels], folder, FORMATS[format].suffix)
        paths = {video: names[video + extra] for video in labels}
    failed = changed = 0
    for video, of_one in labels.items():
        path = paths[video]
        try:
            is_changed = (
                nfo.merge_into(video, path, of_one) if format == "nfo" else xmp.merge_into(path, of_one)
            )
        except VtagError as error:
            failed += 1
            complain(str(error))
            continue
        if is_changed:
            changed += 1
            put(display_path(path))
    say(f"{pluralize(changed, 'sidecar')} written, {len(labels) - changed - failed} had all keywords already")
    if failed:
        raise typer.Exit(3)


def _is_folder(target: bytes | None) -> bool:
    """Whether `target` is a folder, or is written like one: `subtitles/`."""
    return target is not None and (not os.path.basename(target) or os.path.isdir(target))


def _make_folder(path: bytes) -> None:
    try:
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise VtagError(f"{display_path(path)} cannot be made a folder: {error.strerror}") from error


def _help() -> str:
    """The help of `export`: each format with the programs that read it."""
    from vtag.engine.library.exports import FORMATS

    lines = [f"{name:9} {info.programs}" for name, info in FORMATS.items()]
    return "\n".join(("Write moments for other programs.", "", "\b", "Formats:", *lines))


export.__doc__ = _help()
