"""WebVTT (https://www.w3.org/TR/webvtt1/): one cue a moment, with its label."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import clock, one_line

if TYPE_CHECKING:
    from vtag.engine.library.exports.items import Item


def write(items: Sequence[Item]) -> str:
    """The moments of one video."""
    cues = [
        f"{clock(m.start_ms, '.')} --> {clock(m.end_ms, '.')}\n{html.escape(one_line(m.label), quote=False)}\n"
        for m, _, _ in items
    ]
    return "\n".join(("WEBVTT\n", *cues))
