"""`vtag similar`: moments that look like a moment, of the library or of any clip."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vtag.app.console import complain, put, put_json, say
from vtag.app.options import Db, Json, parse_time_option
from vtag.app.query_options import open_library_reader
from vtag.app.results import path_as_json
from vtag.app.times import format_clock_range
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.analysis.similar import SimilarMoment
    from vtag.engine.video_clock import VideoClock


def similar(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Video of the library, or any clip.")],
    at: Annotated[
        int | None,
        typer.Option(
            parser=parse_time_option,
            metavar="TIME",
            help="Time in the video, such as 1:23; default: the whole video.",
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of moments.")] = 20,
    min_score: Annotated[float, typer.Option(min=-1, max=1, help="Minimum similarity.")] = 0.0,
    device: Annotated[str, typer.Option(help="Compute device, for a clip that was not scanned.")] = "auto",
    json: Json = False,
    db: Db = None,
) -> None:
    """Find moments that look like a given moment.

    Every scanned window is compared by its feature.
    """
    from vtag.engine.library.analysis.similar import find_similar
    from vtag.engine.library.store.clocks import content_clock
    from vtag.engine.paths import library_path
    from vtag.engine.scan.similarity import similarity_query

    library, path = library_path(db), os.path.abspath(os.fsencode(file))

    def say_embedding() -> None:
        say("the library has not seen it with its model: looking at it")

    like = similarity_query(library, path, at, device=device, on_embed=say_embedding)
    moments = find_similar(library, like, limit=limit, min_score=min_score)
    with open_library_reader(db) as reader:
        moments = [_on_player_clock(s, content_clock(reader, s.content_id)) for s in moments]
    if json:
        put_json([_as_json(s) for s in moments])
    else:
        for s in moments:
            gone = "" if s.present else "  (not there now)"
            name = printable(s.label or "") + ("" if s.is_label_sure or not s.label else "?")
            put(
                f"{s.score:.3f}  {format_clock_range(s.start_ms, s.end_ms)}  {name:28}  {display_path(s.path)}{gone}"
            )
    if not moments:
        complain("nothing else like it was seen")


def _on_player_clock(moment: SimilarMoment, clock: VideoClock) -> SimilarMoment:
    start_ms, end_ms = clock.player_ms(moment.start_ms), clock.player_ms(moment.end_ms)
    return moment._replace(start_ms=start_ms, end_ms=end_ms)


def _as_json(moment: SimilarMoment) -> dict[str, object]:
    return {
        **path_as_json(moment.path),
        "label": moment.label,
        "label_sure": moment.is_label_sure,
        "start_ms": moment.start_ms,
        "end_ms": moment.end_ms,
        "score": round(moment.score, 6),
    }
