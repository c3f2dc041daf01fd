"""The library tab: what is held, and the models."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from vtag.app.ui import holdings
from vtag.app.ui.wiring import on, script
from vtag.engine.pulls import Pulls

_TICK_S = 2.0


def build(library: Path, pulls: Pulls, cache: Path, tab: gr.Tab) -> gr.HTML:
    """Lay out the tab; returns the component whose labels can be searched for."""

    def pull(event: gr.EventData) -> str:
        return holdings.pull(pulls, str(event.name))

    def stop(event: gr.EventData) -> str:
        return holdings.stop(pulls, str(event.name))

    held = gr.HTML(elem_id="vtag-library")
    found = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-found")
    gr.HTML("<h2>Models</h2><p>Nothing is downloaded unasked.</p>", elem_classes="vtag-heading")
    models = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-models")
    ticking = gr.Timer(_TICK_S, active=False)
    on(tab.select, lambda: holdings.holdings(library, cache), None, held)
    on(tab.select, lambda: holdings.found(library), None, found, is_slow=True)
    on(tab.select, lambda: (holdings.models(pulls), gr.Timer(active=True)), None, [models, ticking])
    on(
        ticking.tick,
        lambda: (holdings.models(pulls), gr.Timer(active=bool(pulls.state()))),
        None,
        [models, ticking],
    )
    on(models.pull, pull, None, models).then(
        lambda: gr.Timer(active=True), None, ticking, api_visibility="private"
    )
    on(models.stop, stop, None, models)
    return found
