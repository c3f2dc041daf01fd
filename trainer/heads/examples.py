"""Examples from a library's annotations: added and confirmed moments show their label, rejected ones do not."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.annotations.annotation_log import Annotation
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.annotations.by_video import annotations_by_video
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.page_queries import find_video
from vtag.engine.library.ranges import COVERED_SHARE
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import find_content
from vtag.trainer.data.dataset import LabelledClip
from vtag.trainer.data.features import FeatureCollector, Features


@dataclass(frozen=True)
class AnnotationExamples:
    """One clip for each annotation that adds or confirms a label, and the windows of rejected moments.

    `remarks` has a sentence for each oddity that the user should know about.
    """

    clips: tuple[LabelledClip, ...]
    features: Features  # of the clips
    rejected: Features
    rejected_labels: tuple[str, ...]  # of each owner of `rejected`
    remarks: tuple[str, ...]


def examples_from_annotations(library: LibraryWriter, base: Checkpoint) -> AnnotationExamples:
    """The annotations of a library as examples, with the stored features of `base`'s backbone; decodes nothing."""
    clips: list[LabelledClip] = []
    features, rejected = FeatureCollector(), FeatureCollector()
    rejected_labels: list[str] = []
    unscanned = 0
    for keys, content_annotations in annotations_by_video(library.connection):
        observation = _densest_observation(library, keys, base.spec.backbone_hash)
        if observation is None:
            unscanned += len(content_annotations)
            continue
        windows = observation.windows
        is_positive = np.zeros(len(windows), bool)
        for annotation in content_annotations:
            covered = _covered_windows(annotation, windows)
            if annotation.verdict != "rejected" and not _is_rejected_later(
                annotation, content_annotations, windows
            ):
                features.add(observation.features[covered], windows[covered], len(clips))
                clips.append(_labelled_clip(library, annotation, source=keys[0]))
                is_positive |= covered
        for annotation in content_annotations:
            if annotation.verdict == "rejected":
                covered = _covered_windows(annotation, windows) & ~is_positive
                if covered.any():
                    rejected.add(observation.features[covered], windows[covered], len(rejected_labels))
                    rejected_labels.append(annotation.label)
    remarks = []
    if unscanned:
        remarks.append(
            f"{unscanned} words are of videos that were not scanned with this backbone: left out (`vtag scan`)"
        )
    dim = base.spec.sizes.feature_dim
    return AnnotationExamples(
        tuple(clips), features.build(dim), rejected.build(dim), tuple(rejected_labels), tuple(remarks)
    )


def _densest_observation(
    library: LibraryWriter, keys: Iterable[str], backbone_hash: str
) -> observations.Observation | None:
    """That of the first of several contents that show the same, and that a scan with this backbone has seen."""
    found = (observations.densest(library.observations, key, backbone_hash) for key in keys)
    return next((observation for observation in found if observation is not None), None)


def _covered_windows(annotation: Annotation, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which windows [W, 2] an annotation covers.

    It covers a window if their overlap is half as long as the shorter of the two. If it covers none, the window with
    the largest overlap counts.
    """
    start_ms, end_ms = annotation.range_ms
    overlap = np.minimum(windows[:, 1], end_ms) - np.maximum(windows[:, 0], start_ms)
    shorter = np.minimum(windows[:, 1] - windows[:, 0], end_ms - start_ms)
    covered = overlap >= COVERED_SHARE * shorter
    if not covered.any() and len(windows) and overlap.max() > 0:
        covered[overlap.argmax()] = True
    return np.asarray(covered)


def _is_rejected_later(
    annotation: Annotation, annotations: Sequence[Annotation], windows: NDArray[np.int64]
) -> bool:
    """Whether later annotations reject half of `annotation`. A whole video ends with its last window [W, 2]."""
    video_end_ms = int(windows[:, 1].max(initial=0))

    def range_of(item: Annotation) -> tuple[int, int]:
        return item.start_ms or 0, video_end_ms if item.end_ms is None else item.end_ms

    ranges = [
        AnnotatedRange(number, *range_of(item), item.verdict)
        for number, item in enumerate(annotations)
        if item.label == annotation.label
    ]
    return verdict_for_range(*range_of(annotation), ranges) == "rejected"


def _labelled_clip(library: LibraryWriter, annotation: Annotation, source: str) -> LabelledClip:
    content = find_content(library, annotation.content)
    video = find_video(library.connection, content.id) if content else None
    path = Path(os.fsdecode(video.path)) if video and video.path else Path(annotation.content)
    return LabelledClip(path, annotation.label, source, span_ms=annotation.range_ms)
