"""The Search tab as HTML: the first steps in an empty library, headings above cards, and queries to press."""

from __future__ import annotations

from collections.abc import Sequence

from vtag.app.ui.html_parts import button, escape, heading, query_chips


def welcome() -> str:
    """The first steps, shown while the library is empty."""
    return (
        '<section class="vtag-welcome"><h2>Nothing was scanned yet</h2>'
        "<ol><li><strong>Choose a folder</strong> with videos.</li>"
        "<li><strong>See the cost</strong>: how much video there is, and how long this machine takes.</li>"
        "<li><strong>Start</strong>: you can search the first moments while the scan runs.</li></ol>"
        "<p>vtag reads videos in place and never changes them. Nothing leaves this machine.</p>"
        f"{button('scan', 'Choose a folder', css_class='vtag-primary')}</section>"
    )


def suggestion_rows(rows: Sequence[tuple[str, Sequence[tuple[str, str]]]]) -> str:
    """Rows of queries to press: the name of each row, and the caption and query of each button."""
    return "".join(
        f'<div class="vtag-suggestion-row"><span>{escape(name)}</span>{query_chips(name, queries)}</div>'
        for name, queries in rows
        if queries
    )


def page_title() -> str:
    """The title of the page."""
    return heading("vtag", 1)
