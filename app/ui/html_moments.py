"""Moments as HTML: the gallery, the player, the timeline with its curve, the list in which they are corrected."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vtag.app.ui.html_parts import button, note, options, quoted, short_clock, span, text
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from vtag.engine.library.analysis.curves import Curve
    from vtag.engine.library.page_queries import MomentRow, PlayableVideo
    from vtag.engine.library.search.moments import Moment

_HUES = 8  # colours of labels in page.css
_STATUS = {"confirmed": "✓ confirmed", "rejected": "✗ rejected"}
_CURVE_POINTS = 600  # of a curve as drawn: more than a screen shows side by side


def gallery(moments: Iterable[str], *, name: str, more: bool = False) -> str:
    """Cards side by side, and a button for more."""
    button_more = '<button type="button" class="vtag-more" data-do="more">Show more</button>' if more else ""
    return f'<ul class="vtag-gallery" aria-label="{text(name)}">{"".join(moments)}</ul>{button_more}'


def card(moment: Moment) -> str:
    """A moment with a real frame; its button carries the moment's id."""
    said = "yours" if moment.source == "user" else f"{moment.score:.2f}"
    title = "you said so" if moment.source == "user" else f"score by {moment.model}"
    gone = "" if moment.present else '<span class="vtag-gone">not there now</span>'
    name = display_path(moment.path.rsplit(b"/", 1)[-1])
    return (
        f'<li><button type="button" class="vtag-card" data-do="open" data-moment="{moment.id}">'
        f'<img src="/picture/{moment.id}" loading="lazy" alt="" width="320" height="192">'
        f'<span class="vtag-label">{text(moment.label)}</span>'
        f'<span class="vtag-score" title="{text(title)}">{said}</span>'
        f'<span class="vtag-span">{text(span(moment.start_ms, moment.end_ms))}</span>{gone}'
        f'<span class="vtag-file" title="{text(display_path(moment.path))}">{text(name)}</span></button>'
        f"{_more_like(f'{moment.label}, {name}', moment=moment.id)}</li>"
    )


def _more_like(what: str, **told: object) -> str:
    """A button on a card's picture."""
    about = f"More like this: {what}"
    return button("similar", "More like this", about=about, kind="vtag-like", told=told)


class Place(NamedTuple):
    """A stretch of a video that may be a moment of something; `said` stands on its card."""

    content: int
    display: str
    start_ms: int
    end_ms: int
    said: str


def place_card(
    place: Place, verdict: str | None = None, *, label: str | None = None, is_like: bool = False
) -> str:
    """A stretch of a video with a real frame; with a verdict ("" for none yet), buttons that say Yes and No to it.

    Where it `is_like` something, a button that asks for more like it.
    """
    name, where = place.display.rsplit("/", 1)[-1], span(place.start_ms, place.end_ms)
    at = {"content": place.content, "at": place.start_ms, "to": place.end_ms}
    carried = "".join(f' data-{key}="{value}"' for key, value in at.items())
    says = ""
    if verdict is not None:
        is_it, is_not = verdict in ("added", "confirmed"), verdict == "rejected"
        says = (
            f'<span class="vtag-verdict">'
            f"{button('yes', 'Yes', about=f'Yes, {name} {where}', is_pressed=is_it, told=at)}"
            f"{button('no', 'No', about=f'No, not {name} {where}', is_pressed=is_not, told=at)}</span>"
        )
    return (
        f'<li><button type="button" class="vtag-card" data-do="open"{carried}>'
        f'<img src="/still/{place.content}/{(place.start_ms + place.end_ms) // 2}" loading="lazy" alt="" '
        f'width="320" height="192"><span class="vtag-label">{text(label or where)}</span>'
        f'<span class="vtag-score">{text(place.said)}</span>'
        f'{f"""<span class="vtag-span">{text(where)}</span>""" if label else ""}'
        f'<span class="vtag-file" title="{text(place.display)}">{text(name)}</span></button>{says}'
        f"{_more_like(f'{name} {where}', **at) if is_like else ''}</li>"
    )


def player(shown: PlayableVideo, source: str, start_ms: int, offset_ms: int) -> str:
    """The player; `source` is played from `start_ms` of the video, `offset_ms` of which lie before the source."""
    name = shown.display.rsplit("/", 1)[-1]
    facts = " · ".join(
        fact
        for fact in (short_clock(shown.duration_ms), (shown.recorded_at or "")[:10], shown.display)
        if fact
    )
    head = (
        f'<h2 class="vtag-name" tabindex="-1" title="{text(shown.display)}">{text(name)}</h2>'
        f'<p class="vtag-facts">{text(facts)}</p>'
    )
    if not source:
        video = note("This video is not there now: connect its disk, and it plays.")
    else:
        video = (
            f'<video class="vtag-video" controls playsinline preload="metadata" src="{text(source)}" '
            f'data-start="{max(0, start_ms - offset_ms) / 1000}" data-offset="{offset_ms / 1000}" '
            f'aria-label="{text(shown.display)}"></video>'
        )
        if source.startswith("/moment/"):
            video += note("A browser cannot play this file: the moment is shown from a copy made for it.")
    return f'<section class="vtag-watch" aria-label="Video" data-content="{shown.id}">{head}{video}</section>'


def timeline(
    told: Sequence[MomentRow],
    shown: PlayableVideo,
    chosen: int | None,
    labels: Iterable[str],
    curve: Curve | None,
) -> str:
    """One row a label of coloured spans that seek when they are pressed; under them the curve that was asked for."""
    length = max(shown.duration_ms, *(each.end_ms for each in told), 1) if told else max(shown.duration_ms, 1)
    rows: dict[str, list[MomentRow]] = {}
    for each in told:
        rows.setdefault(each.label, []).append(each)
    drawn = "".join(
        f'<div class="vtag-row vtag-hue{_hue(label)}">'
        f'<span class="vtag-row-label" title="{text(label)}">{text(label)}</span>'
        f'<div class="vtag-track" data-length="{length}">'
        + "".join(_bar(each, length, each.id == chosen) for each in row)
        + "</div></div>"
        for label, row in rows.items()
    )
    ends = (
        '<div class="vtag-row vtag-ends"><span></span><div>'
        f"<span>0:00</span><span>{short_clock(length)}</span></div></div>"
    )
    asked = curve.label if curve else ""
    form = (
        '<form class="vtag-form" data-do="curve"><label>Score of <input name="label" list="vtag-all-labels" '
        f'value="{text(asked)}" autocomplete="off"></label><button class="vtag-button">Show curve</button>'
        f"{button('like', 'More like this', about='More like what is shown now (s)')}</form>"
    )
    empty = "" if told else note("Nothing was seen in this video above the threshold.")
    return (
        f'<section class="vtag-timeline" role="group" aria-label="Moments of this video" data-content="{shown.id}" '
        f'data-curve="{text(asked)}">{empty}{drawn}{_curve(curve, length) if curve else ""}{ends}{form}'
        f"{options('vtag-all-labels', labels)}</section>"
    )


def _bar(told: MomentRow, length: int, is_chosen: bool) -> str:
    left = 100 * told.start_ms / length
    width = max(0.4, 100 * (told.end_ms - told.start_ms) / length)
    said = "yours" if told.is_own else f"score {told.score:.2f}{', ' + told.verdict if told.verdict else ''}"
    name = f"{told.label} {short_clock(told.start_ms)} to {short_clock(told.end_ms)}, {said}"
    kinds = " vtag-sure" if told.verdict == "confirmed" else ""
    return (
        f'<button type="button" class="vtag-bar{kinds}{" vtag-chosen" if is_chosen else ""}" data-do="seek" '
        f'data-seek="{told.start_ms}" data-end="{told.end_ms}" data-moment="{told.id}" '
        f'style="left:{left:.3f}%;width:{width:.3f}%" aria-label="{text(name)}" title="{text(name)}"></button>'
    )


def _curve(curve: Curve, length: int) -> str:
    """The score of one label over the video, from 0 to 1, and the threshold at which a moment begins."""
    if not len(curve.scores):
        return note(f"No score of {curve.label} is known for this video: its windows were not kept.")
    middles = curve.windows.mean(axis=1)
    chunks = np.array_split(np.arange(len(middles)), min(len(middles), _CURVE_POINTS))
    points = [(100 * middles[c].mean() / length, 40 * (1 - curve.scores[c].max())) for c in chunks]
    path = " ".join(f"{x:.2f},{y:.2f}" for x, y in [(points[0][0], 40.0), *points, (points[-1][0], 40.0)])
    said = (
        f"Score of {curve.label}: highest {curve.scores.max():.2f}, a moment begins at {curve.threshold:.2f}"
    )
    limit = 40 * (1 - min(1.0, curve.threshold))
    return (
        f'<div class="vtag-row vtag-hue{_hue(curve.label)}"><span class="vtag-row-label">{text(curve.label)}'
        f"<small>highest {curve.scores.max():.2f}<br>line at {curve.threshold:.2f}</small></span>"
        f'<div class="vtag-track vtag-curve" data-do="jump" data-length="{length}">'
        f'<svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="{text(said)}">'
        f'<polygon points="{path}"/><line x1="0" x2="100" y1="{limit:.2f}" y2="{limit:.2f}"/></svg></div></div>'
    )


def tag_list(
    told: Sequence[MomentRow], content: int, chosen: int | None, said: str, *, is_error: bool = False
) -> str:
    """The moments of a video with the buttons that correct them, and the form that adds one."""
    rows = "".join(_tag(each, each.id == chosen) for each in told)
    listed = f'<ul class="vtag-tags" aria-label="Tags">{rows}</ul>' if rows else ""
    return (
        f'<section class="vtag-said" aria-label="Tags of this video" data-content="{content}">'
        '<div class="vtag-said-head">'
        f"<h2>Tags</h2>{button('undo', 'Undo', about='Undo the last correction (u)')}"
        f"{button('help', 'Keys', about='Show the keys (?)')}</div>"
        f'<div aria-live="polite">{note(said, is_error=is_error)}</div>{listed}{_add_form()}</section>'
    )


def _tag(told: MomentRow, is_chosen: bool) -> str:
    where = span(told.start_ms, told.end_ms)
    about = f"{told.label} {where}"
    status = "✓ yours" if told.is_own else _STATUS.get(told.verdict, "")
    score = "" if told.is_own else f"{told.score:.2f}"
    common: dict[str, object] = {
        "moment": told.id,
        "label": told.label,
        "start": told.start_ms,
        "end": told.end_ms,
    }
    confirmed, rejected = told.verdict == "confirmed", told.verdict == "rejected"
    acts = (
        button("confirm", "Yes", about=f"Yes, {about}", is_pressed=confirmed, told=common)
        + button("reject", "No", about=f"No, not {about}", is_pressed=rejected, told=common)
        + button("rename", "Rename", about=f"Rename {about}", told=common)
        + button("similar", "More like this", about=f"More like this: {about}", told=common)
    )
    return (
        f'<li class="vtag-tag vtag-hue{_hue(told.label)}{" vtag-chosen" if is_chosen else ""}" '
        f'data-moment="{told.id}"{" data-fresh" if is_chosen else ""}>'
        f'<button type="button" class="vtag-tag-name{" vtag-struck" if told.verdict == "rejected" else ""}" '
        f'data-do="seek" data-seek="{told.start_ms}" data-moment="{told.id}"><span class="vtag-dot"></span>'
        f'<span class="vtag-label">{text(told.label)}</span><span class="vtag-span">{text(where)}</span>'
        f'<span class="vtag-score">{score}</span></button>'
        f'<span class="vtag-status">{text(status)}</span><span class="vtag-acts">{acts}</span></li>'
    )


def _add_form() -> str:
    return (
        '<form class="vtag-form vtag-add" data-do="insert"><h3>Add a tag</h3><label>Tag <input name="label" '
        'list="vtag-all-labels" autocomplete="off" required maxlength="100"></label>'
        '<div class="vtag-range"><label>From <input name="start" inputmode="decimal" placeholder="0:00" '
        'autocomplete="off"></label>'
        f"{button('from', 'From here', about='From here ([)')}"
        '<label>To <input name="end" inputmode="decimal" placeholder="end" autocomplete="off"></label>'
        f"{button('to', 'To here', about='To here (])')}</div>"
        '<button class="vtag-button vtag-primary">Add tag</button></form>'
    )


def labels_list(counted: Sequence[tuple[str, int]]) -> str:
    """Labels and how often each was found; a press searches for it."""
    most = max((number for _, number in counted), default=1) or 1
    rows = "".join(
        f'<li><button type="button" data-query="{text(quoted(name))}"><span>{text(name)}</span>'
        f'<span class="vtag-meter" style="width:{100 * number / most:.1f}%"></span>'
        f"<span>{number:,}</span></button></li>"
        for name, number in counted
        if number
    )
    return (
        f'<ul class="vtag-labels" aria-label="Labels found">{rows}</ul>'
        if rows
        else note("No moment was found yet.")
    )


def _hue(label: str) -> int:
    """Which colour a label has, the same on every page."""
    return zlib.crc32(label.encode()) % _HUES
