"""`vtag data`: the official lists of Kinetics out of a folder of videos, and any list held against what is there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import complain, is_terminal, put, put_json, say, talk_console
from vtag.app.options import Json
from vtag.engine.text import display_path, pluralize, printable

if TYPE_CHECKING:
    from vtag.trainer.data.checks import CheckedVideo
    from vtag.trainer.data.kinetics import KineticsFiles

app = typer.Typer(help="Prepare and check data sets.", no_args_is_help=True)

_MAX_NAMED = 20
_EXIT_BROKEN = 3  # the exit code where something is missing or broken, as of a scan with failed videos


@app.command()
def k400(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Folder with the official tables and the videos.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FOLDER", help="Output folder; default: FOLDER/lists."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Decode a piece of every video.")] = True,
    json: Json = False,
) -> None:
    """Write the lists of Kinetics-400 for the videos below FOLDER.

    Reports missing and broken videos.
    """
    from vtag.trainer.data.kinetics import LISTS, match_kinetics, write_lists

    kinetics = match_kinetics(folder)
    paths = sorted({sample.path for samples in kinetics.samples.values() for sample in samples})
    broken = _check(paths, folder) if check else []
    written = write_lists(kinetics, out or folder / LISTS, [video.path for video in broken])
    broken_paths = {video.path for video in broken}
    splits = {
        split: {
            "found": sum(sample.path not in broken_paths for sample in samples),
            "missing": len(kinetics.missing[split]),
            "broken": sum(sample.path in broken_paths for sample in samples),
            "unlabelled": kinetics.unlabelled[split],
        }
        for split, samples in kinetics.samples.items()
    }
    if json:
        put_json(
            {
                "splits": splits,
                "renamed": len(kinetics.renamed),
                **_broken_as_json(broken),
                "lists": list(map(str, written)),
            }
        )
    else:
        _put_splits(splits, kinetics, broken)
        for path in written:
            put(display_path(path))
    if any(row["missing"] or row["broken"] for row in splits.values()):
        raise typer.Exit(_EXIT_BROKEN)


@app.command()
def check(
    data: Annotated[
        Path, typer.Argument(metavar="LIST", help="List of `path label` lines, or a folder of class folders.")
    ],
    root: Annotated[
        Path | None, typer.Option(help="Root folder of the list's paths.", file_okay=False)
    ] = None,
    json: Json = False,
) -> None:
    """Check the videos of any list.

    Reports clips and classes, missing files, and files that cannot be decoded.
    """
    from vtag.trainer.data.dataset import read_dataset

    dataset = read_dataset(data, root=root)
    broken = _check([clip.path.absolute() for clip in dataset.clips], Path("/"))
    counts = Counter(clip.label for clip in dataset.clips)
    if json:
        put_json(
            {
                "clips": len(dataset.clips),
                "classes": dict(sorted(counts.items())),
                **_broken_as_json(broken),
                "remarks": list(dataset.remarks),
            }
        )
    else:
        for remark in dataset.remarks:
            complain(remark)
        _report_broken(broken)
        min_count, max_count = (min(counts.values()), max(counts.values())) if counts else (0, 0)
        put(
            f"{len(dataset.clips)} clips of {len(counts)} classes ({min_count} to {max_count} a class), "
            f"{len(broken)} broken, {len(dataset.remarks)} remarks"
        )
    if broken or dataset.remarks:
        raise typer.Exit(_EXIT_BROKEN)


def _check(paths: Sequence[Path], root: Path) -> list[CheckedVideo]:
    from vtag.trainer.data.checks import check_videos

    return [video for video in _with_progress_bar(check_videos(paths, root), len(paths)) if video.problem]


def _with_progress_bar(checked: Iterator[CheckedVideo], total: int) -> Iterator[CheckedVideo]:
    """The same, with a bar on a terminal."""
    if not is_terminal():
        yield from checked
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("checking"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=talk_console(), transient=True) as progress:
        yield from progress.track(checked, total=total)


def _broken_as_json(broken: Sequence[CheckedVideo]) -> dict[str, object]:
    return {
        "broken": [
            {"path": video.path.as_posix().encode("utf-8", "replace").decode(), "error": video.problem}
            for video in broken
        ]
    }


def _report_broken(broken: Sequence[CheckedVideo]) -> None:
    for video in broken[:_MAX_NAMED]:
        complain(f"{display_path(video.path)}: {video.problem}")
    if len(broken) > _MAX_NAMED:
        say(f"and {len(broken) - _MAX_NAMED} more that are broken (--json names all)")


def _put_splits(
    splits: dict[str, dict[str, int]], kinetics: KineticsFiles, broken: Sequence[CheckedVideo]
) -> None:
    _report_broken(broken)
    for path in kinetics.renamed[:_MAX_NAMED]:
        say(f"taken by the beginning of its name: {display_path(path)}")
    for split, rows in kinetics.missing.items():
        names = ", ".join(printable(row.youtube_id) for row in rows[:5])
        if rows:
            say(
                f"{split}: {pluralize(len(rows), 'video')} missing ({names}{' ...' if len(rows) > 5 else ''})"
            )
    for split, row in splits.items():
        put(
            f"{split:<6} {row['found']:>7} found  {row['missing']:>6} missing  {row['broken']:>5} broken"
            + (f"  {row['unlabelled']} rows without a label" if row["unlabelled"] else "")
        )
