"""The page: what is where, and which function answers which press."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vtag.app.ui import look
from vtag.app.ui.html_parts import note
from vtag.assets import asset
from vtag.engine import jobs
from vtag.engine.errors import VtagError

_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
_TICK_S = 2.0
_KEEP_ADDRESS = """(query) => {
  const here = new URL(window.location);
  query ? here.searchParams.set("q", query) : here.searchParams.delete("q");
  window.history.replaceState({}, "", here);
}"""


def build_page(library: Path) -> gr.Blocks:
    """The page over the library at `library`; every callback opens a connection of its own."""
    page: gr.Blocks
    with gr.Blocks(title="vtag", analytics_enabled=False, fill_width=True) as page:
        gr.Markdown("# vtag")
        with gr.Tabs() as tabs:
            with gr.Tab("Search", id="search"):
                finder = _search(library, page)
            with gr.Tab("Scan", id="scan"):
                _scan(library)
            with gr.Tab("Library", id="library") as tab:
                _holdings(library, tab, tabs, finder)
    return page


class _Finder(NamedTuple):
    """The search's components that another tab fills."""

    query: gr.Textbox
    score: gr.Slider
    results: gr.HTML
    pages: gr.State


def _search(library: Path, page: gr.Blocks) -> _Finder:
    def answer(query: str, score: float, shown: int) -> str:
        return look.found(library, query, score, shown)

    def fresh(query: str, score: float) -> tuple[str, int]:
        return look.found(library, query, score, 1), 1

    def more(query: str, score: float, shown: int) -> tuple[str, int]:
        return look.found(library, query, score, shown + 1), shown + 1

    def arrive(request: gr.Request) -> tuple[str, str]:
        query = str(request.query_params.get("q", ""))[:500]
        return query, look.found(library, query, 0.0, 1)

    def choose(event: gr.EventData) -> str:
        return look.watched(library, int(event.moment))

    def ask(event: gr.EventData, score: float) -> tuple[str, str, int]:
        query = str(event.query)
        return query, look.found(library, query, score, 1), 1

    pages = gr.State(1)
    with gr.Row():
        query = gr.Textbox(
            label="What happens in it",
            placeholder='archery    "riding a bike" OR skateboarding    running -dog',
            scale=5,
            autofocus=True,
        )
        score = gr.Slider(0, 1, value=0, step=0.05, label="Least score", scale=2)
        go = gr.Button("Search", variant="primary", scale=1)
    player = gr.HTML(js_on_load=_script("watch.js"), elem_id="vtag-watch")
    results = gr.HTML(js_on_load=_script("list.js"), elem_id="vtag-results")
    for event in (query.submit, go.click):
        event(fresh, [query, score], [results, pages], **_PRIVATE).then(None, query, js=_KEEP_ADDRESS)
    score.release(fresh, [query, score], [results, pages], **_PRIVATE)
    results.select(choose, None, player, **_PRIVATE)
    player.select(choose, None, player, **_PRIVATE)
    results.change(more, [query, score, pages], [results, pages], **_PRIVATE)
    results.submit(ask, score, [query, results, pages], **_PRIVATE).then(None, query, js=_KEEP_ADDRESS)
    page.load(arrive, None, [query, results], **_PRIVATE)
    return _Finder(query, score, results, pages)


def _scan(library: Path) -> None:
    def start(paths: str, model: str) -> str:
        wanted = [line.strip() for line in paths.splitlines() if line.strip()]
        try:
            jobs.start_scan(library, [str(Path(path).expanduser()) for path in wanted], model or None)
        except VtagError as error:
            return note(str(error), is_error=True)
        return note("The scan runs. What it finished can be searched at once.")

    def stop() -> str:
        for run in jobs.running_jobs(library):
            jobs.cancel(library, run.id)
            return note("Ending: what is finished is kept, and the same scan goes on from there.")
        return note("Nothing runs.")

    folders = gr.Textbox(label="Folders on this machine, one a line", placeholder="/home/me/Videos", lines=2)
    model = gr.Dropdown(
        choices=_models(),
        value="",
        label="Model (a new library takes the best one that is here; it remembers its model)",
    )
    with gr.Row():
        begin = gr.Button("Start scan", variant="primary")
        end = gr.Button("End scan")
    said = gr.HTML()
    shown = gr.HTML(look.state(library), elem_id="vtag-runs")
    begin.click(start, [folders, model], said, **_PRIVATE)
    end.click(stop, None, said, **_PRIVATE)
    gr.Timer(_TICK_S).tick(lambda: look.state(library), None, shown, **_PRIVATE)


def _holdings(library: Path, tab: gr.Tab, tabs: gr.Tabs, finder: _Finder) -> None:
    def ask(event: gr.EventData, score: float) -> tuple[str, str, int, gr.Tabs]:
        query = str(event.query)
        return query, look.found(library, query, score, 1), 1, gr.Tabs(selected="search")

    shown = gr.HTML(js_on_load=_script("list.js"), elem_id="vtag-library")
    tab.select(lambda: look.holdings(library), None, shown, **_PRIVATE)
    asked = shown.submit(ask, finder.score, [finder.query, finder.results, finder.pages, tabs], **_PRIVATE)
    asked.then(None, finder.query, js=_KEEP_ADDRESS)


def _models() -> list[tuple[str, str]]:
    from vtag.engine.models import STARTER, installed

    return [
        ("the library's own", ""),
        *((name, name) for name in dict.fromkeys([STARTER, *(model.name for model in installed())])),
    ]


def _script(name: str) -> str:
    return asset("page", name).read_text(encoding="utf-8")
