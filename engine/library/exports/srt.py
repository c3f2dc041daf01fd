"""SubRip subtitles: one a moment, with its label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import clock, one_line

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item

# The format has no way to write these as themselves: players take <i> and {\an8} for styles, --> for times.
_PLAIN = str.maketrans("<>{}", "‹›()")


def write(items: Sequence[Item]) -> str:
    """The moments of one video."""
    cues = [
        f"{number}\n{clock(m.start_ms, ',')} --> {clock(m.end_ms, ',')}\n{one_line(m.label).translate(_PLAIN)}\n"
        for number, (m, _, _) in enumerate(items, 1)
    ]
    return "\n".join(cues)
