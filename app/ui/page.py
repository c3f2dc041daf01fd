"""The page: which tabs there are, and what passes between them; each tab is a file of its own."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from vtag.app.ui import library_tab, scan_tab, search, search_tab, teach_tab, watch, watch_tab
from vtag.app.ui.wiring import KEEP_ADDRESS, MOST_MS, number, on
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads


def build_page(library: Path, queue: JobQueue, pulls: ModelDownloads, cache: Path) -> gr.Blocks:
    """The page over the library at `library`; every callback opens a connection of its own.

    `queue` and `pulls` run what takes long, as processes; `cache` is where the server keeps pictures.
    """
    page: gr.Blocks
    with gr.Blocks(title="vtag", analytics_enabled=False, fill_width=True) as page:
        gr.HTML("<h1>vtag</h1>", elem_id="vtag-title")
        with gr.Tabs() as tabs:
            with gr.Tab("Search", id="search"):
                finder = search_tab.build(library)
            with gr.Tab("Watch", id="watch"):
                screen = watch_tab.build(library)
            with gr.Tab("Scan", id="scan") as scan:
                now = scan_tab.build(library, queue, scan)
            with gr.Tab("Teach", id="teach") as teach:
                teaching = teach_tab.build(library, queue, teach)
            with gr.Tab("Library", id="library") as held:
                holdings = library_tab.build(library, pulls, cache, held)

        def show(event: gr.EventData) -> tuple[str, str, str, gr.Tabs]:
            return *_chosen(library, event), gr.Tabs(selected="watch")

        def ask(event: gr.EventData) -> tuple[object, ...]:
            asked = search.Asked(q=str(event.query))
            return *asked, search.found(library, asked), 1, gr.Tabs(selected="search")

        def similar(event: gr.EventData) -> tuple[str, int, gr.Tabs]:
            return _alike(library, event._data or {}), 1, gr.Tabs(selected="search")

        def arrive(request: gr.Request) -> tuple[object, ...]:
            asked = search.from_address(request.query_params)
            # whoever went to another tab before this is answered stays there
            shown: list[object] = [gr.skip()] * (len(screen) + 1)
            content = number(request.query_params.get("v", ""))
            if content:
                at_ms = number(request.query_params.get("t", ""))
                shown = [*watch.opened_at(library, content, at_ms), gr.Tabs(selected="watch")]
            models = search.models(library)  # one may have come since the page was made
            filled = asked._replace(model=gr.Dropdown(choices=models, value=asked.model))  # type: ignore[arg-type]
            return *filled, search.found(library, asked), search.suggestions(library), *shown

        for cards in (finder.results, now, *teaching):
            on(cards.open, show, None, [*screen, tabs], turn="watch")
        for labels in (finder.results, finder.suggestions, holdings):
            shown = [*finder.asked, finder.results, finder.pages, tabs]
            on(labels.query, ask, None, shown, turn="search").then(
                None, finder.asked, js=KEEP_ADDRESS, api_visibility="private"
            )
        on(finder.results.scan, lambda: gr.Tabs(selected="scan"), None, tabs)
        for moments in (screen.tags, screen.timeline, finder.results):
            on(moments.similar, similar, None, [finder.results, finder.pages, tabs], turn="search")
        everything = [*finder.asked, finder.results, finder.suggestions, *screen, tabs]
        on(page.load, arrive, None, everything)
    return page


def _alike(library: Path, told: dict[str, object]) -> str:
    """More like a moment by its id, or like the middle of a stretch of a video."""
    if "moment" in told:
        return search.similar_to(library, number(told["moment"]))
    start_ms = min(number(told.get("at")), MOST_MS)
    end_ms = min(max(number(told.get("to")), start_ms), MOST_MS)
    return search.similar_at(library, number(told.get("content")), (start_ms + end_ms) // 2)


def _chosen(library: Path, event: gr.EventData) -> watch.Shown:
    """What a pressed card shows: a moment by its id, or a stretch of a video."""
    told = event._data or {}
    if "moment" in told:
        return watch.opened(library, number(told["moment"]))
    start_ms = min(number(told.get("at")), MOST_MS)
    return watch.opened_at(
        library, number(told.get("content")), start_ms, min(number(told.get("to")), MOST_MS)
    )
