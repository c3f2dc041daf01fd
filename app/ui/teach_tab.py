"""The teach tab: name a tag, choose examples, see what it would find, correct, keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import teach, trainings, work
from vtag.app.ui.html_moments import Place
from vtag.app.ui.wiring import MOST_MS, at_once, number, on, script
from vtag.engine.jobs.job_queue import JobQueue

_DRAWN, _TAUGHT = "examples", "teaching"  # turns: what is shown at once, and what takes seconds
_TRAINED = "training"
_TICK_S = 2.0
_PARTS = [  # what learns
    ("the tags alone", trainings.HEAD),
    ("the network's last stage, too", "stages=1"),
    ("the network's last two stages", "stages=2"),
    ("the whole network", "all"),
]
_FOUND, _CHOICES = "It would find", "Which of these show it?"


class Teaching(NamedTuple):
    """The components whose cards can be opened."""

    trial: gr.HTML
    examples: gr.HTML
    choices: gr.HTML


def build(library: Path, queue: JobQueue, tab: gr.Tab) -> Teaching:
    """Lay out the tab."""

    def drawn(tag: str, found: list[Place], chosen: list[Place]) -> tuple[str, str, str]:
        return (
            teach.choices(library, tag, found, _FOUND),
            teach.examples(library, tag),
            teach.choices(library, tag, chosen, _CHOICES),
        )

    def look_for(tag: str, query: str, found: list[Place]) -> tuple[object, ...]:
        chosen, said_ = teach.candidates(library, query)
        return said_, chosen, *drawn(tag, found, chosen)

    def say(event: gr.EventData, tag: str, found: list[Place], chosen: list[Place]) -> tuple[str, ...]:
        told = event._data or {}
        place = number(told.get("content")), number(told.get("at")), min(number(told.get("to")), MOST_MS)
        wrong = teach.say(library, tag, *place, is_it=told.get("do") == "yes")
        return wrong, *drawn(tag, found, chosen)

    def try_out(tag: str) -> tuple[object, ...]:
        found, said_ = teach.try_out(library, tag)
        return said_, found

    def retitle(event: gr.EventData) -> tuple[str, str]:
        tag, name = str(event.tag), str(event.name).strip()
        said_, is_done = teach.rename_tag(library, queue, tag, name)
        return said_, name if is_done else tag

    def drop(event: gr.EventData) -> tuple[str, str]:
        said_, is_done = teach.drop_tag(library, queue, str(event.tag))
        return said_, "" if is_done else str(event.tag)

    def go_on(event: gr.EventData) -> tuple[object, ...]:
        tag = str(event.tag)
        return tag, [], *drawn(tag, [], [])

    def learn_from(path: str, part: str, epochs: float | None) -> tuple[str, str]:
        said_ = trainings.from_folder(library, queue, path, part, number(epochs or trainings.EPOCHS))
        return said_, trainings.under_way(library, queue)

    def go_to(event: gr.EventData) -> str:
        return work.folders(str(event.folder))

    def take(event: gr.EventData) -> str:
        return str(event.folder)

    def told(act: Callable[[JobQueue], str]) -> Callable[[], tuple[str, str]]:
        return lambda: (act(queue), trainings.under_way(library, queue))

    def withdraw(event: gr.EventData) -> str:
        queue.cancel(number(event.number))
        return trainings.under_way(library, queue)

    def discard(event: gr.EventData) -> str:
        return trainings.discard_left(library, queue, str(event.name))

    def follow(before: str) -> tuple[object, object]:
        shown = trainings.under_way(library, queue)
        if shown == before:
            return gr.skip(), gr.skip()
        return shown, gr.skip() if trainings.is_busy(library, queue) else trainings.measured()

    found, chosen = gr.State([]), gr.State([])
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            tag = gr.Textbox(
                label="Tag to teach", placeholder="waving", max_lines=1, elem_id="vtag-teach-tag"
            )
            query = gr.Textbox(
                label="Find examples by a search", placeholder="clapping OR dancing", max_lines=1
            )
            with gr.Row():
                seek = gr.Button("Find", min_width=80)
                go = gr.Button("Try it", variant="primary", min_width=80)
                keep = gr.Button("Keep it", min_width=80)
            with gr.Accordion("From a folder of labelled clips", open=False):
                folder = gr.Textbox(
                    label="Folder with one folder of clips a tag",
                    placeholder="/home/me/labelled",
                    max_lines=1,
                )
                chooser = gr.HTML(work.folders(), js_on_load=script("acts.js"), elem_id="vtag-teach-chooser")
                part = gr.Dropdown(
                    choices=_PARTS,
                    value=trainings.HEAD,
                    label="What learns",
                    info="The tags alone: in seconds, found in all that was seen. "
                    "The network: wants a GPU and many clips, and looks anew.",
                    elem_id="vtag-teach-part",
                )
                epochs = gr.Number(
                    label="Epochs, at most",
                    info="It ends ten epochs after the best one.",
                    value=trainings.EPOCHS,
                    minimum=1,
                    precision=0,
                    visible=False,
                )
                learn = gr.Button("Teach from this folder")
            said = gr.HTML(elem_id="vtag-teach-said")
        with gr.Column(scale=4, min_width=300, elem_id="vtag-teach"):
            now = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-training")
            trial = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-trial")
            examples = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-examples")
            choices = gr.HTML(js_on_load=script("acts.js"), elem_id="vtag-choices")
            measured = gr.HTML(elem_id="vtag-measured")
    shown = [trial, examples, choices]
    for event in (query.submit, seek.click):
        on(event, look_for, [tag, query, found], [said, chosen, *shown], turn=_DRAWN)
    on(tag.blur, drawn, [tag, found, chosen], shown, turn=_DRAWN)
    on(tag.submit, drawn, [tag, found, chosen], shown, turn=_DRAWN)
    for cards in shown:
        for verdict in (cards.yes, cards.no):
            on(verdict, say, [tag, found, chosen], [said, *shown], turn=_DRAWN)
    on(examples.teach, go_on, None, [tag, found, *shown], turn=_DRAWN)
    at_once(go.click, said, "Trying: this takes a few seconds.")
    at_once(keep.click, said, "Keeping: this takes a few seconds.")
    for slow in (
        on(go.click, try_out, tag, [said, found], is_slow=True, turn=_TAUGHT),
        on(examples.retitle, retitle, None, [said, tag], is_slow=True, turn=_TAUGHT),
        on(examples.drop, drop, None, [said, tag], is_slow=True, turn=_TAUGHT),
    ):
        on(slow.then, drawn, [tag, found, chosen], shown, turn=_DRAWN)
    on(keep.click, lambda: teach.keep(library, queue), None, said, is_slow=True, turn=_TAUGHT)
    on(chooser.go, go_to, None, chooser, turn="folders to teach")
    on(chooser.take, take, None, folder)
    on(part.change, lambda learns: gr.Number(visible=learns != trainings.HEAD), part, epochs)
    on(learn.click, learn_from, [folder, part, epochs], [said, now], turn=_TRAINED, once=True)
    for event, act in ((now.end, work.end), (now.pause, work.pause), (now.resume, work.go_on)):
        on(event, told(act), None, [said, now], turn=_TRAINED)
    on(now.withdraw, withdraw, None, now, turn=_TRAINED)
    on(now.drop, discard, None, now, turn=_TRAINED)
    on(gr.Timer(_TICK_S).tick, follow, now, [now, measured], turn=_TRAINED, once=True)
    on(tab.select, lambda: trainings.under_way(library, queue), None, now, turn=_TRAINED)
    on(
        tab.select,
        lambda *asked: (trainings.measured(), *drawn(*asked)),
        [tag, found, chosen],
        [measured, *shown],
        turn=_DRAWN,
    )
    return Teaching(trial, examples, choices)
