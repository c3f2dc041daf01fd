"""Features of labelled clips: a scan into a library of clips keeps them, so each clip is decoded only once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import observations
from vtag.engine.library.store.files import content_key
from vtag.engine.paths import home
from vtag.engine.scan.events import ScanEvent
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.scan import scan
from vtag.trainer.data.dataset import Dataset, LabelledClip
from vtag.trainer.data.features import FeatureCollector, Features

_WINDOWS_PER_LENGTH = 2  # windows start at every half of their length, so that short clips give more of them
_NO_TAGS = 1.0  # a threshold for scans that only store features


def clips_library_path() -> Path:
    """The library that stores the features of labelled clips."""
    return home() / "cache" / "clips" / "library.db"


def scan_clips(
    clips: Sequence[LabelledClip], base: Checkpoint, device: str, library_path: Path
) -> Iterator[ScanEvent]:
    """Scan the clips into the library at `library_path`; yields the scan's events."""
    paths = [os.fsencode(clip.path) for clip in clips]
    with LibraryWriter.open(library_path) as library:
        register_model(library, base, base.spec.name)
        yield from scan(library, paths, base, _scan_options(base, device))


def load_clip_features(
    dataset: Dataset, base: Checkpoint, device: str, library_path: Path
) -> tuple[Dataset, Features]:
    """The clips of `dataset` that `scan_clips` could read, and their features.

    Clips with equal contents get the same source, so that none of them is held out while another is trained on.
    """
    sampling = scan_sampling(base.spec, _scan_options(base, device)).key()
    clips: list[LabelledClip] = []
    features = FeatureCollector()
    sources: dict[str, str] = {}  # content key -> source
    with LibraryWriter.open(library_path) as library:
        for clip in dataset.clips:
            try:
                key = content_key(os.fsencode(clip.path))
            except OSError:
                continue
            observation = observations.get(library, key, base.spec.backbone_hash, sampling)
            if observation is None:
                continue
            features.add(observation.features, observation.windows, len(clips))
            clips.append(replace(clip, source=sources.setdefault(key, clip.source)))
    labels = tuple(sorted({clip.label for clip in clips}))
    readable = Dataset(tuple(clips), labels, dataset.remarks)
    return readable, features.build(base.spec.sizes.feature_dim)


def _scan_options(base: Checkpoint, device: str) -> ScanOptions:
    window_s = base.spec.frames / base.spec.rate
    return ScanOptions(
        device=device, stride_s=window_s / _WINDOWS_PER_LENGTH, threshold=_NO_TAGS, retry_failed=True
    )
