"""Moments with the details of their videos that export formats need."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from vtag.engine.library.search.moments import Moment


DEFAULT_FRAME_RATE = 25.0  # frames a second, if the video's is unknown
_MAX_FRAME_RATE = 480


class ExportedMoment(NamedTuple):
    """A moment, with its video's length and frames a second."""

    moment: Moment
    duration_ms: int
    frame_rate: float

    @property
    def file_name(self) -> bytes:
        """The video's file name without its folder."""
        return os.path.basename(self.moment.path)


def with_video_details(reader: sqlite3.Connection, moments: Sequence[Moment]) -> list[ExportedMoment]:
    """The moments, each with its video's length and frame rate."""
    details: dict[int, tuple[int, float]] = {}
    exported = []
    for moment in moments:
        row = reader.execute("SELECT content_id FROM segments WHERE id = ?", (moment.id,)).fetchone()
        content_id = row[0] if row else 0
        if content_id not in details:
            details[content_id] = _video_details(reader, content_id, moment)
        exported.append(ExportedMoment(moment, *details[content_id]))
    return exported


def _video_details(reader: sqlite3.Connection, content_id: int, moment: Moment) -> tuple[int, float]:
    row = reader.execute(
        "SELECT duration_ms, frame_rate FROM contents WHERE id = ?", (content_id,)
    ).fetchone()
    duration_ms, rate = row or (None, None)
    if not rate or not 1 <= rate <= _MAX_FRAME_RATE:
        rate = DEFAULT_FRAME_RATE
    return duration_ms or moment.end_ms, rate
