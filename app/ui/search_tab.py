"""The search tab: the query, filters beside the results."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import search
from vtag.app.ui.wiring import KEEP_ADDRESS, on, script


class Finder(NamedTuple):
    """The search's components that other tabs fill: `asked` in the order of look.Asked."""

    asked: list[gr.components.Component]
    results: gr.HTML
    suggestions: gr.HTML
    pages: gr.State


def build(library: Path) -> Finder:
    """Lay out the tab."""

    def fresh(*asked: str | float) -> tuple[str, int]:
        return search.found(library, search.Asked(*asked)), 1  # type: ignore[arg-type]

    def more(shown: int, *asked: str | float) -> tuple[str, int]:
        return search.found(library, search.Asked(*asked), shown + 1), shown + 1  # type: ignore[arg-type]

    pages = gr.State(1)
    with gr.Row(elem_id="vtag-query"):
        query = gr.Textbox(
            label="What happens in it",
            placeholder='archery    "riding a bike" OR skateboarding    running THEN jumping',
            scale=6,
            min_width=240,
            autofocus=True,
        )
        go = gr.Button("Search", variant="primary", scale=1, min_width=110)
    suggestions = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-suggestions")
    with gr.Row():
        with (
            gr.Column(scale=1, min_width=220),
            gr.Accordion("Filters", open=True, elem_id="vtag-filters"),
        ):
            score = gr.Slider(0, 1, value=0, step=0.05, label="Least score")
            model = gr.Dropdown(choices=search.models(library), value="", label="Model")
            source = gr.Dropdown(
                choices=[("anybody", ""), ("a model", "model"), ("you", "user")],
                value="",
                label="Who says so",
            )
            after = gr.Textbox(label="Recorded after", placeholder="2024 or 2024-05-17", max_lines=1)
            before = gr.Textbox(label="Recorded before", placeholder="2025", max_lines=1)
        with gr.Column(scale=5, min_width=300):
            results = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-results")
    asked: list[gr.components.Component] = [query, score, model, source, after, before]
    for event in (
        query.submit,
        go.click,
        after.submit,
        before.submit,
        score.release,
        model.input,
        source.input,
    ):
        on(event, fresh, asked, [results, pages], turn="search").then(
            None, asked, js=KEEP_ADDRESS, api_visibility="private"
        )
    on(results.more, more, [pages, *asked], [results, pages], turn="search")
    return Finder(asked, results, suggestions, pages)
