"""The watch tab: player and timeline, and beside them the tags of the video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import watch
from vtag.app.ui.wiring import MOST_MS, number, on, script


class Screen(NamedTuple):
    """The components of a video that is watched."""

    player: gr.HTML
    timeline: gr.HTML
    tags: gr.HTML


def build(library: Path) -> Screen:
    """Lay out the tab."""

    def jump(event: gr.EventData) -> tuple[str, str, str]:
        return watch.opened_at(library, number(event.content), min(number(event.at), MOST_MS))

    def confirm(event: gr.EventData) -> tuple[str, str]:
        return watch.confirm(library, number(event.content), number(event.moment), str(event.curve))

    def reject(event: gr.EventData) -> tuple[str, str]:
        return watch.reject(library, number(event.content), number(event.moment), str(event.curve))

    def rename(event: gr.EventData) -> tuple[str, str]:
        told = number(event.content), number(event.moment), str(event.name), str(event.curve)
        return watch.rename(library, *told)

    def add(event: gr.EventData) -> tuple[str, str]:
        told = str(event.label), str(event.start), str(event.end), str(event.curve)
        return watch.add(library, number(event.content), *told)

    def undo(event: gr.EventData) -> tuple[str, str]:
        return watch.undo(library, number(event.content), str(event.curve))

    def curve(event: gr.EventData) -> tuple[str, str]:
        return watch.with_curve(library, number(event.content), str(event.label).strip())

    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            player = gr.HTML(watch.nothing(), js_on_load=script("watch.js"), elem_id="vtag-watch")
            timeline = gr.HTML(js_on_load=script("tags.js"), elem_id="vtag-timeline")
        with gr.Column(scale=2, min_width=300):
            tags = gr.HTML(js_on_load=script("tags.js"), elem_id="vtag-tags")
    spoken = [timeline, tags]
    on(player.jump, jump, None, [player, *spoken], turn="watch")
    on(timeline.curve, curve, None, spoken, turn="watch")
    for event, answer in (
        (tags.confirm, confirm),
        (tags.reject, reject),
        (tags.rename, rename),
        (tags.insert, add),
        (tags.undo, undo),
    ):
        on(event, answer, None, spoken, turn="watch")
    return Screen(player, timeline, tags)
