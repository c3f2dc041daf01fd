"""The Teach tab: name a tag, choose examples, preview what it finds, correct, keep; or train from a folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import NamedTuple

import gradio as gr

from vtag.app.ui import custom_tags, training_control
from vtag.app.ui.custom_tags import Trial
from vtag.app.ui.gradio_events import (
    connect,
    parse_integer,
    parse_milliseconds,
    read_script,
    show_immediately,
)
from vtag.app.ui.html_moments import VideoRange
from vtag.app.ui.job_panel import TICK_S, add_folder_chooser, connect_job_buttons
from vtag.engine.jobs.job_queue import JobQueue

# serial groups: what is shown at once, what takes seconds, and the training's progress
_EXAMPLES, _TEACHING, _TRAINING = "examples", "teaching", "training"
_LINE_STEP = 0.001
_PARTS = [  # caption, and value of `vtag finetune --train`
    ("the tags alone", training_control.HEAD_ONLY),
    ("the network's last stage, too", "stages=1"),
    ("the network's last two stages", "stages=2"),
    ("the whole network", "all"),
]


class TeachComponents(NamedTuple):
    """The components whose cards can be opened."""

    preview: gr.HTML
    examples: gr.HTML
    choices: gr.HTML


class _TagFields(NamedTuple):
    tag: gr.Textbox
    query: gr.Textbox
    find: gr.Button
    preview: gr.Button
    keep: gr.Button
    line: gr.Slider


class _FolderFields(NamedTuple):
    folder: gr.Textbox
    chooser: gr.HTML
    part: gr.Dropdown
    epochs: gr.Number
    start: gr.Button


class _TeachViews(NamedTuple):
    message: gr.HTML
    progress: gr.HTML
    cards: TeachComponents
    reports: gr.HTML


class _Ranges(NamedTuple):
    """State of one page: the latest preview, and the time ranges to choose from."""

    preview: gr.State
    choices: gr.State


def build(library: Path, queue: JobQueue, tab: gr.Tab) -> TeachComponents:
    """Lay out the tab and connect its events."""
    ranges = _Ranges(gr.State(None), gr.State([]))
    with gr.Row():
        with gr.Column(scale=2, min_width=300):
            tag_fields = _add_tag_fields()
            folder_fields = _add_folder_fields()
            message = gr.HTML(elem_id="vtag-teach-said")
        with gr.Column(scale=4, min_width=300, elem_id="vtag-teach"):
            progress = _add_list("vtag-training")
            cards = TeachComponents(
                _add_list("vtag-trial"), _add_list("vtag-examples"), _add_list("vtag-choices")
            )
            views = _TeachViews(message, progress, cards, gr.HTML(elem_id="vtag-measured"))
    _connect_examples(library, tag_fields, ranges, views)
    _connect_teaching(library, queue, tag_fields, ranges, views)
    _connect_folder_training(library, queue, folder_fields, views)
    _connect_progress(library, queue, tab, views)
    connect(
        tab.select,
        lambda *state: (training_control.show_reports(), *_show_cards(library, *state)),
        [tag_fields.tag, *ranges],
        [views.reports, *cards],
        serial_group=_EXAMPLES,
    )
    return cards


def _add_list(element_id: str) -> gr.HTML:
    return gr.HTML(js_on_load=read_script("button_events.js"), elem_id=element_id)


def _add_tag_fields() -> _TagFields:
    tag = gr.Textbox(label="Tag to teach", placeholder="waving", max_lines=1, elem_id="vtag-teach-tag")
    query = gr.Textbox(label="Find examples by a search", placeholder="clapping OR dancing", max_lines=1)
    with gr.Row():
        find = gr.Button("Find", min_width=80)
        preview = gr.Button("Try it", variant="primary", min_width=80)
        keep = gr.Button("Keep it", min_width=80)
    line = gr.Slider(
        0.001,
        0.999,
        value=0.5,
        step=_LINE_STEP,
        label="From here on it is this tag",
        info="Lower finds more, higher is surer.",
        elem_id="vtag-teach-line",
        visible=False,
    )
    return _TagFields(tag, query, find, preview, keep, line)


def _add_folder_fields() -> _FolderFields:
    with gr.Accordion("From a folder of labelled clips", open=False):
        folder = gr.Textbox(
            label="Folder with one folder of clips a tag", placeholder="/home/me/labelled", max_lines=1
        )
        chooser = add_folder_chooser("vtag-teach-chooser", serial_group="folders to teach")
        part = gr.Dropdown(
            choices=_PARTS,
            value=training_control.HEAD_ONLY,
            label="What learns",
            info="The tags alone take seconds, and are found in all scanned videos. "
            "The network needs a GPU and many clips, and the videos must be scanned again.",
            elem_id="vtag-teach-part",
        )
        epochs = gr.Number(
            label="Epochs, at most",
            info="Training stops ten epochs after the best one.",
            value=training_control.DEFAULT_EPOCHS,
            minimum=1,
            precision=0,
            visible=False,
        )
        start = gr.Button("Teach from this folder")
    return _FolderFields(folder, chooser, part, epochs, start)


def _show_cards(
    library: Path, tag: str, preview: Trial | None, choices: list[VideoRange]
) -> tuple[str, str, str]:
    """The cards in the order of TeachComponents."""
    return (
        custom_tags.show_trial(library, tag, preview),
        custom_tags.show_examples(library, tag),
        custom_tags.show_choices(library, tag, choices, "Which of these show it?"),
    )


def _connect_examples(library: Path, fields: _TagFields, ranges: _Ranges, views: _TeachViews) -> None:
    """Search for candidates, say Yes or No to them, and switch to another tag."""

    def find(tag: str, query: str, preview: Trial | None) -> tuple[object, ...]:
        choices, message = custom_tags.find_candidates(library, query)
        return message, choices, *_show_cards(library, tag, preview, choices)

    def record(
        event: gr.EventData, tag: str, preview: Trial | None, choices: list[VideoRange]
    ) -> tuple[str, ...]:
        data = event._data or {}
        content, start_ms = parse_integer(data.get("content")), parse_integer(data.get("at"))
        end_ms = parse_milliseconds(data.get("to"))
        is_example = data.get("do") == "yes"
        message = custom_tags.record_example(library, tag, content, start_ms, end_ms, is_example=is_example)
        return message, *_show_cards(library, tag, preview, choices)

    def switch(event: gr.EventData) -> tuple[object, ...]:
        tag = str(event.tag)
        return tag, None, [], gr.Slider(visible=False), *_show_cards(library, tag, None, [])

    cards = views.cards
    for event in (fields.query.submit, fields.find.click):
        outputs = [views.message, ranges.choices, *cards]
        connect(event, find, [fields.tag, fields.query, ranges.preview], outputs, serial_group=_EXAMPLES)
    for event in (fields.tag.blur, fields.tag.submit):
        connect(
            event, partial(_show_cards, library), [fields.tag, *ranges], list(cards), serial_group=_EXAMPLES
        )
    for component in cards:
        for event in (component.yes, component.no):
            connect(event, record, [fields.tag, *ranges], [views.message, *cards], serial_group=_EXAMPLES)
    outputs = [fields.tag, *ranges, fields.line, *cards]
    connect(cards.examples.teach, switch, None, outputs, serial_group=_EXAMPLES)


def _connect_teaching(
    library: Path, queue: JobQueue, fields: _TagFields, ranges: _Ranges, views: _TeachViews
) -> None:
    """Preview, keep, rename and remove a tag. Each trains a head, which takes seconds."""

    def preview(tag: str) -> tuple[object, ...]:
        trial, message = custom_tags.try_tag(library, tag)
        return message, trial, _show_line(trial)

    def move(tag: str, line: float, trial: Trial | None) -> tuple[object, ...]:
        moved, message = custom_tags.move_line(library, tag, line, trial)
        return message, moved

    def rename(event: gr.EventData) -> tuple[str, str]:
        tag, name = str(event.tag), str(event.name).strip()
        message, is_renamed = custom_tags.rename_tag(library, queue, tag, name)
        return message, name if is_renamed else tag

    def remove(event: gr.EventData) -> tuple[str, str]:
        message, is_removed = custom_tags.remove_tag(library, queue, str(event.tag))
        return message, "" if is_removed else str(event.tag)

    message, examples = views.message, views.cards.examples
    show_immediately(fields.preview.click, message, "Trying: this takes a few seconds.")
    show_immediately(fields.keep.click, message, "Keeping: this takes a few seconds.")
    for event, function, inputs, output in (
        (fields.preview.click, preview, fields.tag, [ranges.preview, fields.line]),
        (fields.line.release, move, [fields.tag, fields.line, ranges.preview], [ranges.preview]),
        (examples.retitle, rename, None, [fields.tag]),
        (examples.drop, remove, None, [fields.tag]),
    ):
        request = connect(event, function, inputs, [message, *output], is_slow=True, serial_group=_TEACHING)
        show_cards = partial(_show_cards, library)
        connect(request.then, show_cards, [fields.tag, *ranges], list(views.cards), serial_group=_EXAMPLES)
    keep = partial(custom_tags.save_model, library, queue)
    inputs = [fields.tag, ranges.preview]
    connect(fields.keep.click, keep, inputs, message, is_slow=True, serial_group=_TEACHING)


def _show_line(trial: Trial | None) -> gr.Slider:
    """The slider at the line of a preview; hidden without one."""
    if trial is None:
        return gr.Slider(visible=False)
    return gr.Slider(value=round(trial.line, 3), visible=True)


def _connect_folder_training(
    library: Path, queue: JobQueue, fields: _FolderFields, views: _TeachViews
) -> None:
    """Choose a folder of labelled clips, and train on it."""

    def take(event: gr.EventData) -> str:
        return str(event.folder)

    def start(path: str, part: str, epochs: float | None) -> tuple[str, str]:
        number = parse_integer(epochs or training_control.DEFAULT_EPOCHS)
        message = training_control.start_training(library, queue, path, part, number)
        return message, training_control.show_progress(library, queue)

    def show_epochs(part: str) -> gr.Number:
        return gr.Number(visible=part != training_control.HEAD_ONLY)

    connect(fields.chooser.take, take, None, fields.folder)
    connect(fields.part.change, show_epochs, fields.part, fields.epochs)
    inputs = [fields.folder, fields.part, fields.epochs]
    outputs = [views.message, views.progress]
    connect(fields.start.click, start, inputs, outputs, serial_group=_TRAINING, once=True)


def _connect_progress(library: Path, queue: JobQueue, tab: gr.Tab, views: _TeachViews) -> None:
    """Show the progress of a training, and its metrics when it has ended."""
    show_progress = partial(training_control.show_progress, library, queue)

    def discard(event: gr.EventData) -> str:
        return training_control.discard_unfinished(library, queue, str(event.name))

    def refresh(previous: str, was_training: bool) -> tuple[object, object, bool]:
        # the panel may be empty while the process still ends: the reports follow when it has ended
        is_training = training_control.is_training(library, queue)
        has_ended = was_training and not is_training
        progress = show_progress()
        is_changed = progress != previous
        return (
            progress if is_changed else gr.skip(),
            training_control.show_reports() if has_ended or (is_changed and not is_training) else gr.skip(),
            is_training,
        )

    progress = views.progress
    was_training = gr.State(False)
    connect_job_buttons(progress, views.message, queue, show_progress, serial_group=_TRAINING)
    connect(progress.drop, discard, None, progress, serial_group=_TRAINING)
    inputs, outputs = [progress, was_training], [progress, views.reports, was_training]
    connect(gr.Timer(TICK_S).tick, refresh, inputs, outputs, serial_group=_TRAINING, once=True)
    connect(tab.select, show_progress, None, progress, serial_group=_TRAINING)
