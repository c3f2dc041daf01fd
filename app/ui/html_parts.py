"""The page's HTML begins here: text made safe, and the small pieces that every view is made of.

Everything that came from a disk passes `text`, here and in the html_ modules beside this one.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from vtag.app.console import clock
from vtag.engine.text import printable

_NAMES = {
    "scan": "Scan",
    "finetune": "Training",
    "train": "Training",
    "retag": "New tags",
    "teach": "Teaching",
}


def text(value: object) -> str:
    """`value` as text in HTML or in an attribute between double quotes."""
    return html.escape(printable(str(value)), quote=True)


def note(message: str, *, is_error: bool = False) -> str:
    """One sentence to the person; empty for none."""
    role = "alert" if is_error else "status"
    return f'<p class="vtag-note" role="{role}">{text(message)}</p>' if message else ""


def button(
    what: str,
    shown: str = "",
    *,
    about: str = "",
    kind: str = "",
    is_pressed: bool | None = None,
    told: Mapping[str, object] | None = None,
) -> str:
    """A button that tells the page's script `what` it is for, and what it carries (`told`).

    `about` is its name for who cannot see where it stands.
    """
    carried = "".join(f' data-{key}="{text(value)}"' for key, value in (told or {}).items())
    if is_pressed is not None:
        carried += f' aria-pressed="{"true" if is_pressed else "false"}"'
    label = f' aria-label="{text(about)}" title="{text(about)}"' if about else ""
    return (
        f'<button type="button" class="vtag-button {kind}" data-do="{what}"{carried}{label}>'
        f"{text(shown or what.capitalize())}</button>"
    )


def table(name: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls by itself on a narrow screen; cells are HTML already."""
    head = "".join(f'<th scope="col">{text(cell)}</th>' for cell in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td data-head="{text(head)}">{cell}</td>' for head, cell in zip(heads, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="vtag-scroll" tabindex="0" role="region" aria-label="{text(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def figures(shown: Iterable[tuple[str, str]]) -> str:
    """Numbers and what they count, as a row."""
    return (
        '<dl class="vtag-figures">'
        + "".join(f"<div><dt>{text(what)}</dt><dd>{text(number)}</dd></div>" for number, what in shown)
        + "</dl>"
    )


def options(listed: str, names: Iterable[str]) -> str:
    """A list that fields with `list` of this id suggest from."""
    return (
        f'<datalist id="{listed}">'
        + "".join(f'<option value="{text(name)}">' for name in names)
        + "</datalist>"
    )


def chips(name: str, queries: Iterable[tuple[str, str]]) -> str:
    """Buttons that search: what stands on each, and its query."""
    made = "".join(
        f'<li><button type="button" class="vtag-chip" data-query="{text(query)}">{text(shown)}</button></li>'
        for shown, query in queries
    )
    return f'<ul class="vtag-chips" aria-label="{text(name)}">{made}</ul>'


def quoted(label: str) -> str:
    """A label as a query for it."""
    return '"' + label.replace('"', " ") + '"'


def kind_of_run(kind: str) -> str:
    """What a run is called on the page."""
    return _NAMES.get(kind, kind.capitalize())


def span(start_ms: int, end_ms: int) -> str:
    """A stretch of a video, the hour left out where it is none; its end at the end of the second."""
    return f"{short_clock(start_ms)}–{short_clock(-(-end_ms // 1000) * 1000)}"


def short_clock(milliseconds: int) -> str:
    """A time in a video, without the hour where it is none."""
    hours, minutes, seconds = clock(milliseconds).split(":")
    return f"{int(minutes)}:{seconds}" if hours == "0" else f"{hours}:{minutes}:{seconds}"


def duration(seconds: float) -> str:
    """A length of time in words."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600):,} h"


def size(size_bytes: float) -> str:
    """A number of bytes in words."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            return (
                f"{size_bytes:.0f} {unit}"
                if unit == "bytes" or size_bytes >= 10
                else f"{size_bytes:.1f} {unit}"
            )
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"


def welcome() -> str:
    """What an empty library says: what to do, and what it costs."""
    return (
        '<section class="vtag-welcome"><h2>Nothing was scanned yet</h2>'
        "<ol><li><strong>Choose a folder</strong> with videos.</li>"
        "<li><strong>See what it costs</strong>: how much video there is, and how long this machine takes.</li>"
        "<li><strong>Start</strong>: the first moments can be searched here while the scan runs.</li></ol>"
        "<p>Videos are read where they are and stay as they are. Nothing leaves this machine.</p>"
        f"{button('scan', 'Choose a folder', kind='vtag-primary')}</section>"
    )
