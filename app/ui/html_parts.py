"""The page's own pieces of HTML; everything that came from a disk is escaped here and nowhere else."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vtag.app.console import clock
from vtag.engine.text import display_path, printable

if TYPE_CHECKING:
    from vtag.engine.library.runs import Run
    from vtag.engine.library.search import Moment
    from vtag.engine.library.served import Count, Video


def text(value: object) -> str:
    """`value` as text in HTML or in an attribute between double quotes."""
    return html.escape(printable(str(value)), quote=True)


def note(message: str, *, is_error: bool = False) -> str:
    """One sentence to the person; empty for none."""
    role = "alert" if is_error else "status"
    return f'<p class="vtag-note" role="{role}">{text(message)}</p>' if message else ""


def gallery(moments: Sequence[Moment], *, more: bool) -> str:
    """Moments as cards with a real frame each; a card's button carries the moment's id."""
    cards = "".join(_card(moment) for moment in moments)
    button = '<button type="button" class="vtag-more" data-more>Show more</button>' if more else ""
    return f'<ul class="vtag-gallery" aria-label="Moments found">{cards}</ul>{button}'


def _card(moment: Moment) -> str:
    name = display_path(moment.path.rsplit(b"/", 1)[-1])
    span = f"{clock(moment.start_ms)}&ndash;{clock(moment.end_ms)}"
    gone = "" if moment.present else '<span class="vtag-gone">not there now</span>'
    said = "yours" if moment.source == "user" else f"{moment.score:.2f}"
    return (
        f'<li><button type="button" class="vtag-card" data-moment="{moment.id}">'
        f'<img src="/picture/{moment.id}" loading="lazy" alt="" width="320" height="192">'
        f'<span class="vtag-label">{text(moment.label)}</span> <span class="vtag-score">{said}</span>'
        f'<span class="vtag-span">{span}</span>{gone}'
        f'<span class="vtag-file" title="{text(display_path(moment.path))}">{text(name)}</span></button></li>'
    )


def player(shown: Video, source: str, start_ms: int, offset_ms: int) -> str:
    """The player; `source` is played from `start_ms` of the video, `offset_ms` of which lie before the source."""
    if not source:
        return f'<div class="vtag-player">{note("This video is not there now: connect its disk.")}</div>'
    return (
        f'<video class="vtag-video" controls playsinline preload="metadata" src="{text(source)}" '
        f'data-start="{max(0, start_ms - offset_ms) / 1000}" data-offset="{offset_ms / 1000}" '
        f'aria-label="{text(shown.display)}"></video>'
    )


def timeline(moments: Sequence[Moment], duration_ms: int, chosen: int | None) -> str:
    """One row a label of spans that seek when they are pressed."""
    length = max(duration_ms, *(m.end_ms for m in moments), 1) if moments else max(duration_ms, 1)
    rows: dict[str, list[Moment]] = {}
    for moment in moments:
        rows.setdefault(moment.label, []).append(moment)
    drawn = "".join(
        f'<div class="vtag-row"><span class="vtag-row-label">{text(label)}</span><div class="vtag-track">'
        + "".join(_span(moment, length, moment.id == chosen) for moment in row)
        + "</div></div>"
        for label, row in rows.items()
    )
    return f'<div class="vtag-timeline" role="group" aria-label="Moments of this video">{drawn}</div>'


def _span(moment: Moment, length: int, is_chosen: bool) -> str:
    left = 100 * moment.start_ms / length
    width = max(0.4, 100 * (moment.end_ms - moment.start_ms) / length)
    name = f"{moment.label} {clock(moment.start_ms)} to {clock(moment.end_ms)}, score {moment.score:.2f}"
    return (
        f'<button type="button" class="vtag-bar{" vtag-chosen" if is_chosen else ""}" data-seek="{moment.start_ms}" '
        f'data-end="{moment.end_ms}" data-id="{moment.id}" style="left:{left:.3f}%;width:{width:.3f}%" '
        f'aria-label="{text(name)}" title="{text(name)}"></button>'
    )


def runs_list(runs: Iterable[Run]) -> str:
    """Scans and trainings, newest first, with how far they came."""
    rows = "".join(
        f"<tr><td>{text(run.started_at.replace('T', ' ')[:16])}</td><td>{text(run.kind)}</td>"
        f'<td class="vtag-path">{text(run.command[:200])}</td>'
        f"<td>{text(run.state)}</td><td>{text(_progress(run))}</td></tr>"
        for run in runs
    )
    if not rows:
        return note("Nothing was scanned yet.")
    head = "".join(
        f'<th scope="col">{name}</th>' for name in ("Started (UTC)", "What", "Of", "State", "Progress")
    )
    return f'<div class="vtag-scroll" tabindex="0"><table><tr>{head}</tr>{rows}</table></div>'


def _progress(run: Run) -> str:
    told = run.progress
    if "videos" not in told:
        return ""
    return f"{told['videos']} of {told.get('of', '?')} videos, {clock(int(told.get('video_ms', 0)))} of video"


def failures_list(failed: Sequence[tuple[str, str]]) -> str:
    """Files that could not be read, and why."""
    if not failed:
        return note("Every file could be read.")
    rows = "".join(
        f'<tr><td class="vtag-path">{text(path)}</td><td class="vtag-path">{text(why)}</td></tr>'
        for path, why in failed
    )
    return (
        '<div class="vtag-scroll" tabindex="0"><table><tr><th scope="col">File</th><th scope="col">Why</th></tr>'
        f"{rows}</table></div>"
    )


def figures(count: Count) -> str:
    """What the library holds, as a row of figures."""
    shown = [
        (f"{count.videos:,}", "videos"),
        (clock(count.video_ms), "of video"),
        (f"{count.moments:,}", "moments"),
        (f"{count.failed:,}", "unreadable"),
    ]
    return (
        '<dl class="vtag-figures">'
        + "".join(f"<div><dd>{n}</dd><dt>{what}</dt></div>" for n, what in shown)
        + "</dl>"
    )


def labels_list(counted: Sequence[tuple[str, int]]) -> str:
    """Labels and how often each was found; a press searches for it."""
    most = max((number for _, number in counted), default=1) or 1
    rows = "".join(
        f'<li><button type="button" data-query="{text(_quoted(name))}"><span>{text(name)}</span>'
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


def _quoted(label: str) -> str:
    return '"' + label.replace('"', " ") + '"'
