"""What the Scan and the Teach tab share: the buttons of active and waiting jobs, and the folder chooser."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr

from vtag.app.ui import scan_control
from vtag.app.ui.gradio_events import connect, parse_integer, read_script
from vtag.engine.jobs.job_queue import JobQueue

TICK_S = 2.0  # how often progress is read from the library


def connect_job_buttons(
    panel: gr.HTML,
    message: gr.HTML,
    queue: JobQueue,
    show_progress: Callable[[], str],
    *,
    serial_group: str = "",
) -> None:
    """Connect the buttons that cancel, pause and resume the active run, and remove a waiting job."""

    def with_progress(action: Callable[[JobQueue], str]) -> Callable[[], tuple[str, str]]:
        return lambda: (action(queue), show_progress())

    def withdraw(event: gr.EventData) -> str:
        queue.cancel(parse_integer(event.number))
        return show_progress()

    for event, action in (
        (panel.end, scan_control.cancel_run),
        (panel.pause, scan_control.pause_run),
        (panel.resume, scan_control.resume_run),
    ):
        connect(event, with_progress(action), None, [message, panel], serial_group=serial_group)
    connect(panel.withdraw, withdraw, None, panel, serial_group=serial_group)


def add_folder_chooser(element_id: str, *, serial_group: str) -> gr.HTML:
    """Add a folder chooser. Its event `take` carries the path as `folder`."""

    def enter(event: gr.EventData) -> str:
        return scan_control.show_folders(str(event.folder))

    chooser = gr.HTML(
        scan_control.show_folders(), js_on_load=read_script("button_events.js"), elem_id=element_id
    )
    connect(chooser.go, enter, None, chooser, serial_group=serial_group)
    return chooser
