"""The library tab: what is held, and the models."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from vtag.app.ui import holdings
from vtag.app.ui.wiring import on, script
from vtag.engine.jobs.model_downloads import ModelDownloads

_TICK_S = 2.0


def build(library: Path, pulls: ModelDownloads, cache: Path, tab: gr.Tab) -> gr.HTML:
    """Lay out the tab; returns the component whose labels can be searched for."""

    def pull(event: gr.EventData) -> tuple[str, gr.Timer]:
        return holdings.pull(pulls, str(event.name)), gr.Timer(active=True)

    def stop(event: gr.EventData) -> tuple[str, gr.Timer]:
        return holdings.stop(pulls, str(event.name)), gr.Timer(active=True)

    def look() -> tuple[str, gr.Timer]:
        return holdings.models(pulls), gr.Timer(active=any(pull.is_running for pull in pulls.states()))

    held = gr.HTML(elem_id="vtag-library")
    found = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-found")
    gr.HTML("<h2>Models</h2><p>Nothing is downloaded unasked.</p>", elem_classes="vtag-heading")
    models = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-models")
    ticking = gr.Timer(_TICK_S, active=False)
    on(tab.select, lambda: holdings.holdings(library, cache), None, held)
    on(tab.select, lambda: holdings.found(library), None, found, is_slow=True)
    for event, answer in ((tab.select, look), (models.pull, pull), (models.stop, stop)):
        on(event, answer, None, [models, ticking], turn="models")
    on(ticking.tick, look, None, [models, ticking], turn="models", once=True)
    return found
