"""The Library tab: what the library holds, and the models."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from vtag.app.ui import library_overview
from vtag.app.ui.gradio_events import connect, read_script
from vtag.app.ui.html_library import models_heading
from vtag.engine.jobs.model_downloads import ModelDownloads

_TICK_S = 2.0  # how often the progress of downloads is read


def build(library: Path, downloads: ModelDownloads, cache: Path, tab: gr.Tab) -> gr.HTML:
    """Lay out the tab and connect its events; returns the component whose labels search when pressed."""

    def start(event: gr.EventData) -> tuple[str, gr.Timer]:
        return library_overview.start_download(downloads, str(event.name)), gr.Timer(active=True)

    def stop(event: gr.EventData) -> tuple[str, gr.Timer]:
        return library_overview.stop_download(downloads, str(event.name)), gr.Timer(active=True)

    def refresh() -> tuple[str, gr.Timer]:
        is_downloading = any(download.is_running for download in downloads.states())
        return library_overview.show_models(downloads), gr.Timer(active=is_downloading)

    overview = gr.HTML(elem_id="vtag-library")
    labels = gr.HTML(js_on_load=read_script("button_events.js"), elem_id="vtag-found")
    gr.HTML(models_heading(), elem_classes="vtag-heading")
    models = gr.HTML(js_on_load=read_script("button_events.js"), elem_id="vtag-models")
    timer = gr.Timer(_TICK_S, active=False)
    connect(tab.select, lambda: library_overview.show_overview(library, cache), None, overview)
    connect(tab.select, lambda: library_overview.show_label_statistics(library), None, labels, is_slow=True)
    for event, function in ((tab.select, refresh), (models.pull, start), (models.stop, stop)):
        connect(event, function, None, [models, timer], serial_group="models")
    connect(timer.tick, refresh, None, [models, timer], serial_group="models", once=True)
    return labels
