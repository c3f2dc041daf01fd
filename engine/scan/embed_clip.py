"""The features of a clip that is not in the library, computed as a scan would; nothing is stored."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vtag.engine.backends.factory import open_backend
from vtag.engine.errors import VideoError
from vtag.engine.library.analysis.similar import SimilarityQuery, prototype
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads
from vtag.engine.library.store.feature_cache import normalised
from vtag.engine.models.registry import load_model
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.text import display_path
from vtag.engine.video.read.probe import probe_stream
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Window, plan_windows

_MAX_WINDOWS = 16  # of a whole clip; of a longer clip they are evenly spread


def embed_clip(
    library: LibraryWriter, file: Path, at_ms: int | None, *, device: str = "auto"
) -> SimilarityQuery:
    """The feature that the library's model computes for `file` at `at_ms`; None: one feature for the whole clip.

    Raises VideoError if there is no picture, ModelError if the model's files are gone.
    """
    source = heads.library_model_source(library)
    checkpoint = load_model(source or heads.load_head(library, heads.require_model(library, None)).name)
    sampling = scan_sampling(checkpoint.spec, ScanOptions())
    path = os.fsencode(file)
    windows = _select_windows(plan_windows(probe_stream(path).video.duration_ms, sampling), at_ms)
    backend = open_backend(checkpoint, device=device)
    starts = {window.start_ms for window in windows}
    clips = read_clips(path, sampling, skip=lambda start_ms: start_ms not in starts)
    rows = [backend.run(clip.pixels).features for clip in clips]
    if not rows:
        raise VideoError(f"{display_path(path)}: no picture at this time; name another one with --at")
    features = np.stack(rows).astype(np.float32)
    feature = prototype(features) if at_ms is None else normalised(features[0])
    return SimilarityQuery(feature, checkpoint.spec.backbone_hash)


def _select_windows(plan: list[Window], at_ms: int | None) -> list[Window]:
    """The window whose middle is nearest to `at_ms`; None: windows spread evenly over the clip."""
    if at_ms is not None:
        return [min(plan, key=lambda w: abs(w.start_ms + w.end_ms - 2 * at_ms))]
    indices = np.linspace(0, len(plan) - 1, min(len(plan), _MAX_WINDOWS)).round().astype(int)
    return [plan[i] for i in indices]
