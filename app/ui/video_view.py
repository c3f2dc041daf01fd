"""A video with its moments, and the corrections of a person. Plain functions without Gradio."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from vtag.app import times
from vtag.app.ui.html_moments import player, tag_list, timeline
from vtag.app.ui.html_parts import format_range, note
from vtag.app.ui.routes import is_playable, playable_range
from vtag.engine.errors import VtagError
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.curves import score_curve
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library, open_reader
from vtag.engine.library.store.clocks import content_clock

_GONE = "This moment is gone: search again."


class VideoView(NamedTuple):
    """The three parts of the view as HTML."""

    player: str
    timeline: str
    tags: str


def empty_player() -> str:
    """What stands in the player's place before a video is chosen."""
    return note("Choose a moment in Search: its video is played here.")


def show_moment(library: Path, moment_id: int) -> VideoView:
    """The video of a moment, played from the moment's start, with all its moments."""
    with closing(open_reader(library)) as reader:
        moment_range = page_queries.moment_range(reader, moment_id)
    if moment_range is None:
        return VideoView(note(_GONE, is_error=True), "", "")
    return show_video(library, *moment_range, selected=moment_id)


def show_video(
    library: Path, content: int, start_ms: int, end_ms: int | None = None, *, selected: int | None = None
) -> VideoView:
    """A video, played from `start_ms`. A file that browsers cannot play is converted up to `end_ms`."""
    with closing(open_reader(library)) as reader:
        video = page_queries.find_video(reader, content)
        clock = content_clock(reader, content)
    if video is None:
        return VideoView(note(_GONE, is_error=True), "", "")
    source, offset_ms = "", 0
    if video.path is not None and is_playable(video):
        source, offset_ms = f"/media/{video.id}", start_ms - clock.file_ms(start_ms)
    elif video.path is not None:
        offset_ms, last_ms = playable_range(start_ms, end_ms if end_ms is not None else start_ms)
        source = f"/moment/{video.id}/{offset_ms}/{last_ms}"
    return VideoView(player(video, source, start_ms, offset_ms), *_tags_view(library, content, selected, ""))


def show_curve(library: Path, content: int, label: str) -> tuple[str, str]:
    """Timeline and tags, with the score of `label` below the timeline; no curve if `label` is empty."""
    return _tags_view(library, content, None, label)


def confirm(library: Path, content: int, moment: int, label: str) -> tuple[str, str]:
    """Confirm a moment; returns timeline and tags."""
    return _correct(library, content, moment, label, lambda writer: annotation_log.confirm(writer, [moment]))


def reject(library: Path, content: int, moment: int, label: str) -> tuple[str, str]:
    """Reject a moment; returns timeline and tags."""
    return _correct(library, content, moment, label, lambda writer: annotation_log.reject(writer, [moment]))


def rename(library: Path, content: int, moment: int, name: str, label: str) -> tuple[str, str]:
    """Give a moment another label; returns timeline and tags."""
    return _correct(
        library, content, moment, label, lambda writer: annotation_log.rename(writer, [moment], name)
    )


def add(library: Path, content: int, name: str, start: str, end: str, label: str) -> tuple[str, str]:
    """Add a tag from `start` to `end`, as typed; empty for the start and the end of the video."""

    def act(writer: Library) -> annotation_log.AnnotationChange:
        return annotation_log.add(writer, content, name, parse_time(start), parse_time(end))

    return _correct(library, content, None, label, act)


def undo(library: Path, content: int, label: str) -> tuple[str, str]:
    """Undo the latest correction; returns timeline and tags."""
    return _correct(library, content, None, label, annotation_log.undo, "Taken back: ")


def parse_time(text: str) -> int | None:
    """A typed time in ms; None for an empty text. Raises VtagError."""
    return times.parse_time(text) if text.strip() else None


def _correct(
    library: Path,
    content: int,
    selected: int | None,
    label: str,
    act: Callable[[Library], annotation_log.AnnotationChange],
    prefix: str = "",
) -> tuple[str, str]:
    """Timeline and tags after `act`, with a message that says what changed or why nothing did.

    Args:
        label: the label whose curve is shown.
        prefix: the beginning of the message about the change.
    """
    try:
        with Library.open(library) as writer:
            message = prefix + _change_sentence(act(writer))
    except VtagError as error:
        return _tags_view(library, content, selected, label, str(error), is_error=True)
    return _tags_view(library, content, selected, label, message)


def _change_sentence(change: annotation_log.AnnotationChange) -> str:
    if not change.before and not change.after:
        return "This annotation exists already."
    annotation = (change.after or change.before)[-1]
    times = ""
    if annotation.start_ms is not None and annotation.end_ms is not None:
        times = f" {format_range(annotation.start_ms, annotation.end_ms)}"
    return f"{annotation.label}{times} {change.action}."


def _tags_view(
    library: Path,
    content: int,
    selected: int | None,
    label: str,
    message: str = "",
    *,
    is_error: bool = False,
) -> tuple[str, str]:
    """Timeline and tags. A rejected moment is in the tags only."""
    with Library.open(library) as writer:
        video = page_queries.find_video(writer.connection, content)
        if video is None:
            return "", note(_GONE, is_error=True)
        moments = page_queries.video_moments(writer.connection, content)
        labels = page_queries.labels(writer.connection)
        curve = score_curve(writer, content, label) if label in labels else None
    if label and curve is None:
        message, is_error = f"No label is called {label!r}.", True
    visible = [moment for moment in moments if moment.verdict != "rejected"]
    return (
        timeline(visible, video, selected, labels, curve),
        tag_list(moments, content, selected, message, is_error=is_error),
    )
