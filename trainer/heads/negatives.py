"""Footage that shows none of the labels: windows of a library, seen already or to be looked at."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.annotations.apply import unrejected_ranges
from vtag.engine.library.database import Library
from vtag.engine.library.page_queries import find_video
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import find_content
from vtag.trainer.data.clip_source import LabelledVideo
from vtag.trainer.data.features import Features, empty_features


def known_negatives(
    library: Library, base: Checkpoint, labels: Sequence[str], own: Collection[str], *, most: int, seed: int
) -> Features:
    """Windows of a library that carry none of the labels, at most `most` of them, whole videos at random.

    What was seen of the clips themselves (content keys `own`), and windows in which a moment of one of the labels is
    known (a model's or a person's), are left out.
    """
    sampling = observations.densest_samplings(library, base.spec.backbone_hash)
    keys = sorted(sampling.keys() - set(own))
    rng = np.random.default_rng(seed)
    values, owner, windows, count = [], [], [], 0
    for number in rng.permutation(len(keys)):
        seen = observations.get(library, keys[number], base.spec.backbone_hash, sampling[keys[number]])
        if seen is None or count >= most:
            break
        free = ~label_overlaps(library, keys[number], labels, seen.windows)
        values.append(seen.features[free].astype(np.float32).mean(1))
        owner.append(np.full(int(free.sum()), number))
        windows.append(seen.windows[free])
        count += int(free.sum())
    if not values:
        return empty_features(base.spec.sizes.feature_dim)
    return Features(np.concatenate(values), np.concatenate(owner), np.concatenate(windows), tuple(keys))


def label_overlaps(
    library: Library, key: str, labels: Sequence[str], windows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which windows [W, 2] of a content overlap a known moment of one of the labels."""
    found = np.zeros(len(windows), bool)
    for start, end in unrejected_ranges(library.connection, key, labels):
        found |= (windows[:, 0] < end) & (start < windows[:, 1])
    return found


def windows_to_decode(
    library: Library,
    labels: Sequence[str],
    own: Collection[str],
    *,
    most: int,
    seed: int,
) -> list[tuple[LabelledVideo, int]]:
    """Windows like those of `of_library`, one by one at random, of whatever backbone saw the videos: to be decoded.

    Each with the number of its video. Videos that are not there now are left out.
    """
    seen_by = observations.densest_of_any_backbone(library)
    keys = sorted(seen_by.keys() - set(own))
    rng = np.random.default_rng(seed)
    found: list[tuple[LabelledVideo, int]] = []
    for number, key in enumerate(keys):
        content = find_content(library, key)
        place = find_video(library.connection, content.id) if content else None
        seen = observations.get(library, key, *seen_by[key])
        if place is None or place.path is None or seen is None:
            continue
        free = seen.windows[~label_overlaps(library, key, labels, seen.windows)]
        path = Path(os.fsdecode(place.path))
        found += [(LabelledVideo(path, len(labels), int(start)), number) for start, _ in free]
    chosen = rng.permutation(len(found))[:most]
    return [found[i] for i in chosen]
