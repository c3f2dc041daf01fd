"""Examples out of a library: what a person added and confirmed shows its label, what was rejected does not."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.database import Library
from vtag.engine.library.page_queries import find_video
from vtag.engine.library.ranges import COVERED_SHARE
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import find_content
from vtag.trainer.data.dataset import LabelledClip
from vtag.trainer.data.features import Features, empty_features


@dataclass(frozen=True)
class AnnotationExamples:
    """Clips (one a word) with their features, windows of rejected moments, and what a person should know."""

    clips: tuple[LabelledClip, ...]
    seen: Features
    rejected: Features
    remarks: tuple[str, ...]


def examples_from_annotations(library: Library, base: Checkpoint) -> AnnotationExamples:
    """The words of a library as examples, by what `base`'s backbone saw; nothing is decoded."""
    by_content: dict[str, list[annotation_log.Annotation]] = defaultdict(list)
    for word in annotation_log.list_annotations(library.connection):
        by_content[word.content].append(word)
    clips: list[LabelledClip] = []
    seen, rejected = _Parts(), _Parts()
    unseen = 0
    for number, (key, said) in enumerate(sorted(by_content.items())):
        found = observations.densest(library.observations, key, base.spec.backbone_hash)
        if found is None:
            unseen += len(said)
            continue
        shown = np.zeros(len(found.windows), bool)
        for word in said:
            covered = _covered(word, found.windows)
            if word.verdict != "rejected" and not _is_rejected_since(word, said, found.windows):
                clips.append(_clip(library, word))
                seen.add(found, covered, len(clips) - 1)
                shown |= covered
        for word in said:
            if word.verdict == "rejected":
                rejected.add(found, _covered(word, found.windows) & ~shown, number)
    remarks = []
    if unseen:
        remarks.append(
            f"{unseen} words are of videos that were not scanned with this backbone: left out (`vtag scan`)"
        )
    dim = base.spec.sizes.feature_dim
    return AnnotationExamples(tuple(clips), seen.features(dim), rejected.features(dim), tuple(remarks))


class _Parts:
    """Windows that are gathered, with their owners."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float32]] = []
        self._owner: list[NDArray[np.int64]] = []
        self._windows: list[NDArray[np.int64]] = []

    def add(self, found: observations.Observation, which: NDArray[np.bool_], owner: int) -> None:
        self._values.append(found.features[which].astype(np.float32).mean(1))
        self._owner.append(np.full(int(which.sum()), owner, np.int64))
        self._windows.append(found.windows[which])

    def features(self, dim: int) -> Features:
        if not self._values:
            return empty_features(dim)
        return Features(
            np.concatenate(self._values), np.concatenate(self._owner), np.concatenate(self._windows)
        )


def _covered(word: annotation_log.Annotation, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which windows [W, 2] a word speaks of; at least the one that it overlaps most."""
    start, end = word.range_ms
    overlap = np.minimum(windows[:, 1], end) - np.maximum(windows[:, 0], start)
    shorter = np.minimum(windows[:, 1] - windows[:, 0], end - start)
    covered = overlap >= COVERED_SHARE * shorter
    if not covered.any() and len(windows) and overlap.max() > 0:
        covered[overlap.argmax()] = True
    return np.asarray(covered)


def _is_rejected_since(
    word: annotation_log.Annotation, said: Sequence[annotation_log.Annotation], windows: NDArray[np.int64]
) -> bool:
    """Whether later words reject half of what a word says, up to the last window [W, 2] of its content."""
    end_ms = int(windows[:, 1].max(initial=0))
    spoken = [
        AnnotatedRange(
            number, other.start_ms or 0, end_ms if other.end_ms is None else other.end_ms, other.verdict
        )
        for number, other in enumerate(said)
        if other.label == word.label
    ]
    start_ms = word.start_ms or 0
    return verdict_for_range(start_ms, end_ms if word.end_ms is None else word.end_ms, spoken) == "rejected"


def _clip(library: Library, word: annotation_log.Annotation) -> LabelledClip:
    content = find_content(library, word.content)
    place = find_video(library.connection, content.id) if content else None
    path = Path(os.fsdecode(place.path)) if place and place.path else Path(word.content)
    return LabelledClip(path, word.label, word.content, span_ms=word.range_ms)
