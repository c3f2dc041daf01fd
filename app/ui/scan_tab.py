"""The scan tab: what to look at and with what, what runs, what ran."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gradio as gr

from vtag.app.ui import search, work
from vtag.app.ui.wiring import at_once, number, on, script
from vtag.engine.jobs.job_queue import JobQueue

_TICK_S = 2.0
_VIEWS = [
    ("the middle of the picture", "center"),
    ("the whole picture", "full"),
    ("three crops, averaged", "three"),
]


def build(library: Path, queue: JobQueue, tab: gr.Tab) -> gr.HTML:
    """Lay out the tab; returns what shows moments as they are found."""

    def begin(*asked: object) -> tuple[str, str]:
        return work.begin(library, queue, work.Options(*asked)), work.under_way(library, queue)  # type: ignore[arg-type]

    def cost(*asked: object) -> str:
        return work.cost(library, work.Options(*asked))  # type: ignore[arg-type]

    def told(act: Callable[[JobQueue], str]) -> Callable[[], tuple[str, str]]:
        return lambda: (act(queue), work.under_way(library, queue))

    def withdraw(event: gr.EventData) -> str:
        queue.cancel(number(event.number))
        return work.under_way(library, queue)

    def go(event: gr.EventData) -> str:
        return work.folders(str(event.folder))

    def take(event: gr.EventData, lines: str) -> str:
        return work.taken(lines, str(event.folder))

    with gr.Row():
        with gr.Column(scale=1, min_width=300):
            folders = gr.Textbox(
                label="Folders on this machine, one a line", placeholder="/home/me/Videos", lines=2
            )
            chooser = gr.HTML(work.folders(), js_on_load=script("acts.js"), elem_id="vtag-chooser")
            model = gr.Dropdown(
                choices=search.scan_models(),
                value="",
                label="Model",
                info="The library remembers its model.",
                elem_id="vtag-scan-model",
            )
            with gr.Accordion("Options", open=False):
                stride = gr.Number(
                    label="Seconds from window to window",
                    info="Empty: one after the other.",
                    value=None,
                    minimum=0.1,
                )
                view = gr.Dropdown(choices=_VIEWS, value="center", label="What of each frame is looked at")
                retry = gr.Checkbox(label="Try files again that could not be read")
                force = gr.Checkbox(label="Look again at what was looked at")
            with gr.Row():
                ask = gr.Button("How long?", min_width=120)
                start = gr.Button("Start scan", variant="primary", min_width=120)
            price = gr.HTML(elem_id="vtag-scan-cost")  # comes late: no other answer is overwritten by it
            said = gr.HTML(elem_id="vtag-scan-said")
        with gr.Column(scale=2, min_width=300):
            gr.HTML("<h2>Now</h2>", elem_classes="vtag-heading")
            now = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-now")
            before = gr.HTML(elem_id="vtag-runs")
    asked = [folders, model, stride, view, retry, force]
    on(start.click, begin, asked, [said, now], once=True)
    at_once(ask.click, said, "")
    at_once(ask.click, price, "Counting the videos.")
    on(ask.click, cost, asked, price, is_slow=True)
    for event, act in ((now.end, work.end), (now.pause, work.pause), (now.resume, work.go_on)):
        on(event, told(act), None, [said, now])
    on(now.withdraw, withdraw, None, now)
    on(chooser.go, go, None, chooser, turn="folders")
    on(chooser.take, take, folders, folders)
    on(tab.select, lambda: (work.under_way(library, queue), work.history(library)), None, [now, before])
    on(tab.select, lambda: gr.Dropdown(choices=search.scan_models()), None, model)  # one may have come
    on(
        gr.Timer(_TICK_S).tick,
        lambda: (work.under_way(library, queue), work.history(library)),
        None,
        [now, before],
        once=True,
    )
    return now
