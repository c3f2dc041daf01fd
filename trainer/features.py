"""Features of labelled clips and of footage that shows none of the labels; every clip is decoded once in its life."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.events import Event
from vtag.engine.library import observations
from vtag.engine.library.database import Library
from vtag.engine.library.files import content_key
from vtag.engine.paths import home
from vtag.engine.scan import ScanOptions, remember, sampling_of, scan
from vtag.engine.swin.checkpoints import Checkpoint
from vtag.trainer.dataset import Clip, Dataset

_OVERLAP = (
    2  # windows of a training clip begin this much closer than they are long: short clips give more of them
)


@dataclass
class Features:
    """Pooled features [N, D] of N windows, and for each the number of the clip or video that it is of."""

    values: NDArray[np.float32]
    owner: NDArray[np.int64]
    windows: NDArray[np.int64] = field(default_factory=lambda: np.zeros((0, 2), np.int64))  # start_ms, end_ms
    hours: float = 0.0


def look_at(dataset: Dataset, base: Checkpoint, device: str) -> Iterator[Event]:
    """Scan the clips into a library of their own, which keeps what was seen of them; yields the scan's events."""
    paths = [os.fsencode(clip.path) for clip in dataset.clips]
    options = _options(base, device)
    with Library.open(_library()) as library:
        remember(library, base, base.spec.name)
        yield from scan(library, paths, base, options)


def of_clips(dataset: Dataset, base: Checkpoint, device: str) -> tuple[Dataset, Features]:
    """What `look_at` kept: the clips that could be read, one source for equal contents, and their features."""
    sampling = sampling_of(base.spec, _options(base, device)).key()
    kept: list[Clip] = []
    parts: list[NDArray[np.float32]] = []
    first: dict[str, str] = {}  # content key -> source
    with Library.open(_library()) as library:
        for clip in dataset.clips:
            try:
                key = content_key(os.fsencode(clip.path))
            except OSError:
                continue
            seen = observations.get(library, key, base.spec.backbone_hash, sampling)
            if seen is None:
                continue
            kept.append(Clip(clip.path, clip.label, first.setdefault(key, clip.source)))
            parts.append(seen.features.astype(np.float32).mean(1))
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    dim = base.spec.sizes.feature_dim
    values = np.concatenate(parts) if parts else np.zeros((0, dim), np.float32)
    labels = tuple(sorted({clip.label for clip in kept}))
    return Dataset(tuple(kept), labels, dataset.remarks), Features(values, owner)


def of_library(library: Library, base: Checkpoint, dataset: Dataset, *, most: int, seed: int) -> Features:
    """Windows of a library that carry none of the labels, at most `most` of them, whole videos at random.

    What was seen of the clips themselves, and windows in which a moment of one of the labels is known (a model's or a
    person's), are left out.
    """
    own = {content_key(os.fsencode(clip.path)) for clip in dataset.clips}
    rows = library.observations.execute(
        "SELECT content_key, sampling FROM observations WHERE backbone_hash = ? ORDER BY window_count, id",
        (base.spec.backbone_hash,),
    )
    sampling = {key: of for key, of in rows if key not in own}  # the one with the most windows
    keys = sorted(sampling)
    rng = np.random.default_rng(seed)
    values, owner, windows, count = [], [], [], 0
    for number in rng.permutation(len(keys)):
        seen = observations.get(library, keys[number], base.spec.backbone_hash, sampling[keys[number]])
        if seen is None or count >= most:
            break
        free = ~_carrying(library, keys[number], dataset.labels, seen.windows)
        values.append(seen.features[free].astype(np.float32).mean(1))
        owner.append(np.full(int(free.sum()), number))
        windows.append(seen.windows[free])
        count += int(free.sum())
    if not values:
        return Features(np.zeros((0, base.spec.sizes.feature_dim), np.float32), np.zeros(0, np.int64))
    spans = np.concatenate(windows)
    hours = float((spans[:, 1] - spans[:, 0]).sum()) / 3_600_000
    return Features(np.concatenate(values), np.concatenate(owner), spans, hours)


def _carrying(
    library: Library, key: str, labels: tuple[str, ...], windows: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which windows [W, 2] overlap a known moment of one of the labels."""
    marks = ", ".join("?" * len(labels))
    spans = library.connection.execute(
        "SELECT s.start_ms, s.end_ms FROM segments s JOIN labels l ON l.id = s.label_id "
        f"JOIN contents c ON c.id = s.content_id WHERE c.key = ? AND l.name IN ({marks}) "
        "AND s.verdict IS NOT 'rejected'",
        (key, *labels),
    ).fetchall()
    carrying = np.zeros(len(windows), bool)
    for start, end in spans:
        carrying |= (windows[:, 0] < end) & (start < windows[:, 1])
    return carrying


def _options(base: Checkpoint, device: str) -> ScanOptions:
    window_s = base.spec.frames / base.spec.rate
    return ScanOptions(
        device=device, stride_s=window_s / _OVERLAP, threshold=1.0, retry_failed=True
    )  # says nothing, only looks


def _library() -> Path:
    return home() / "cache" / "clips" / "library.db"
