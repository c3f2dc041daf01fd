"""The paths of clips that are cut out of videos."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from vtag.engine.video.write.clip_names import format_clip_name, format_time_for_name

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment


def clip_stems(
    moments: list[Moment], player_moments: list[Moment], template: str, folder: bytes
) -> list[tuple[Moment, bytes]]:
    """Each moment with the path of its clip, without extension; equal names get a number.

    The times in the names are those of `player_moments`.
    """
    used_names: set[str] = set()
    stems = []
    for number, (moment, player_moment) in enumerate(zip(moments, player_moments, strict=True), 1):
        values = {
            "name": os.path.splitext(os.path.basename(moment.path))[0].decode("utf-8", "replace"),
            "label": moment.label,
            "start": format_time_for_name(player_moment.start_ms),
            "end": format_time_for_name(player_moment.end_ms),
            "score": f"{moment.score:.2f}",
            "id": str(moment.id),
            "number": f"{number:0{len(str(len(moments)))}}",
        }
        name = base_name = format_clip_name(template, values)
        copy_number = 1
        while name.casefold() in used_names:
            copy_number += 1
            name = f"{base_name} ({copy_number})"
        used_names.add(name.casefold())
        stems.append((moment, os.path.join(folder, name.encode())))
    return stems
