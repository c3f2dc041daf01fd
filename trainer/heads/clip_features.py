"""Features of labelled clips: every clip is decoded once in its life, by a scan into a library of clips."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.database import Library
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import content_key
from vtag.engine.paths import home
from vtag.engine.scan.events import ScanEvent
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.scan import scan
from vtag.trainer.data.dataset import Dataset, LabelledClip
from vtag.trainer.data.features import Features, empty_features

_OVERLAP = (
    2  # windows of a training clip begin this much closer than they are long: short clips give more of them
)


def clips_library_path() -> Path:
    """Where what was seen of labelled clips is kept."""
    return home() / "cache" / "clips" / "library.db"


def scan_clips(
    clips: Sequence[LabelledClip], base: Checkpoint, device: str, place: Path
) -> Iterator[ScanEvent]:
    """Scan the clips into the library at `place`, which keeps what was seen of them; yields the scan's events."""
    paths = [os.fsencode(clip.path) for clip in clips]
    with Library.open(place) as library:
        register_model(library, base, base.spec.name)
        yield from scan(library, paths, base, _options(base, device))


def load_clip_features(
    dataset: Dataset, base: Checkpoint, device: str, place: Path
) -> tuple[Dataset, Features]:
    """What `look_at` kept: the clips that could be read, one source for equal contents, and their features."""
    sampling = scan_sampling(base.spec, _options(base, device)).key()
    kept: list[LabelledClip] = []
    values: list[NDArray[np.float32]] = []
    windows: list[NDArray[np.int64]] = []
    first: dict[str, str] = {}  # content key -> source
    with Library.open(place) as library:
        for clip in dataset.clips:
            try:
                key = content_key(os.fsencode(clip.path))
            except OSError:
                continue
            seen = observations.get(library, key, base.spec.backbone_hash, sampling)
            if seen is None:
                continue
            kept.append(replace(clip, source=first.setdefault(key, clip.source)))
            values.append(seen.features.astype(np.float32).mean(1))
            windows.append(seen.windows)
    labels = tuple(sorted({clip.label for clip in kept}))
    of = Dataset(tuple(kept), labels, dataset.remarks)
    if not kept:
        return of, empty_features(base.spec.sizes.feature_dim)
    owner = np.repeat(np.arange(len(values)), [len(part) for part in values])
    return of, Features(np.concatenate(values), owner, np.concatenate(windows))


def _options(base: Checkpoint, device: str) -> ScanOptions:
    window_s = base.spec.frames / base.spec.rate
    return ScanOptions(
        device=device, stride_s=window_s / _OVERLAP, threshold=1.0, retry_failed=True
    )  # says nothing, only looks
