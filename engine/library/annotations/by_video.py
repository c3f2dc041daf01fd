"""Annotations by what they show: those of a content and of its duplicates are of one video."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import NamedTuple

from vtag.engine.library.annotations.annotation_log import Annotation, list_annotations
from vtag.engine.library.store.duplicates import is_same_range, with_duplicates


class AnnotatedVideo(NamedTuple):
    """The keys of a content and of its duplicates, and the annotations of all of them, the earliest first."""

    keys: tuple[str, ...]
    annotations: list[Annotation]


def annotations_by_video(reader: sqlite3.Connection) -> list[AnnotatedVideo]:
    """All annotations by video, sorted by key.

    Of those with one label on the same range of several files, only the latest is there.
    """
    ids = dict(reader.execute("SELECT key, id FROM contents").fetchall())
    keys = {content_id: key for key, content_id in ids.items()}
    videos: dict[tuple[str, ...], list[Annotation]] = {}
    video_of: dict[str, tuple[str, ...]] = {}
    for annotation in list_annotations(reader):
        key = annotation.content
        if key not in video_of:
            video_of[key] = tuple(sorted(keys[i] for i in with_duplicates(reader, ids[key])))
        videos.setdefault(video_of[key], []).append(annotation)
    return [AnnotatedVideo(video, _without_repeats(videos[video])) for video in sorted(videos)]


def _without_repeats(annotations: Iterable[Annotation]) -> list[Annotation]:
    kept: list[Annotation] = []
    for annotation in annotations:
        kept = [
            other
            for other in kept
            if other.label != annotation.label
            or other.content == annotation.content
            or not is_same_range(*other.range_ms, *annotation.range_ms)
        ]
        kept.append(annotation)
    return kept
