"""Moments with the details of their videos that export formats need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vtag.engine.library.search.player_times import MomentClocks, on_player_clock

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment
    from vtag.engine.video_clock import VideoClock


class ExportedMoment(NamedTuple):
    """A moment with the times of a player, the end of its video by the same clock, and that clock."""

    moment: Moment
    video_end_ms: int
    clock: VideoClock

    @property
    def file_name(self) -> bytes:
        """The video's file name without its folder."""
        return os.path.basename(self.moment.path)


def with_video_details(
    reader: sqlite3.Connection,
    moments: Sequence[Moment],
    read_clock: Callable[[bytes], VideoClock | None] | None = None,
) -> list[ExportedMoment]:
    """The moments with the times of their players, each with its video's end and clock.

    `read_clock` opens the file of a video that an older vtag scanned.
    """
    clocks = MomentClocks(reader, read_clock)
    exported = []
    for moment in moments:
        content_id = clocks.content_id(moment)
        clock = clocks.clock(content_id, moment.path)
        row = reader.execute("SELECT duration_ms FROM contents WHERE id = ?", (content_id,)).fetchone()
        end_ms = clock.player_ms(row[0] if row and row[0] else moment.end_ms)
        exported.append(ExportedMoment(on_player_clock(moment, clock), end_ms, clock))
    return exported
