"""Annotations with the times that players show: what is printed. The log and its files have the library's times."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from functools import cache

from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange
from vtag.engine.library.store.clocks import clock_of_key


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
