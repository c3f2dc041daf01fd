"""mpv's edit list: `mpv moments.mpv.edl` plays the moments in a row, each as a chapter with its label.

https://github.com/mpv-player/mpv/blob/master/DOCS/edl-mpv.rst
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line, path_uri

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one list."""
    return "\n".join(("# mpv EDL v0", *map(_entry, items), ""))


def _entry(item: ExportedMoment) -> str:
    moment = item.moment
    start, length = (f"{ms / 1000:.3f}" for ms in (moment.start_ms, moment.end_ms - moment.start_ms))
    return f"{path_uri(moment.path)},start={start},length={length},title={_quoted(one_line(moment.label))}"


def _quoted(text: str) -> str:
    """A text that may contain the format's separators: its length in bytes stands before it."""
    return f"%{len(text.encode())}%{text}"
