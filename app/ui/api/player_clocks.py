"""The page's times are those that players show. Routes map them here: what they give, and what they take."""

from __future__ import annotations

import sqlite3
from typing import Any

from vtag.engine.library.store.clocks import content_clock
from vtag.engine.video_clock import VideoClock


class PlayerClocks:
    """The clocks of contents, by their ids; each is read once. For one request."""

    def __init__(self, reader: sqlite3.Connection) -> None:
        self._reader = reader
        self._clocks: dict[int, VideoClock] = {}

    def __getitem__(self, content: int) -> VideoClock:
        if content not in self._clocks:
            self._clocks[content] = content_clock(self._reader, content)
        return self._clocks[content]

    def range_as_json(self, content: int, start_ms: int, end_ms: int) -> dict[str, Any]:
        """A range of the library as a player shows it."""
        clock = self[content]
        player_start_ms = clock.player_ms(start_ms)
        return {"start_ms": player_start_ms, "end_ms": max(player_start_ms + 1, clock.player_ms(end_ms))}

    def duration_ms(self, content: int, duration_ms: int | None) -> int | None:
        """The length of a video as a player shows it: up to its last picture."""
        return self[content].player_ms(duration_ms) if duration_ms else duration_ms
