"""The Search tab: the query, the filters and the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vtag.app.ui import search
from vtag.app.ui.gradio_events import UPDATE_ADDRESS, connect, read_script


class SearchComponents(NamedTuple):
    """The components that other tabs fill. `fields` are in the order of search.SearchForm."""

    fields: list[gr.components.Component]
    results: gr.HTML
    suggestions: gr.HTML
    pages: gr.State


def build(library: Path) -> SearchComponents:
    """Lay out the tab and connect its events."""

    def show_first_page(*values: Any) -> tuple[str, int]:
        return search.show_results(library, search.SearchForm(*values)), 1

    def show_next_page(pages: int, *values: Any) -> tuple[str, int]:
        form = search.SearchForm(*values)
        return search.show_results(library, form, pages + 1), pages + 1

    pages = gr.State(1)
    with gr.Row(elem_id="vtag-query"):
        query = gr.Textbox(
            label="Search",
            placeholder='archery    "riding a bike" OR skateboarding    running THEN jumping',
            scale=6,
            min_width=240,
            autofocus=True,
        )
        submit = gr.Button("Search", variant="primary", scale=1, min_width=110)
    suggestions = gr.HTML(js_on_load=read_script("button_events.js"), elem_id="vtag-suggestions")
    with gr.Row():
        with (
            gr.Column(scale=1, min_width=220),
            gr.Accordion("Filters", open=True, elem_id="vtag-filters"),
        ):
            filters = _add_filters(library)
        with gr.Column(scale=5, min_width=300):
            results = gr.HTML(js_on_load=read_script("button_events.js"), elem_id="vtag-results")
    fields: list[gr.components.Component] = [query, *filters]
    score, model, source, after, before = filters
    for event in (
        query.submit,
        submit.click,
        after.submit,
        before.submit,
        score.release,
        model.input,
        source.input,
    ):
        connect(event, show_first_page, fields, [results, pages], serial_group="search").then(
            None, fields, js=UPDATE_ADDRESS, api_visibility="private"
        )
    connect(results.more, show_next_page, [pages, *fields], [results, pages], serial_group="search")
    return SearchComponents(fields, results, suggestions, pages)


def _add_filters(library: Path) -> tuple[gr.Slider, gr.Dropdown, gr.Dropdown, gr.Textbox, gr.Textbox]:
    """Add the filters in the order of search.SearchForm."""
    return (
        gr.Slider(0, 1, value=0, step=0.05, label="Minimum score"),
        gr.Dropdown(choices=search.model_choices(library), value="", label="Model"),
        gr.Dropdown(
            choices=[("anybody", ""), ("a model", "model"), ("you", "user")], value="", label="Added by"
        ),
        gr.Textbox(label="Recorded after", placeholder="2024 or 2024-05-17", max_lines=1),
        gr.Textbox(label="Recorded before", placeholder="2025", max_lines=1),
    )
