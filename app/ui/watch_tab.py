"""The Watch tab: the player with its timeline, and the tags of the video."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import video_view
from vtag.app.ui.gradio_events import connect, parse_integer, parse_milliseconds, read_script

_SERIAL_GROUP = "watch"


class WatchComponents(NamedTuple):
    """The components that show a video, in the order of video_view.VideoView."""

    player: gr.HTML
    timeline: gr.HTML
    tags: gr.HTML


def build(library: Path) -> WatchComponents:
    """Lay out the tab and connect its events."""
    with gr.Row():
        with gr.Column(scale=3, min_width=300):
            player = gr.HTML(
                video_view.empty_player(), js_on_load=read_script("watch.js"), elem_id="vtag-watch"
            )
            timeline = gr.HTML(js_on_load=read_script("timeline.js"), elem_id="vtag-timeline")
        with gr.Column(scale=2, min_width=300):
            tags = gr.HTML(js_on_load=read_script("timeline.js"), elem_id="vtag-tags")
    components = WatchComponents(player, timeline, tags)
    _connect_player(library, components)
    _connect_corrections(library, components)
    return components


def _connect_player(library: Path, components: WatchComponents) -> None:
    """Show another part of a converted video, and the curve of a label."""

    def jump(event: gr.EventData) -> tuple[str, str, str]:
        return video_view.show_video(library, parse_integer(event.content), parse_milliseconds(event.at))

    def curve(event: gr.EventData) -> tuple[str, str]:
        return video_view.show_curve(library, parse_integer(event.content), str(event.label).strip())

    player, timeline, tags = components
    connect(player.jump, jump, None, list(components), serial_group=_SERIAL_GROUP)
    connect(timeline.curve, curve, None, [timeline, tags], serial_group=_SERIAL_GROUP)


def _connect_corrections(library: Path, components: WatchComponents) -> None:
    """Confirm, reject, rename, add and undo. Each event carries the label of the shown curve as `curve`."""

    def confirm(event: gr.EventData) -> tuple[str, str]:
        content, moment = parse_integer(event.content), parse_integer(event.moment)
        return video_view.confirm(library, content, moment, str(event.curve))

    def reject(event: gr.EventData) -> tuple[str, str]:
        content, moment = parse_integer(event.content), parse_integer(event.moment)
        return video_view.reject(library, content, moment, str(event.curve))

    def rename(event: gr.EventData) -> tuple[str, str]:
        content, moment = parse_integer(event.content), parse_integer(event.moment)
        return video_view.rename(library, content, moment, str(event.name), str(event.curve))

    def add(event: gr.EventData) -> tuple[str, str]:
        fields = str(event.label), str(event.start), str(event.end), str(event.curve)
        return video_view.add(library, parse_integer(event.content), *fields)

    def undo(event: gr.EventData) -> tuple[str, str]:
        return video_view.undo(library, parse_integer(event.content), str(event.curve))

    _, timeline, tags = components
    for event, function in (
        (tags.confirm, confirm),
        (tags.reject, reject),
        (tags.rename, rename),
        (tags.insert, add),
        (tags.undo, undo),
    ):
        connect(event, function, None, [timeline, tags], serial_group=_SERIAL_GROUP)
