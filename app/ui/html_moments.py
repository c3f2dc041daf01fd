"""Moments as HTML: the gallery, the player, the timeline with its score curve, and the list of tags to correct."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vtag.app.ui.html_parts import (
    button,
    data_attributes,
    datalist,
    escape,
    format_range,
    format_time,
    heading,
    note,
)
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from vtag.engine.library.analysis.curves import Curve
    from vtag.engine.library.page_queries import MomentRow, PlayableVideo
    from vtag.engine.library.search.moments import Moment

_HUES = 8  # label colours in page.css
_STATUS = {"confirmed": "✓ confirmed", "rejected": "✗ rejected"}
_CURVE_POINTS = 600  # more than a screen can show side by side
_CURVE_HEIGHT = 40.0  # units of the drawing


def gallery(cards: Iterable[str], *, name: str, has_more: bool = False) -> str:
    """Cards side by side, and a button for more of them."""
    more = '<button type="button" class="vtag-more" data-do="more">Show more</button>' if has_more else ""
    return f'<ul class="vtag-gallery" aria-label="{escape(name)}">{"".join(cards)}</ul>{more}'


def moment_card(moment: Moment) -> str:
    """A moment with a frame of it. The card's button carries the moment's id."""
    is_own = moment.source == "user"
    score = "yours" if is_own else f"{moment.score:.2f}"
    tooltip = "you added it" if is_own else f"score by {moment.model}"
    missing = "" if moment.present else '<span class="vtag-missing">not connected now</span>'
    name = display_path(moment.path.rsplit(b"/", 1)[-1])
    return (
        f'<li><button type="button" class="vtag-card" data-do="open" data-moment="{moment.id}">'
        f'<img src="/picture/{moment.id}" loading="lazy" alt="" width="320" height="192">'
        f'<span class="vtag-label">{escape(moment.label)}</span>'
        f'<span class="vtag-score" title="{escape(tooltip)}">{score}</span>'
        f'<span class="vtag-span">{escape(format_range(moment.start_ms, moment.end_ms))}</span>{missing}'
        f'<span class="vtag-file" title="{escape(display_path(moment.path))}">{escape(name)}</span></button>'
        f"{_similar_button(f'{moment.label}, {name}', moment=moment.id)}</li>"
    )


def _similar_button(subject: str, **data: object) -> str:
    """A button on the picture of a card."""
    description = f"More like this: {subject}"
    return button("similar", "More like this", description=description, css_class="vtag-like", data=data)


class VideoRange(NamedTuple):
    """A time range of a video that may be a moment. `caption` stands on its card."""

    content: int
    display: str
    start_ms: int
    end_ms: int
    caption: str


def range_card(
    video_range: VideoRange,
    verdict: str | None = None,
    *,
    label: str | None = None,
    has_similar: bool = False,
) -> str:
    """A time range of a video with a frame of its middle.

    Args:
        verdict: adds the buttons Yes and No and presses the one of the verdict; "" presses none, None adds none.
        has_similar: adds a button for similar moments.
    """
    content, display, start_ms, end_ms, caption = video_range
    name, times = display.rsplit("/", 1)[-1], format_range(start_ms, end_ms)
    data = {"content": content, "at": start_ms, "to": end_ms}
    verdict_buttons = "" if verdict is None else _verdict_buttons(verdict, f"{name} {times}", data)
    second_line = f'<span class="vtag-span">{escape(times)}</span>' if label else ""
    similar = _similar_button(f"{name} {times}", **data) if has_similar else ""
    return (
        f'<li><button type="button" class="vtag-card" data-do="open"{data_attributes(data)}>'
        f'<img src="/still/{content}/{(start_ms + end_ms) // 2}" loading="lazy" alt="" '
        f'width="320" height="192"><span class="vtag-label">{escape(label or times)}</span>'
        f'<span class="vtag-score">{escape(caption)}</span>{second_line}'
        f'<span class="vtag-file" title="{escape(display)}">{escape(name)}</span></button>{verdict_buttons}'
        f"{similar}</li>"
    )


def _verdict_buttons(verdict: str, subject: str, data: dict[str, int]) -> str:
    is_example, is_rejected = verdict in ("added", "confirmed"), verdict == "rejected"
    yes = button("yes", "Yes", description=f"Yes, {subject}", is_pressed=is_example, data=data)
    no = button("no", "No", description=f"No, not {subject}", is_pressed=is_rejected, data=data)
    return f'<span class="vtag-verdict">{yes}{no}</span>'


def player(video: PlayableVideo, source: str, start_ms: int, offset_ms: int) -> str:
    """The video player.

    Args:
        source: the address of the file to play; empty if the video is not connected.
        start_ms: where it starts, in the video's time.
        offset_ms: the video's time at which the file begins. It is above 0 for a copy of one moment.
    """
    name = video.display.rsplit("/", 1)[-1]
    facts = (format_time(video.duration_ms), (video.recorded_at or "")[:10], video.display)
    title = (
        f'<h2 class="vtag-name" tabindex="-1" title="{escape(video.display)}">{escape(name)}</h2>'
        f'<p class="vtag-facts">{escape(" · ".join(filter(None, facts)))}</p>'
    )
    if not source:
        element = note("This video is not connected now: connect its disk to play it.")
    else:
        element = (
            f'<video class="vtag-video" controls playsinline preload="metadata" src="{escape(source)}" '
            f'data-start="{max(0, start_ms - offset_ms) / 1000}" data-offset="{offset_ms / 1000}" '
            f'aria-label="{escape(video.display)}"></video>'
        )
        if source.startswith("/moment/"):
            element += note("A browser cannot play this file: the moment is shown from a copy made for it.")
    return (
        f'<section class="vtag-watch" aria-label="Video" data-content="{video.id}">{title}{element}</section>'
    )


def timeline(
    moments: Sequence[MomentRow],
    video: PlayableVideo,
    selected: int | None,
    labels: Iterable[str],
    curve: Curve | None,
) -> str:
    """One track for each label with a bar for each moment, and the score curve of one label below them.

    Args:
        selected: the id of the moment whose bar stands out.
        labels: suggested when the curve of a label is asked for.
    """
    length_ms = max(video.duration_ms, 1, *(moment.end_ms for moment in moments))
    moments_by_label: dict[str, list[MomentRow]] = {}
    for moment in moments:
        moments_by_label.setdefault(moment.label, []).append(moment)
    tracks = "".join(
        f'<div class="vtag-row vtag-hue{_hue(label)}">'
        f'<span class="vtag-row-label" title="{escape(label)}">{escape(label)}</span>'
        f'<div class="vtag-track" data-length="{length_ms}">'
        + "".join(_bar(moment, length_ms, moment.id == selected) for moment in row)
        + "</div></div>"
        for label, row in moments_by_label.items()
    )
    scale = (
        '<div class="vtag-row vtag-scale"><span></span><div>'
        f"<span>0:00</span><span>{format_time(length_ms)}</span></div></div>"
    )
    curve_label = curve.label if curve else ""
    empty = "" if moments else note("No moment in this video reached the threshold.")
    return (
        f'<section class="vtag-timeline" role="group" aria-label="Moments of this video" data-content="{video.id}" '
        f'data-curve="{escape(curve_label)}">{empty}{tracks}{_curve_row(curve, length_ms) if curve else ""}'
        f"{scale}{_curve_form(curve_label)}{datalist('vtag-all-labels', labels)}</section>"
    )


def _curve_form(label: str) -> str:
    return (
        '<form class="vtag-form" data-do="curve"><label>Score of <input name="label" list="vtag-all-labels" '
        f'value="{escape(label)}" autocomplete="off"></label><button class="vtag-button">Show curve</button>'
        f"{button('like', 'More like this', description='More like what is shown now (s)')}</form>"
    )


def _bar(moment: MomentRow, length_ms: int, is_selected: bool) -> str:
    left_percent = 100 * moment.start_ms / length_ms
    width_percent = max(0.4, 100 * (moment.end_ms - moment.start_ms) / length_ms)
    verdict = f", {moment.verdict}" if moment.verdict else ""
    source = "yours" if moment.is_own else f"score {moment.score:.2f}{verdict}"
    name = f"{moment.label} {format_time(moment.start_ms)} to {format_time(moment.end_ms)}, {source}"
    css_class = "vtag-bar"
    css_class += " vtag-sure" if moment.verdict == "confirmed" else ""
    css_class += " vtag-selected" if is_selected else ""
    return (
        f'<button type="button" class="{css_class}" data-do="seek" '
        f'data-seek="{moment.start_ms}" data-end="{moment.end_ms}" data-moment="{moment.id}" '
        f'style="left:{left_percent:.3f}%;width:{width_percent:.3f}%" '
        f'aria-label="{escape(name)}" title="{escape(name)}"></button>'
    )


def _curve_row(curve: Curve, length_ms: int) -> str:
    """The score of one label over the video, from 0 to 1, and the threshold at which a moment begins."""
    if not len(curve.scores):
        return note(f"There is no score of {curve.label} for this video: its observations were not kept.")
    middles = curve.windows.mean(axis=1)
    chunks = np.array_split(np.arange(len(middles)), min(len(middles), _CURVE_POINTS))
    points = [
        (100 * middles[chunk].mean() / length_ms, _CURVE_HEIGHT * (1 - curve.scores[chunk].max()))
        for chunk in chunks
    ]
    outline = [(points[0][0], _CURVE_HEIGHT), *points, (points[-1][0], _CURVE_HEIGHT)]
    polygon = " ".join(f"{x:.2f},{y:.2f}" for x, y in outline)
    highest = curve.scores.max()
    description = f"Score of {curve.label}: highest {highest:.2f}, a moment begins at {curve.threshold:.2f}"
    threshold_y = _CURVE_HEIGHT * (1 - min(1.0, curve.threshold))
    return (
        f'<div class="vtag-row vtag-hue{_hue(curve.label)}"><span class="vtag-row-label">{escape(curve.label)}'
        f"<small>highest {highest:.2f}<br>line at {curve.threshold:.2f}</small></span>"
        f'<div class="vtag-track vtag-curve" data-length="{length_ms}">'
        f'<svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{escape(description)}">'
        f'<polygon points="{polygon}"/><line x1="0" x2="100" y1="{threshold_y:.2f}" y2="{threshold_y:.2f}"/>'
        "</svg></div></div>"
    )


def tag_list(
    moments: Sequence[MomentRow], content: int, selected: int | None, message: str, *, is_error: bool = False
) -> str:
    """The moments of a video with the buttons that correct them, and the form that adds a tag."""
    rows = "".join(_tag_row(moment, moment.id == selected) for moment in moments)
    tags = f'<ul class="vtag-tags" aria-label="Tags">{rows}</ul>' if rows else ""
    return (
        f'<section class="vtag-tag-panel" aria-label="Tags of this video" data-content="{content}">'
        '<div class="vtag-tag-panel-head">'
        f"{heading('Tags')}{button('undo', 'Undo', description='Undo the last correction (u)')}"
        f"{button('help', 'Keys', description='Show the keys (?)')}</div>"
        f'<div aria-live="polite">{note(message, is_error=is_error)}</div>{tags}{_add_form()}</section>'
    )


def _tag_row(moment: MomentRow, is_selected: bool) -> str:
    times = format_range(moment.start_ms, moment.end_ms)
    status = "✓ yours" if moment.is_own else _STATUS.get(moment.verdict, "")
    score = "" if moment.is_own else f"{moment.score:.2f}"
    is_rejected = moment.verdict == "rejected"
    return (
        f'<li class="vtag-tag vtag-hue{_hue(moment.label)}{" vtag-selected" if is_selected else ""}" '
        f'data-moment="{moment.id}"{" data-fresh" if is_selected else ""}>'
        f'<button type="button" class="vtag-tag-name{" vtag-rejected" if is_rejected else ""}" '
        f'data-do="seek" data-seek="{moment.start_ms}" data-moment="{moment.id}"><span class="vtag-dot"></span>'
        f'<span class="vtag-label">{escape(moment.label)}</span><span class="vtag-span">{escape(times)}</span>'
        f'<span class="vtag-score">{score}</span></button>'
        f'<span class="vtag-status">{escape(status)}</span>'
        f'<span class="vtag-actions">{_tag_buttons(moment, times)}</span></li>'
    )


def _tag_buttons(moment: MomentRow, times: str) -> str:
    subject = f"{moment.label} {times}"
    data: dict[str, object] = {
        "moment": moment.id,
        "label": moment.label,
        "start": moment.start_ms,
        "end": moment.end_ms,
    }
    is_confirmed, is_rejected = moment.verdict == "confirmed", moment.verdict == "rejected"
    return (
        button("confirm", "Yes", description=f"Yes, {subject}", is_pressed=is_confirmed, data=data)
        + button("reject", "No", description=f"No, not {subject}", is_pressed=is_rejected, data=data)
        + button("rename", "Rename", description=f"Rename {subject}", data=data)
        + button("similar", "More like this", description=f"More like this: {subject}", data=data)
    )


def _add_form() -> str:
    return (
        '<form class="vtag-form vtag-add" data-do="insert"><h3>Add a tag</h3><label>Tag <input name="label" '
        'list="vtag-all-labels" autocomplete="off" required maxlength="100"></label>'
        '<div class="vtag-range"><label>From <input name="start" inputmode="decimal" placeholder="0:00" '
        'autocomplete="off"></label>'
        f"{button('from', 'From here', description='From here ([)')}"
        '<label>To <input name="end" inputmode="decimal" placeholder="end" autocomplete="off"></label>'
        f"{button('to', 'To here', description='To here (])')}</div>"
        '<button class="vtag-button vtag-primary">Add tag</button></form>'
    )


def _hue(label: str) -> int:
    """The number of a label's colour, which is the same in every view."""
    return zlib.crc32(label.encode()) % _HUES
