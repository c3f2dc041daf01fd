"""Annotations with the times that players show, as people say and read them. The log has the library's times."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import cache

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
from vtag.engine.library.store.clocks import clock_of_key, content_clock


def range_on_library_clock(
    reader: sqlite3.Connection, content_id: int, start_ms: int | None, end_ms: int | None
) -> tuple[int | None, int | None]:
    """A range of a content that a person said by the player's times. Raises LibraryError if it has no picture."""
    clock = content_clock(reader, content_id)
    start, end = (None if time_ms is None else clock.library_ms(time_ms) for time_ms in (start_ms, end_ms))
    if end == 0 and end_ms is not None and (start_ms or 0) < end_ms:
        first_s = clock.player_ms(0) / 1000
        raise LibraryError(f"the picture of this video begins at {first_s:.1f} s, after that moment ends")
    return start, end


def annotations_on_player_clock(
    reader: sqlite3.Connection, annotations: Iterable[Annotation]
) -> list[Annotation]:
    """The annotations, each with the times of its video's player."""
    clock_of = cache(lambda key: clock_of_key(reader, key))

    def player_ms(annotation: Annotation, time_ms: int | None) -> int | None:
        return None if time_ms is None else clock_of(annotation.content).player_ms(time_ms)

    return [
        annotation._replace(
            start_ms=player_ms(annotation, annotation.start_ms),
            end_ms=player_ms(annotation, annotation.end_ms),
        )
        for annotation in annotations
    ]


def change_on_player_clock(reader: sqlite3.Connection, change: AnnotationChange) -> AnnotationChange:
    """The change, with annotations as of `annotations_on_player_clock`."""
    return change._replace(
        before=tuple(annotations_on_player_clock(reader, change.before)),
        after=tuple(annotations_on_player_clock(reader, change.after)),
    )
