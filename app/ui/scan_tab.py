"""The Scan tab: folders and options, the estimated cost, active and past runs."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from vtag.app.ui import scan_control, search
from vtag.app.ui.gradio_events import connect, read_script, show_immediately
from vtag.app.ui.html_parts import heading
from vtag.app.ui.job_panel import TICK_S, add_folder_chooser, connect_job_buttons
from vtag.engine.jobs.job_queue import JobQueue

_VIEWS = [
    ("the middle of the picture", "center"),
    ("the whole picture", "full"),
    ("three crops, averaged", "three"),
]


class _ScanFields(NamedTuple):
    """The form, in the order of scan_control.ScanForm."""

    folders: gr.Textbox
    model: gr.Dropdown
    stride: gr.Number
    view: gr.Dropdown
    retry: gr.Checkbox
    force: gr.Checkbox


class _ScanControls(NamedTuple):
    chooser: gr.HTML
    estimate: gr.Button
    start: gr.Button
    cost: gr.HTML  # apart from `message`: the estimate is slow and would overwrite a newer message
    message: gr.HTML


def build(library: Path, queue: JobQueue, tab: gr.Tab) -> gr.HTML:
    """Lay out the tab and connect its events; returns the component that shows moments while a scan runs."""
    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            fields, controls = _add_form()
        with gr.Column(scale=2, min_width=300):
            gr.HTML(heading("Now"), elem_classes="vtag-heading")
            progress = gr.HTML(js_on_load=read_script("button_events.js"), elem_id="vtag-now")
            history = gr.HTML(elem_id="vtag-runs")
    show_progress = partial(scan_control.show_progress, library, queue)
    _connect_form(library, queue, fields, controls, progress)
    connect_job_buttons(progress, controls.message, queue, show_progress)

    def refresh() -> tuple[str, str]:
        return show_progress(), scan_control.show_history(library)

    connect(tab.select, refresh, None, [progress, history])
    connect(gr.Timer(TICK_S).tick, refresh, None, [progress, history], once=True)
    # a model may have been installed since the page was built
    connect(tab.select, lambda: gr.Dropdown(choices=search.scan_model_choices()), None, fields.model)
    return progress


def _add_form() -> tuple[_ScanFields, _ScanControls]:
    folders = gr.Textbox(label="Folders on this machine, one a line", placeholder="/home/me/Videos", lines=2)
    chooser = add_folder_chooser("vtag-chooser", serial_group="folders")
    model = gr.Dropdown(
        choices=search.scan_model_choices(),
        value="",
        label="Model",
        info="The library remembers its model.",
        elem_id="vtag-scan-model",
    )
    with gr.Accordion("Options", open=False):
        stride = gr.Number(
            label="Seconds from window to window",
            info="Empty: windows follow each other without overlap.",
            value=None,
            minimum=0.1,
        )
        view = gr.Dropdown(choices=_VIEWS, value="center", label="Part of each frame")
        retry = gr.Checkbox(label="Try again files that could not be read")
        force = gr.Checkbox(label="Scan again what was scanned already")
    with gr.Row():
        estimate = gr.Button("How long?", min_width=120)
        start = gr.Button("Start scan", variant="primary", min_width=120)
    cost = gr.HTML(elem_id="vtag-scan-cost")
    message = gr.HTML(elem_id="vtag-scan-said")
    fields = _ScanFields(folders, model, stride, view, retry, force)
    return fields, _ScanControls(chooser, estimate, start, cost, message)


def _connect_form(
    library: Path, queue: JobQueue, fields: _ScanFields, controls: _ScanControls, progress: gr.HTML
) -> None:
    """Connect the folder chooser and the buttons How long? and Start scan."""

    def start(*values: Any) -> tuple[str, str]:
        form = scan_control.ScanForm(*values)
        message = scan_control.start_scan(library, queue, form)
        return message, scan_control.show_progress(library, queue)

    def estimate(*values: Any) -> str:
        return scan_control.estimate_cost(library, scan_control.ScanForm(*values))

    def take(event: gr.EventData, lines: str) -> str:
        return scan_control.add_folder(lines, str(event.folder))

    connect(controls.start.click, start, list(fields), [controls.message, progress], once=True)
    show_immediately(controls.estimate.click, controls.message, "")
    show_immediately(controls.estimate.click, controls.cost, "Counting the videos.")
    connect(controls.estimate.click, estimate, list(fields), controls.cost, is_slow=True)
    connect(controls.chooser.take, take, fields.folders, fields.folders)
