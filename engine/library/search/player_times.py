"""Moments with the times that players show: what is printed and exported. Everything else has the library's times."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vtag.engine.library.store.clocks import content_clock, find_clock
from vtag.engine.video_clock import VideoClock

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment


class MomentClocks:
    """The clocks of the videos of moments; each is looked up once."""

    def __init__(
        self, reader: sqlite3.Connection, read_clock: Callable[[bytes], VideoClock | None] | None = None
    ) -> None:
        """`read_clock` opens the file of a video that an older vtag scanned; None leaves such files closed."""
        self._reader = reader
        self._read_clock = read_clock
        self._clocks: dict[int, VideoClock] = {}

    def content_id(self, moment: Moment) -> int:
        """The content of a moment; 0 if the moment is gone."""
        row = self._reader.execute("SELECT content_id FROM segments WHERE id = ?", (moment.id,)).fetchone()
        return int(row[0]) if row else 0

    def clock(self, content_id: int, path: bytes) -> VideoClock:
        """The clock of a content, which is in the file at `path`."""
        if content_id not in self._clocks:
            clock = find_clock(self._reader, content_id)
            if clock is None and self._read_clock is not None:
                clock = self._read_clock(path)
            self._clocks[content_id] = clock or content_clock(self._reader, content_id)
        return self._clocks[content_id]

    def to_player(self, moments: Sequence[Moment]) -> list[Moment]:
        """The moments, each with the times of its player."""
        return [
            on_player_clock(moment, self.clock(self.content_id(moment), moment.path)) for moment in moments
        ]

    def to_library(self, moments: Sequence[Moment]) -> list[Moment]:
        """Moments with the times of their players, each with the library's times again."""
        return [
            on_library_clock(moment, self.clock(self.content_id(moment), moment.path)) for moment in moments
        ]


def on_player_clock(moment: Moment, clock: VideoClock) -> Moment:
    """A moment with the times of the player instead of the library's."""
    if clock.is_plain:
        return moment
    start_ms, end_ms = clock.player_ms(moment.start_ms), clock.player_ms(moment.end_ms)
    return moment._replace(start_ms=start_ms, end_ms=max(start_ms + 1, end_ms))


def on_library_clock(moment: Moment, clock: VideoClock) -> Moment:
    """A moment with the library's times instead of the player's."""
    if clock.is_plain:
        return moment
    start_ms, end_ms = clock.library_ms(moment.start_ms), clock.library_ms(moment.end_ms)
    return moment._replace(start_ms=start_ms, end_ms=max(start_ms + 1, end_ms))
