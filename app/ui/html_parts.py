"""The parts that every view is made of: escaped text, buttons, tables, and numbers with units.

Every value from a disk or a library passes through `escape`, here and in the other `html_*` modules.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence

from vtag.app.times import format_clock
from vtag.engine.text import printable

_RUN_TITLES = {
    "scan": "Scan",
    "finetune": "Training",
    "train": "Training",
    "retag": "New tags",
    "teach": "Teaching",
}


def escape(value: object) -> str:
    """`value` as text for HTML, or for an attribute between double quotes."""
    return html.escape(printable(str(value)), quote=True)


def note(message: str, *, is_error: bool = False) -> str:
    """A message in one sentence; no HTML for an empty message."""
    role = "alert" if is_error else "status"
    return f'<p class="vtag-note" role="{role}">{escape(message)}</p>' if message else ""


def heading(title: str, level: int = 2) -> str:
    """A heading of level 1 to 6."""
    return f"<h{level}>{escape(title)}</h{level}>"


def section(title: str, content: str, level: int = 2) -> str:
    """A heading above `content`, which is HTML."""
    return heading(title, level) + content


def path(display: str) -> str:
    """A path, which may break anywhere in a line."""
    return f'<span class="vtag-path">{escape(display)}</span>'


def button(
    action: str,
    caption: str = "",
    *,
    description: str = "",
    css_class: str = "",
    is_pressed: bool | None = None,
    data: Mapping[str, object] | None = None,
) -> str:
    """A button that sends `action` and `data` to the page.

    Args:
        caption: the text on the button; the capitalized action if empty.
        description: the accessible name and the tooltip.
        is_pressed: the state of a toggle button; None for an ordinary button.
    """
    attributes = data_attributes(data or {})
    if is_pressed is not None:
        attributes += f' aria-pressed="{"true" if is_pressed else "false"}"'
    label = f' aria-label="{escape(description)}" title="{escape(description)}"' if description else ""
    return (
        f'<button type="button" class="vtag-button {css_class}" data-do="{action}"{attributes}{label}>'
        f"{escape(caption or action.capitalize())}</button>"
    )


def data_attributes(data: Mapping[str, object]) -> str:
    """`data-KEY="VALUE"` for each item, each after a space."""
    return "".join(f' data-{key}="{escape(value)}"' for key, value in data.items())


def table(name: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table that scrolls on a narrow screen. The cells are HTML."""
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-head="{escape(column)}">{cell}</td>' for column, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="vtag-scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def statistics(numbers: Iterable[tuple[str, str]]) -> str:
    """A row of numbers, each with the name of what it counts."""
    items = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(number)}</dd></div>" for number, name in numbers
    )
    return f'<dl class="vtag-figures">{items}</dl>'


def progress_bar(share: float | None, name: str) -> str:
    """A bar filled to `share` of 1; None if the share is unknown."""
    value = "" if share is None else f' value="{share:.4f}"'
    return f'<progress max="1"{value} aria-label="{escape(name)}"></progress>'


def datalist(element_id: str, names: Iterable[str]) -> str:
    """Suggestions for the input fields whose `list` attribute is `element_id`."""
    items = "".join(f'<option value="{escape(name)}">' for name in names)
    return f'<datalist id="{element_id}">{items}</datalist>'


def query_chips(name: str, queries: Iterable[tuple[str, str]]) -> str:
    """Buttons that search: the caption of each, and its query."""
    items = "".join(
        f'<li><button type="button" class="vtag-chip" data-query="{escape(query)}">{escape(caption)}</button></li>'
        for caption, query in queries
    )
    return f'<ul class="vtag-chips" aria-label="{escape(name)}">{items}</ul>'


def quote_label(label: str) -> str:
    """The query that finds a label."""
    return '"' + label.replace('"', " ") + '"'


def run_title(kind: str) -> str:
    """The page's name for a kind of run."""
    return _RUN_TITLES.get(kind, kind.capitalize())


def format_range(start_ms: int, end_ms: int) -> str:
    """A time range of a video, such as 0:12–0:15; the end is rounded up to a second."""
    return f"{format_time(start_ms)}–{format_time(-(-end_ms // 1000) * 1000)}"


def format_time(time_ms: int) -> str:
    """A time in a video as M:SS, or H:MM:SS from an hour on."""
    hours, minutes, seconds = format_clock(time_ms).split(":")
    return f"{int(minutes)}:{seconds}" if hours == "0" else f"{hours}:{minutes}:{seconds}"


def format_duration(seconds: float) -> str:
    """A duration with its unit: s, min or h."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    if seconds < 3600:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 36_000 else f"{round(seconds / 3600):,} h"


def format_size(size_bytes: float) -> str:
    """A number of bytes with its unit, in powers of 1000."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size_bytes < 1000:
            decimals = 0 if unit == "bytes" or size_bytes >= 10 else 1
            return f"{size_bytes:.{decimals}f} {unit}"
        size_bytes /= 1000
    return f"{size_bytes:,.1f} TB"
