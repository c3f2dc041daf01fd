"""The keywords of sidecars, for the command line and the page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def labels_by_file(moments: list[ExportedMoment], *, with_copies: bool) -> dict[bytes, list[str]]:
    """The labels of each video by time; with copies, for every existing file of a video that the query fits."""
    from vtag.engine.library.exports import files

    labels: dict[bytes, list[str]] = {}
    for video, of_one in files.group_by_video(moments).items():
        for item in of_one:
            copies = item.moment.copies if with_copies else ()
            for path in (video, *(copy for copy in copies if copy != video and os.path.exists(copy))):
                labels.setdefault(path, []).append(item.moment.label)
    return labels
