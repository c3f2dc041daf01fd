"""Moments on stdout: lines for people, JSON, CSV and paths for programs."""

from __future__ import annotations

import csv
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.app.console import clock, put, put_json
from vtag.engine.library.exports.json import moment_as_json, path_as_json
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment

MOST_CELLS = 28  # of a label, in a column


def put_moments(found: Sequence[Moment], *, json: bool = False) -> None:
    """One line a moment: its id (which `vtag tag` takes), score, time, label, path."""
    if json:
        put_json([moment_as_json(m) for m in found])
        return
    wide = min(MOST_CELLS, max((cells(printable(m.label)) for m in found), default=0))
    digits = len(str(max((m.id for m in found), default=0)))
    for m in found:
        label = printable(m.label)
        label += " " * (wide - cells(label))
        put(
            f"{m.id:>{digits}}  {m.score:.2f}  {clock(m.start_ms)}-{end_clock(m.end_ms)}  {label}  {_path(m)}"
        )


def put_videos(videos: Sequence[Sequence[Moment]], *, json: bool = False) -> None:
    """One line a video with its best score and how much was found, and its moments below it."""
    if json:
        put_json(
            [
                {
                    **path_as_json(video[0].path),
                    "score": round(max(m.score for m in video), 6),
                    "moments": [moment_as_json(m) for m in video],
                }
                for video in videos
            ]
        )
        return
    for video in videos:
        put(f"{max(m.score for m in video):.2f}  {_path(video[0])}")
        for m in video:
            put(f"{m.id:>8}  {m.score:.2f}  {clock(m.start_ms)}-{end_clock(m.end_ms)}  {printable(m.label)}")


def put_csv(found: Iterable[Moment]) -> None:
    """A table with the columns of the JSON."""
    from vtag.engine.library.exports.text import spreadsheet_cell

    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("id", "path", "label", "start_ms", "end_ms", "score", "model", "source"))
    for m in found:
        path = path_as_json(m.path)["path"]
        row = (m.id, path, m.label, m.start_ms, m.end_ms, round(m.score, 6), m.model or "", m.source)
        writer.writerow([spreadsheet_cell(value) if isinstance(value, str) else value for value in row])


def put_paths(found: Iterable[Moment], end: bytes) -> None:
    """Each video's path once, byte for byte; escaped where a person watches."""
    for path in dict.fromkeys(m.path for m in found):
        if sys.stdout.isatty():
            put(display_path(path))
        else:
            sys.stdout.flush()
            sys.stdout.buffer.write(path + end)
    sys.stdout.flush()


def end_clock(milliseconds: int) -> str:
    """The clock at the end of the second: a moment of half a second does not end where it began."""
    return clock(-(-milliseconds // 1000) * 1000)


def cells(text: str) -> int:
    """How many columns of a terminal `text` takes: Chinese, Japanese and Korean letters and most pictures two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


def fitted(text: str, most: int, cut: str) -> str:
    """`text` in at most `most` columns; `cut` stands for what was left out."""
    if cells(text) <= most:
        return text
    while cells(text) >= most:
        text = text[:-1]
    return text + cut


def _path(moment: Moment) -> str:
    return display_path(moment.path) + ("" if moment.present else "  (not there now)")
