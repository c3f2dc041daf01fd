"""A video with its moments, and what a person says of them: plain functions over the library, without Gradio."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from vtag.app.ui.html_moments import player, tag_list, timeline
from vtag.app.ui.html_parts import note, span
from vtag.app.ui.routes import playable, proxy_span
from vtag.engine.errors import VtagError
from vtag.engine.library import page_queries
from vtag.engine.library.analysis.curves import score_curve
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library, open_reader

_TIME = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,5}):)?(\d{1,6}(?:[.,]\d{1,3})?)")
_GONE = "This moment is gone: search again."


class Shown(NamedTuple):
    """The three parts of the view as HTML."""

    player: str
    timeline: str
    tags: str


def nothing() -> str:
    """What is shown before anything was chosen."""
    return note("Choose a moment in Search: its video is played here.")


def opened(library: Path, moment_id: int) -> Shown:
    """The video of a moment, played from it, with everything that was found in the video."""
    with closing(open_reader(library)) as reader:
        place = page_queries.moment_range(reader, moment_id)
    if place is None:
        return Shown(note(_GONE, is_error=True), "", "")
    return opened_at(library, *place, chosen=moment_id)


def opened_at(
    library: Path, content: int, start_ms: int, end_ms: int | None = None, *, chosen: int | None = None
) -> Shown:
    """A video, played from `start_ms`."""
    with closing(open_reader(library)) as reader:
        shown = page_queries.find_video(reader, content)
    if shown is None:
        return Shown(note(_GONE, is_error=True), "", "")
    source, offset_ms = "", 0
    if shown.path is not None and playable(shown):
        source = f"/media/{shown.id}"
    elif shown.path is not None:
        offset_ms, last_ms = proxy_span(start_ms, end_ms if end_ms is not None else start_ms)
        source = f"/moment/{shown.id}/{offset_ms}/{last_ms}"
    return Shown(player(shown, source, start_ms, offset_ms), *_spoken(library, content, chosen, "", ""))


def with_curve(library: Path, content: int, label: str) -> tuple[str, str]:
    """Timeline and tags with the score of `label` below the timeline; without one where no label is named."""
    return _spoken(library, content, None, label, "")


def confirm(library: Path, content: int, moment: int, label: str) -> tuple[str, str]:
    """Timeline and tags after a moment was confirmed."""
    return _corrected(
        library, content, moment, label, lambda opened: annotation_log.confirm(opened, [moment])
    )


def reject(library: Path, content: int, moment: int, label: str) -> tuple[str, str]:
    """Timeline and tags after a moment was rejected."""
    return _corrected(library, content, moment, label, lambda opened: annotation_log.reject(opened, [moment]))


def rename(library: Path, content: int, moment: int, name: str, label: str) -> tuple[str, str]:
    """Timeline and tags after a moment got another label."""
    return _corrected(
        library, content, moment, label, lambda opened: annotation_log.rename(opened, [moment], name)
    )


def add(library: Path, content: int, name: str, start: str, end: str, label: str) -> tuple[str, str]:
    """Timeline and tags after a tag was added from `start` to `end`, as a person writes times; empty: all of it."""

    def act(opened: Library) -> annotation_log.AnnotationChange:
        return annotation_log.add(opened, content, name, milliseconds(start), milliseconds(end))

    return _corrected(library, content, None, label, act)


def undo(library: Path, content: int, label: str) -> tuple[str, str]:
    """Timeline and tags after the last correction was taken back."""
    return _corrected(library, content, None, label, annotation_log.undo, "Taken back: ")


def milliseconds(written: str) -> int | None:
    """A time as a person writes it (`83`, `1:23.5`, `1:02:03`); None for nothing. Raises VtagError."""
    written = written.strip()
    if not written:
        return None
    match = _TIME.fullmatch(written)
    if match is None:
        raise VtagError(f"{written[:20]!r} is no time: write it as 83, 1:23 or 1:02:03")
    hours, minutes, seconds = match.groups()
    return round(1000 * (3600 * int(hours or 0) + 60 * int(minutes or 0) + float(seconds.replace(",", "."))))


def _corrected(
    library: Path,
    content: int,
    chosen: int | None,
    label: str,
    act: Callable[[Library], annotation_log.AnnotationChange],
    before: str = "",
) -> tuple[str, str]:
    """Timeline and tags after `act`, with one sentence that says what was done or why not."""
    try:
        with Library.open(library) as opened:
            said = before + _sentence(act(opened))
    except VtagError as error:
        return _spoken(library, content, chosen, label, str(error), is_error=True)
    return _spoken(library, content, chosen, label, said)


def _sentence(change: annotation_log.AnnotationChange) -> str:
    if not change.before and not change.after:
        return "That was said already."
    word = (change.after or change.before)[-1]
    where = "" if word.start_ms is None or word.end_ms is None else f" {span(word.start_ms, word.end_ms)}"
    return f"{word.label}{where} {change.action}."


def _spoken(
    library: Path, content: int, chosen: int | None, label: str, said: str, *, is_error: bool = False
) -> tuple[str, str]:
    with Library.open(library) as opened:
        shown = page_queries.find_video(opened.connection, content)
        if shown is None:
            return "", note(_GONE, is_error=True)
        told = page_queries.video_moments(opened.connection, content)
        labels = page_queries.labels(opened.connection)
        drawn = score_curve(opened, content, label) if label in labels else None
    if label and drawn is None:
        said, is_error = f"No label is called {label!r}.", True
    return (
        timeline([each for each in told if each.verdict != "rejected"], shown, chosen, labels, drawn),
        tag_list(told, content, chosen, said, is_error=is_error),
    )
