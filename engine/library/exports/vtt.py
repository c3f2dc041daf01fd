"""WebVTT (https://www.w3.org/TR/webvtt1/): one cue for each moment, with its label."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line, timestamp

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment
    from vtag.engine.library.search.moments import Moment


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video."""
    return "\n".join(("WEBVTT\n", *(_cue(item.moment) for item in items)))


def _cue(moment: Moment) -> str:
    start, end = timestamp(moment.start_ms, "."), timestamp(moment.end_ms, ".")
    return f"{start} --> {end}\n{html.escape(one_line(moment.label), quote=False)}\n"
