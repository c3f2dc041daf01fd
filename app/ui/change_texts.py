"""Changes of annotations as sentences, for messages and for the names of Undo and Redo."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from vtag.app.times import format_clock
from vtag.engine.library import page_queries
from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
from vtag.engine.library.annotations.player_times import annotations_on_player_clock
from vtag.engine.text import pluralize

_ACTIONS = {
    "added": "added",
    "confirmed": "confirmed",
    "rejected": "rejected",
    "renamed": "renamed",
    "moved": "moved",
    "imported": "imported",
    "forgotten": "removed",
}


def describe_change(reader: sqlite3.Connection, change: AnnotationChange) -> str:
    """What a change did, such as `archery 0:10–0:12 in a.mp4 confirmed`, with the times of the player."""
    action = _ACTIONS.get(change.action, change.action)
    annotations = change.after or change.before
    if not annotations:
        return "nothing changed: it was so already"
    if change.action == "renamed":
        return _describe_rename(reader, change)
    if len(annotations) == 1 or change.action == "moved":
        return f"{_describe(reader, annotations[-1])} {action}"
    labels = list(dict.fromkeys(annotation.label for annotation in annotations))
    label = labels[0] if len(labels) == 1 else f"{len(labels)} labels"
    return f"{label} in {pluralize(len(annotations), 'moment')} {action}"


def _describe_rename(reader: sqlite3.Connection, change: AnnotationChange) -> str:
    added = [annotation for annotation in change.after if annotation.verdict != "rejected"] or list(
        change.after
    )
    removed = _labels([*change.before, *(a for a in change.after if a.verdict == "rejected")])
    names = ", ".join(label for label in removed if label != added[-1].label) or "a tag"
    if len(added) == 1:
        return f"{names} renamed to {_describe(reader, added[-1])}"
    return f"{names} renamed to {added[-1].label} in {len(added)} moments"


def _labels(annotations: Sequence[Annotation]) -> list[str]:
    return list(dict.fromkeys(annotation.label for annotation in annotations))


def _describe(reader: sqlite3.Connection, annotation: Annotation) -> str:
    video = page_queries.video_names(reader, [annotation.content]).get(annotation.content, "a video")
    (annotation,) = annotations_on_player_clock(reader, [annotation])
    if annotation.start_ms is None or annotation.end_ms is None:
        return f"{annotation.label} in all of {video}"
    return f"{annotation.label} {_clock(annotation.start_ms)}–{_clock(annotation.end_ms, 999)} in {video}"


def _clock(time_ms: int, rounding_ms: int = 0) -> str:
    """A time as M:SS, or H:MM:SS from an hour on; with `rounding_ms` 999 rounded up to a second."""
    return format_clock(time_ms + rounding_ms).removeprefix("0:").removeprefix("0")
