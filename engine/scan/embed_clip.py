"""Looks at a clip that the library does not hold, as a scan would, and keeps nothing."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vtag.engine.backends.factory import open_backend
from vtag.engine.errors import VideoError
from vtag.engine.library.analysis.similar import SimilarityQuery, prototype
from vtag.engine.library.database import Library
from vtag.engine.library.store import heads
from vtag.engine.library.store.feature_cache import normalised
from vtag.engine.models.registry import load_model
from vtag.engine.scan.scan import ScanOptions, sampling_of
from vtag.engine.text import display_path
from vtag.engine.video.read.probe import probe_stream
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Window, plan_windows

_MOST_WINDOWS = 16  # of a whole clip; of a longer one as many are spread over it


def like_clip(library: Library, file: Path, at_ms: int | None, *, device: str = "auto") -> SimilarityQuery:
    """What the library's model sees in `file` at `at_ms` (None: in all of it together).

    Raises VideoError where nothing can be seen there, ModelError where the model's files are gone.
    """
    source = heads.library_model_source(library)
    checkpoint = load_model(source or heads.load_head(library, heads.require_model(library, None)).name)
    sampling = sampling_of(checkpoint.spec, ScanOptions())
    name = os.fsencode(file)
    wanted = _windows(plan_windows(probe_stream(name).info.duration_ms, sampling), at_ms)
    backend = open_backend(checkpoint, device=device)
    starts = {window.start_ms for window in wanted}
    clips = read_clips(name, sampling, skip=lambda start_ms: start_ms not in starts)
    seen = [backend.run(clip.pixels).features for clip in clips]
    if not seen:
        raise VideoError(f"{display_path(name)}: nothing can be seen there; name another time with --at")
    features = np.stack(seen).astype(np.float32)
    asked = prototype(features) if at_ms is None else normalised(features[0])
    return SimilarityQuery(asked, checkpoint.spec.backbone_hash)


def _windows(plan: list[Window], at_ms: int | None) -> list[Window]:
    if at_ms is not None:
        return [min(plan, key=lambda w: abs(w.start_ms + w.end_ms - 2 * at_ms))]
    picked = np.linspace(0, len(plan) - 1, min(len(plan), _MOST_WINDOWS)).round().astype(int)
    return [plan[i] for i in picked]
