"""Prints moments: lines for people, JSON, CSV and paths for programs."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.app.console import dim, put, put_json
from vtag.app.times import format_clock_range
from vtag.engine.library.exports.json import moment_as_json, path_as_json
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment

MAX_LABEL_CELLS = 28  # of a label column


def put_moments(moments: Sequence[Moment], *, json: bool = False) -> None:
    """Print one line a moment: its id (for `vtag tag`), score, time, label, path.

    Less sure moments are marked by a question mark behind the score; at a terminal a line comes before them.
    """
    if json:
        put_json([moment_as_json(m) for m in moments])
        return
    previous_is_sure = True
    for m, line in zip(moments, moment_lines(moments), strict=True):
        if previous_is_sure and not m.sure and sys.stdout.isatty():
            put(dim("less sure:"))
        previous_is_sure = m.sure
        put(line)


def moment_lines(moments: Sequence[Moment]) -> list[str]:
    """One line a moment: its id (for `vtag tag`), score, time, label, path."""
    width = min(MAX_LABEL_CELLS, max((cell_width(printable(m.label)) for m in moments), default=0))
    digits = len(str(max((m.id for m in moments), default=0)))
    lines = []
    for m, score in zip(moments, _marked_scores(moments), strict=True):
        label = printable(m.label)
        label += " " * (width - cell_width(label))
        lines.append(
            f"{m.id:>{digits}}  {score}  {format_clock_range(m.start_ms, m.end_ms)}  {label}  {_path(m)}"
        )
    return lines


def put_videos(videos: Sequence[Sequence[Moment]], *, json: bool = False) -> None:
    """Print one line a video with its best score, and its moments below it."""
    if json:
        put_json(
            [
                {
                    **path_as_json(video[0].path),
                    "score": round(max(m.score for m in video), 6),
                    "sure": any(m.sure for m in video),
                    "moments": [moment_as_json(m) for m in video],
                }
                for video in videos
            ]
        )
        return
    for video, best_score in zip(videos, _marked_scores([_best(video) for video in videos]), strict=True):
        put(f"{best_score}  {_path(video[0])}")
        for m, score in zip(video, _marked_scores(video), strict=True):
            put(f"{m.id:>8}  {score}  {format_clock_range(m.start_ms, m.end_ms)}  {printable(m.label)}")


def _best(video: Sequence[Moment]) -> Moment:
    return max(video, key=lambda moment: (moment.sure, moment.score))


def _marked_scores(moments: Sequence[Moment]) -> list[str]:
    """The scores as texts of one width; those of less sure moments are dimmed and have a question mark."""
    if all(m.sure for m in moments):
        return [f"{m.score:.2f}" for m in moments]
    return [f"{m.score:.2f} " if m.sure else dim(f"{m.score:.2f}?") for m in moments]


def put_csv(moments: Iterable[Moment]) -> None:
    """Print CSV with the columns of the JSON."""
    from vtag.engine.library.exports.text import spreadsheet_cell

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("id", "path", "label", "start_ms", "end_ms", "score", "model", "source", "sure"))
    for m in moments:
        path = path_as_json(m.path)["path"]
        sure = "true" if m.sure else "false"
        # a path is absolute, so that no spreadsheet computes it; a file gets it unchanged, with line breaks in quotes
        path = printable(path) if sys.stdout.isatty() else path
        label, model = spreadsheet_cell(m.label), spreadsheet_cell(m.model or "")
        writer.writerow((m.id, path, label, m.start_ms, m.end_ms, round(m.score, 6), model, m.source, sure))


def put_paths(moments: Iterable[Moment], end: bytes) -> None:
    """Print each video's path once."""
    for path in dict.fromkeys(m.path for m in moments):
        put_path(path, end)
    sys.stdout.flush()


def put_path(path: bytes, end: bytes = b"\n") -> None:
    """Print a path: escaped at a terminal, byte for byte elsewhere."""
    if sys.stdout.isatty():
        put(display_path(path))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(path + end)


def cell_width(text: str) -> int:
    """Terminal columns of `text`: East Asian wide characters and most emoji take two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def truncate(text: str, max_width: int, ellipsis: str) -> str:
    """`text` in at most `max_width` columns, with `ellipsis` at its end if it was cut."""
    if cell_width(text) <= max_width:
        return text
    while cell_width(text) >= max_width:
        text = text[:-1]
    return text + ellipsis


def _path(moment: Moment) -> str:
    return display_path(moment.path) + ("" if moment.present else "  (not there now)")
