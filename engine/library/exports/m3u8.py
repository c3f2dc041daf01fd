"""A playlist for VLC: each entry begins and ends with its moment, by VLC's own options.

https://wiki.videolan.org/M3U/. Files are named by URI: VLC takes what follows a # in a path for something else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.exports.text import one_line, path_uri

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """All moments as one playlist."""
    return "\n".join(("#EXTM3U", *map(_entry, items), ""))


def _entry(item: ExportedMoment) -> str:
    moment = item.moment
    start, end = (f"{ms / 1000:.3f}" for ms in (moment.start_ms, moment.end_ms))
    length = f"{(moment.end_ms - moment.start_ms) / 1000:.3f}"
    return (
        f"#EXTINF:{length},{one_line(moment.label)}\n#EXTVLCOPT:start-time={start}\n#EXTVLCOPT:stop-time={end}\n"
        f"{path_uri(moment.path)}"
    )
