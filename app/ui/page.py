"""The page: its tabs, and the events that lead from one tab to another."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import library_tab, scan_tab, search, search_tab, teach_tab, video_view, watch_tab
from vtag.app.ui.gradio_events import UPDATE_ADDRESS, connect, parse_integer, parse_milliseconds
from vtag.app.ui.html_search import page_title
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads


class _TabComponents(NamedTuple):
    """The components of the tabs that other tabs use."""

    search: search_tab.SearchComponents
    watch: watch_tab.WatchComponents
    scan_progress: gr.HTML
    teach: teach_tab.TeachComponents
    library_labels: gr.HTML
    tabs: gr.Tabs


def build_page(library: Path, queue: JobQueue, downloads: ModelDownloads, cache: Path) -> gr.Blocks:
    """The page over the library at `library`. Every callback opens its own connection.

    Args:
        queue: runs scans and trainings as child processes.
        downloads: likewise, downloads of models.
        cache: the folder in which the server keeps pictures.
    """
    page: gr.Blocks
    with gr.Blocks(title="vtag", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(page_title(), elem_id="vtag-title")
        with gr.Tabs() as tabs:
            with gr.Tab("Search", id="search"):
                search_components = search_tab.build(library)
            with gr.Tab("Watch", id="watch"):
                watch_components = watch_tab.build(library)
            with gr.Tab("Scan", id="scan") as tab:
                scan_progress = scan_tab.build(library, queue, tab)
            with gr.Tab("Teach", id="teach") as tab:
                teach_components = teach_tab.build(library, queue, tab)
            with gr.Tab("Library", id="library") as tab:
                labels = library_tab.build(library, downloads, cache, tab)
        components = _TabComponents(
            search_components, watch_components, scan_progress, teach_components, labels, tabs
        )
        _connect_cards(library, components)
        _connect_queries(library, components)
        _connect_address(library, page, components)
    return page


def _connect_cards(library: Path, components: _TabComponents) -> None:
    """A press on a card shows its video in Watch; More like this shows similar moments in Search."""

    def show(event: gr.EventData) -> tuple[str, str, str, gr.Tabs]:
        return *_show_card(library, event._data or {}), gr.Tabs(selected="watch")

    def similar(event: gr.EventData) -> tuple[str, int, gr.Tabs]:
        return _show_similar(library, event._data or {}), 1, gr.Tabs(selected="search")

    results, tabs = components.search.results, components.tabs
    for cards in (results, components.scan_progress, *components.teach):
        connect(cards.open, show, None, [*components.watch, tabs], serial_group="watch")
    for moments in (components.watch.tags, components.watch.timeline, results):
        outputs = [results, components.search.pages, tabs]
        connect(moments.similar, similar, None, outputs, serial_group="search")


def _connect_queries(library: Path, components: _TabComponents) -> None:
    """A press on an example, a group or a label searches for it."""

    def run_query(event: gr.EventData) -> tuple[object, ...]:
        form = search.SearchForm(q=str(event.query))
        return *form, search.show_results(library, form), 1, gr.Tabs(selected="search")

    fields, results, suggestions, pages = components.search
    for chips in (results, suggestions, components.library_labels):
        outputs = [*fields, results, pages, components.tabs]
        connect(chips.query, run_query, None, outputs, serial_group="search").then(
            None, fields, js=UPDATE_ADDRESS, api_visibility="private"
        )
    connect(results.scan, lambda: gr.Tabs(selected="scan"), None, components.tabs)


def _connect_address(library: Path, page: gr.Blocks, components: _TabComponents) -> None:
    """When the page opens, show the search and the video that its address describes."""

    def load(request: gr.Request) -> tuple[object, ...]:
        form = search.form_from_address(request.query_params)
        # without a video in the address the tab is not set: the person may have changed it already
        video: list[object] = [gr.skip()] * (len(components.watch) + 1)
        content = parse_integer(request.query_params.get("v", ""))
        if content:
            start_ms = parse_integer(request.query_params.get("t", ""))
            video = [*video_view.show_video(library, content, start_ms), gr.Tabs(selected="watch")]
        # a model may have been added since the page was built
        models = gr.Dropdown(choices=search.model_choices(library), value=form.model)
        values = [models if name == "model" else value for name, value in form._asdict().items()]
        return *values, search.show_results(library, form), search.show_suggestions(library), *video

    fields, results, suggestions, _ = components.search
    outputs = [*fields, results, suggestions, *components.watch, components.tabs]
    connect(page.load, load, None, outputs)


def _show_similar(library: Path, data: dict[str, object]) -> str:
    """What looks like a moment (by its id) or like the middle of a time range."""
    if "moment" in data:
        return search.show_similar_to_moment(library, parse_integer(data["moment"]))
    start_ms = parse_milliseconds(data.get("at"))
    end_ms = max(parse_milliseconds(data.get("to")), start_ms)
    return search.show_similar_to_time(library, parse_integer(data.get("content")), (start_ms + end_ms) // 2)


def _show_card(library: Path, data: dict[str, object]) -> video_view.VideoView:
    """The video of a pressed card: a moment by its id, or a time range."""
    if "moment" in data:
        return video_view.show_moment(library, parse_integer(data["moment"]))
    return video_view.show_video(
        library,
        parse_integer(data.get("content")),
        parse_milliseconds(data.get("at")),
        parse_milliseconds(data.get("to")),
    )
