"""`vtag search` and `show`: what is in the library, found and drawn; reads, and loads no model."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vtag.app.asking import MinScore, OfModel, Query, Sort, query_text, reading
from vtag.app.console import clock, complain, put, put_json, say
from vtag.app.options import Db, Json, within_integers
from vtag.app.results import MOST_CELLS, cells, end_clock, fitted
from vtag.engine.errors import LibraryError
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import ContentSummary, Moment

_LEAST = 8  # columns of a timeline's bars, and of its labels


def search(
    query: Query,
    min_score: MinScore = 0.0,
    limit: Annotated[
        int, typer.Option(min=1, callback=within_integers, help="Maximum number of moments or videos.")
    ] = 50,
    model: OfModel = None,
    group: Annotated[
        Literal["moment", "video"], typer.Option(help="Result rows: moments or videos.")
    ] = "moment",
    sort: Sort = "score",
    json: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout, with a header.")] = False,
    paths_only: Annotated[bool, typer.Option("--paths-only", help="Paths of the videos only.")] = False,
    print0: Annotated[
        bool, typer.Option("--print0", help="Paths separated by NUL bytes, for xargs -0.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Play the first moment in mpv or VLC.")] = False,
    db: Db = None,
) -> None:
    """Find moments, best first.

    docs/search.md explains the query language. An empty result is not an error.
    """
    from vtag.app import player, results
    from vtag.engine.library.search.moments import search as find
    from vtag.engine.library.search.moments import search_videos

    paths_only = paths_only or print0
    if json + csv + paths_only > 1:
        raise typer.BadParameter("say one of --json, --csv and --paths-only")
    text = query_text(query)
    with reading(db) as reader:
        if group == "video":
            videos = search_videos(reader, text, min_score=min_score, limit=limit, model=model, sort=sort)
        else:
            found = find(reader, text, min_score=min_score, limit=limit, model=model, sort=sort)
            videos = [[moment] for moment in found]
        if not videos:
            complain(_why_nothing(reader, text))
        if told := _how_far(reader):
            say(told)
    moments = [moment for video in videos for moment in video]
    if paths_only:
        results.put_paths(moments, b"\0" if print0 else b"\n")
    elif csv:
        results.put_csv(moments)
    elif group == "video":
        results.put_videos(videos, json=json)
    else:
        results.put_moments(moments, json=json)
    if open_ and moments:
        player.play(moments[0].path, moments[0].start_ms)


def _how_far(reader: sqlite3.Connection) -> str:
    """What a search has to say of videos that were looked at only here and there so far; mostly nothing."""
    from vtag.engine.library.store.coverage import partial_coverage

    so_far = partial_coverage(reader)
    if so_far is None:
        return ""
    percent = max(1, round(100 * so_far.seen_ms / max(1, so_far.length_ms)))
    videos = "1 video was" if so_far.videos == 1 else f"{so_far.videos} videos were"
    return (
        f"{videos} looked at only here and there so far ({percent} %): `vtag scan` goes on where it stopped"
    )


def _why_nothing(reader: sqlite3.Connection, text: str) -> str:
    from vtag.engine.library.search.labels import nearest_labels
    from vtag.engine.library.search.moments import match_terms

    for term, fits in match_terms(reader, text):
        if not fits:
            near = ", ".join(map(printable, nearest_labels(reader, term)))
            return f"no label fits {term!r}; {f'near to it: {near}' if near else '`vtag labels` lists them'}"
    return f"no moment of {text!r} was seen with these settings"


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Scanned video.")],
    json: Json = False,
    db: Db = None,
) -> None:
    """Draw the timeline of one video."""
    from vtag.engine.library.exports.json import moment_as_json
    from vtag.engine.library.search.moments import content_moments

    path = os.path.abspath(os.fsencode(file))
    with reading(db) as reader:
        content = _content(reader, path)
        moments = content_moments(reader, content.id, path)
    if json:
        put_json([moment_as_json(m) for m in moments])
    elif content.error:
        complain(f"{display_path(file)} could not be read: {content.error}")
    else:
        _draw_timeline(moments, content.duration_ms or 1)


def _content(reader: sqlite3.Connection, path: bytes) -> ContentSummary:
    """What the file at `path` holds, as the library knows it; of one that was moved since, by its bytes."""
    from vtag.engine.library.search.moments import content_at_path, content_with_key
    from vtag.engine.library.store.files import content_key

    content = content_at_path(reader, path)
    if content is None and os.path.isfile(path):
        with contextlib.suppress(OSError):
            content = content_with_key(reader, content_key(path))
    if content is None:
        raise LibraryError(f"{display_path(path)} was not scanned: `vtag scan` looks at it")
    return content


def _draw_timeline(moments: list[Moment], duration_ms: int) -> None:
    """One row a label: a bar where it was seen, its best score and its first time."""
    if not moments:
        complain("nothing was seen in it above the threshold; `vtag retag --threshold` lowers that")
        return
    rows: dict[str, list[Moment]] = {}
    for m in moments:
        rows.setdefault(m.label, []).append(m)
    drawable = (sys.stdout.encoding or "").lower().startswith("utf")
    full, empty, cut = ("█", "·", "…") if drawable else ("#", ".", "~")
    columns = min(shutil.get_terminal_size().columns, 120)
    most = max(_LEAST, min(MOST_CELLS, columns - 17 - _LEAST))
    names = {label: fitted(printable(label), most, cut) for label in rows}
    wide = max(map(cells, names.values()))
    width = max(_LEAST, columns - wide - 17)
    begin = clock(0) if width >= 2 * _LEAST else ""
    put(f"{'':{wide}}  {begin}{end_clock(duration_ms):>{width - len(begin)}}")
    for label, seen in rows.items():
        bar = [empty] * width
        for m in seen:
            first = max(0, min(width - 1, m.start_ms * width // duration_ms))
            last = max(first + 1, min(width, -(-m.end_ms * width // duration_ms)))
            bar[first:last] = [full] * (last - first)
        name = names[label] + " " * (wide - cells(names[label]))
        put(f"{name}  {''.join(bar)}  {max(m.score for m in seen):.2f}  {clock(seen[0].start_ms)}")
