"""`vtag search` and `vtag show`: read the library and print moments. They load no model."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vtag.app.console import complain, dim, put, put_json, say
from vtag.app.options import Db, Json, within_integers
from vtag.app.query_options import (
    Maybe,
    MinScore,
    ModelFilter,
    OptionalQuery,
    SensitivityOption,
    Sort,
    SureOnly,
    explain_empty_result,
    less_sure_moments,
    min_margin,
    open_library_reader,
    query_text,
    report_everyday_terms,
)
from vtag.app.results import MAX_LABEL_CELLS, cell_width, truncate
from vtag.app.times import format_clock, format_end_clock
from vtag.app.video_clocks import read_clock
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment

_MIN_COLUMNS = 8  # of a timeline's bars, and of its labels


def search(
    query: OptionalQuery = None,
    sure: SureOnly = False,
    maybe: Maybe = False,
    sensitivity: SensitivityOption = None,
    min_score: MinScore = 0.0,
    limit: Annotated[
        int, typer.Option(min=1, callback=within_integers, help="Maximum number of moments or videos.")
    ] = 50,
    model: ModelFilter = None,
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

    Sure moments come first; if they are few, less sure ones follow until there are ten.

    --paths-only and --print0 list the videos of sure moments, unless --maybe. An empty result is not an error.

    docs/search.md explains the query language.
    """
    from vtag.app import player, results
    from vtag.engine.library.search.moments import search as find
    from vtag.engine.library.search.moments import search_videos
    from vtag.engine.library.search.player_times import MomentClocks

    paths_only = paths_only or print0
    if json + csv + paths_only > 1:
        raise typer.BadParameter("say one of --json, --csv and --paths-only")
    text = query_text(query or [])
    less_sure = less_sure_moments(sure=sure, maybe=maybe, default="none" if paths_only else "fill")
    with open_library_reader(db) as reader:
        options: dict[str, Any] = {
            "min_score": min_score,
            "limit": limit,
            "model": model,
            "sort": sort,
            "less_sure": less_sure,
            "min_margin": min_margin(sensitivity),
        }
        if group == "video":
            videos = search_videos(reader, text, **options)
        else:
            videos = [[moment] for moment in find(reader, text, **options)]
        if not videos:
            complain(explain_empty_result(reader, text, is_sure_only=less_sure == "none"))
        report_everyday_terms(reader, text)
        if notice := _coverage_notice(reader):
            say(notice)
        played = MomentClocks(reader, read_clock).to_player(videos[0][:1]) if open_ and videos else []
        clocks = MomentClocks(reader)
        videos = [clocks.to_player(video) for video in videos]
    moments = [moment for video in videos for moment in video]
    if paths_only:
        results.put_paths(moments, b"\0" if print0 else b"\n")
    elif csv:
        results.put_csv(moments)
    elif group == "video":
        results.put_videos(videos, json=json)
    else:
        results.put_moments(moments, json=json)
    for moment in played:
        player.play(moment.path, moment.start_ms)


def _coverage_notice(reader: sqlite3.Connection) -> str:
    """A line about videos that are scanned in part; empty if there are none."""
    from vtag.engine.library.store.coverage import partial_coverage

    coverage = partial_coverage(reader)
    if coverage is None:
        return ""
    percent = max(1, round(100 * coverage.seen_ms / max(1, coverage.length_ms)))
    videos = "1 video was" if coverage.videos == 1 else f"{coverage.videos} videos were"
    return (
        f"{videos} looked at only here and there so far ({percent} %): `vtag scan` goes on where it stopped"
    )


def show(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Scanned video.")],
    sure: SureOnly = False,
    maybe: Maybe = False,
    sensitivity: SensitivityOption = None,
    json: Json = False,
    db: Db = None,
) -> None:
    """Draw the timeline of one video.

    Less sure moments are drawn lighter.
    """
    from vtag.engine.library.exports.json import moment_as_json
    from vtag.engine.library.search.contents import require_content
    from vtag.engine.library.search.moments import content_moments
    from vtag.engine.library.search.player_times import on_player_clock
    from vtag.engine.library.store.clocks import content_clock

    path = os.path.abspath(os.fsencode(file))
    with open_library_reader(db) as reader:
        content = require_content(reader, path)
        clock = content_clock(reader, content.id)
        moments = content_moments(
            reader,
            content.id,
            path,
            less_sure=less_sure_moments(sure=sure, maybe=maybe, default="fill"),
            min_margin=min_margin(sensitivity),
        )
        moments = [on_player_clock(moment, clock) for moment in moments]
    if json:
        put_json([moment_as_json(m) for m in moments])
    elif content.error:
        complain(f"{display_path(file)} could not be read: {content.error}")
    else:
        _draw_timeline(moments, clock.player_ms(content.duration_ms or 1))


def _draw_timeline(moments: list[Moment], duration_ms: int) -> None:
    """One row a label: a bar for its moments, its best score, and when it first starts."""
    if not moments:
        complain("nothing sure was seen in it; without --sure, what is less sure is drawn")
        return
    rows: dict[str, list[Moment]] = {}
    for m in sorted(moments, key=lambda moment: not moment.sure):
        rows.setdefault(m.label, []).append(m)
    drawable = (sys.stdout.encoding or "").lower().startswith("utf")
    full, light, empty, ellipsis = ("█", "░", "·", "…") if drawable else ("#", "+", ".", "~")
    columns = min(shutil.get_terminal_size().columns, 120)
    label_width = max(_MIN_COLUMNS, min(MAX_LABEL_CELLS, columns - 18 - _MIN_COLUMNS))
    names = {label: truncate(printable(label), label_width, ellipsis) for label in rows}
    name_width = max(map(cell_width, names.values()))
    width = max(_MIN_COLUMNS, columns - name_width - 18)
    begin = format_clock(0) if width >= 2 * _MIN_COLUMNS else ""
    put(f"{'':{name_width}}  {begin}{format_end_clock(duration_ms):>{width - len(begin)}}")
    for label, spans in rows.items():
        bar = [empty] * width
        for m in reversed(spans):  # what is sure last, over what is less sure
            first = max(0, min(width - 1, m.start_ms * width // duration_ms))
            last = max(first + 1, min(width, -(-m.end_ms * width // duration_ms)))
            bar[first:last] = [full if m.sure else light] * (last - first)
        name = names[label] + " " * (name_width - cell_width(names[label]))
        best = max(spans, key=lambda moment: (moment.sure, moment.score))
        start = min(m.start_ms for m in spans if m.sure == best.sure)
        line = f"{name}  {''.join(bar)}  {best.score:.2f}{' ' if best.sure else '?'}  {format_clock(start)}"
        put(line if best.sure else dim(line))
