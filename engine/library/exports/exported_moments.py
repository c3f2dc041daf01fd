"""Moments with the details of their videos that export formats need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from vtag.engine.library.search.player_times import MomentClocks, on_player_clock

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment
    from vtag.engine.video_clock import VideoClock


class ExportedMoment(NamedTuple):
    """A moment with the times of a player, the end of its video by the same clock, and facts of that video."""

    moment: Moment
    video_end_ms: int
    clock: VideoClock
    size: tuple[int, int] = (0, 0)  # width and height; 0 if unknown
    has_sound: bool = True

    @property
    def file_name(self) -> bytes:
        """The video's file name without its folder."""
        return os.path.basename(self.moment.path)


def with_video_details(
    reader: sqlite3.Connection,
    moments: Sequence[Moment],
    read_clock: Callable[[bytes], VideoClock | None] | None = None,
    read_has_sound: Callable[[bytes], bool] = lambda _: True,
) -> list[ExportedMoment]:
    """The moments with the times of their players, each with its video's end, clock and facts.

    `read_clock` opens the file of a video that an older vtag scanned. `read_has_sound` opens every file; it is for
    formats that have to know.
    """
    clocks, has_sound = MomentClocks(reader, read_clock), cache(read_has_sound)
    exported = []
    for moment in moments:
        content_id = clocks.content_id(moment)
        clock = clocks.clock(content_id, moment.path)
        duration_ms, width, height = reader.execute(
            "SELECT max(duration_ms), coalesce(max(width), 0), coalesce(max(height), 0) FROM contents WHERE id = ?",
            (content_id,),
        ).fetchone()
        exported.append(
            ExportedMoment(
                on_player_clock(moment, clock),
                clock.player_ms(duration_ms or moment.end_ms),
                clock,
                (width, height),
                has_sound(moment.path),
            )
        )
    return exported
