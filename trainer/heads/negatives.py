"""Footage without the labels: windows of a library, with stored features or to be decoded."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.annotations.apply import unrejected_ranges
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.page_queries import find_video
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import find_content
from vtag.trainer.data.clip_source import LabelledVideo
from vtag.trainer.data.features import FeatureCollector, Features
from vtag.trainer.heads.window_features import OwnedWindow


def stored_negatives(
    library: LibraryWriter,
    base: Checkpoint,
    labels: Sequence[str],
    clip_keys: Collection[str],
    *,
    limit: int,
    seed: int,
) -> Features:
    """Stored features of windows without the labels: about `limit` windows, whole videos in random order.

    Windows that overlap a known moment of one of the labels, found by a model or annotated, are left out, and so are
    the clips themselves, whose content keys are `clip_keys`.
    """
    samplings = observations.densest_samplings(library, base.spec.backbone_hash)
    keys = sorted(samplings.keys() - set(clip_keys))
    rng = np.random.default_rng(seed)
    negatives, count = FeatureCollector(), 0
    for number in rng.permutation(len(keys)):
        key = keys[number]
        observation = observations.get(library, key, base.spec.backbone_hash, samplings[key])
        if observation is None or count >= limit:
            break
        is_free = ~label_overlaps(library, key, labels, observation.windows)
        negatives.add(observation.features[is_free], observation.windows[is_free], int(number))
        count += int(is_free.sum())
    return negatives.build(base.spec.sizes.feature_dim, tuple(keys))


def label_overlaps(
    library: LibraryWriter, key: str, labels: Sequence[str], windows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which windows [W, 2] of a content overlap a known moment of one of the labels."""
    overlaps = np.zeros(len(windows), bool)
    for start, end in unrejected_ranges(library.connection, key, labels):
        overlaps |= (windows[:, 0] < end) & (start < windows[:, 1])
    return overlaps


def windows_to_decode(
    library: LibraryWriter, labels: Sequence[str], clip_keys: Collection[str], *, limit: int, seed: int
) -> list[OwnedWindow]:
    """Windows as those of `stored_negatives`, but single ones at random, and observed by any backbone.

    Each has the number of its video. Videos whose file is missing are left out.
    """
    densest = observations.densest_of_any_backbone(library)
    keys = sorted(densest.keys() - set(clip_keys))
    rng = np.random.default_rng(seed)
    windows: list[OwnedWindow] = []
    for number, key in enumerate(keys):
        content = find_content(library, key)
        video = find_video(library.connection, content.id) if content else None
        observation = observations.get(library, key, *densest[key])
        if video is None or video.path is None or observation is None:
            continue
        path = Path(os.fsdecode(video.path))
        free = observation.windows[~label_overlaps(library, key, labels, observation.windows)]
        windows += [(LabelledVideo(path, len(labels), int(start)), number) for start, _ in free]
    chosen = rng.permutation(len(windows))[:limit]
    return [windows[i] for i in chosen]
