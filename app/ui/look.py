"""What the page shows for what a person asks: plain functions over the library, without Gradio."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from vtag.app.ui import html_parts as parts
from vtag.app.ui.routes import playable, proxy_span
from vtag.engine.errors import QueryError
from vtag.engine.library import runs, served
from vtag.engine.library.database import open_reader
from vtag.engine.library.labels import nearest
from vtag.engine.library.search import label_counts, moments_of, search

PAGE = 24  # moments
_FAILURES = 200
FIRST_VISIT = (
    "Nothing was scanned yet. Open Scan, name a folder with videos, and start: its videos are looked at on this "
    "machine, and their moments can be searched here while it runs."
)


def found(library: Path, query: str, min_score: float, pages: int) -> str:
    """The moments that fit `query`, `pages` pages of them, or the sentence that says why there are none."""
    with closing(open_reader(library)) as reader:
        if served.is_empty(reader):
            return parts.note(FIRST_VISIT)
        if not query.strip():
            counted = [row for row in label_counts(reader) if row[1]]
            return parts.labels_list(counted[:60])
        try:
            limit = pages * PAGE
            moments = search(reader, query, min_score=min_score, limit=limit + 1)
        except QueryError as error:
            return parts.note(str(error), is_error=True)
        if moments:
            return parts.gallery(moments[:limit], more=len(moments) > limit)
        near = nearest(reader, query)
        hint = f" Near to it: {', '.join(near)}." if near else ""
        return parts.note(f"No moment fits this search.{hint}")


def watched(library: Path, moment_id: int) -> str:
    """The video of a moment, played from it, with everything that was found in the video."""
    with closing(open_reader(library)) as reader:
        place = served.content_of_moment(reader, moment_id)
        shown = served.video(reader, place[0]) if place else None
        if place is None or shown is None:
            return parts.note("This moment is gone: search again.", is_error=True)
        moments = moments_of(reader, shown.id, shown.path)
    _, start_ms, end_ms = place
    source, offset_ms = "", 0
    if shown.path is not None and playable(shown):
        source = f"/media/{shown.id}"
    elif shown.path is not None:
        offset_ms, last_ms = proxy_span(start_ms, end_ms)
        source = f"/moment/{shown.id}/{offset_ms}/{last_ms}"
    hint = (
        parts.note("A browser cannot play this file: the moment is shown from a copy made for it.")
        if offset_ms or source.startswith("/moment/")
        else ""
    )
    name = shown.display.rsplit("/", 1)[-1]
    return (
        f'<section class="vtag-watch" data-content="{shown.id}" aria-label="Video">'
        f'<h2 class="vtag-name" title="{parts.text(shown.display)}">{parts.text(name)}</h2>'
        f"{parts.player(shown, source, start_ms, offset_ms)}{hint}"
        f"{parts.timeline(moments, shown.duration_ms, moment_id)}</section>"
    )


def state(library: Path) -> str:
    """What runs now and what ran, and the files that could not be read."""
    with closing(open_reader(library)) as reader:
        latest = runs.recent(reader, 10)
        failed = served.failures(reader, _FAILURES)
    return f"<h2>Scans</h2>{parts.runs_list(latest)}<h2>Files that cannot be read</h2>{parts.failures_list(failed)}"


def holdings(library: Path) -> str:
    """What the library holds."""
    with closing(open_reader(library)) as reader:
        return (
            f"{parts.figures(served.count(reader))}<h2>Labels</h2>{parts.labels_list(label_counts(reader))}"
        )
