"""What is exported: moments, with what a format has to know of their videos."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment


_USUAL_RATE = 25.0  # where a video's is not known


class Item(NamedTuple):
    """A moment, and of its video the length and the frames a second."""

    moment: Moment
    duration_ms: int
    rate: float

    @property
    def name(self) -> bytes:
        """The video's name without its folder."""
        return os.path.basename(self.moment.path)


def with_facts(reader: sqlite3.Connection, moments: Sequence[Moment]) -> list[Item]:
    """The moments with what the library knows of their videos."""
    facts: dict[int, tuple[int, float]] = {}
    items = []
    for moment in moments:
        row = reader.execute("SELECT content_id FROM segments WHERE id = ?", (moment.id,)).fetchone()
        content = row[0] if row else 0
        if content not in facts:
            known = reader.execute(
                "SELECT duration_ms, frame_rate FROM contents WHERE id = ?", (content,)
            ).fetchone()
            duration, rate = known or (None, None)
            facts[content] = (duration or moment.end_ms, rate if rate and 1 <= rate <= 480 else _USUAL_RATE)
        items.append(Item(moment, *facts[content]))
    return items
