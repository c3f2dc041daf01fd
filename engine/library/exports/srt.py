"""SubRip subtitles: one cue for each moment, with its label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line, timestamp

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment
    from vtag.engine.library.search.moments import Moment

# The format cannot escape these. Players take <i> and {\an8} for styles, and --> for times.
_REPLACEMENTS = str.maketrans("<>{}", "‹›()")


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video."""
    return "\n".join(_cue(number, item.moment) for number, item in enumerate(items, 1))


def _cue(number: int, moment: Moment) -> str:
    start, end = timestamp(moment.start_ms, ","), timestamp(moment.end_ms, ",")
    return f"{number}\n{start} --> {end}\n{one_line(moment.label).translate(_REPLACEMENTS)}\n"
