"""What a model would say of a library, without writing it there."""

from __future__ import annotations

import numpy as np

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.analysis.head_preview import videos_with_files
from vtag.engine.library.analysis.segments import DEFAULT_THRESHOLD, Rule, probabilities, segments_of
from vtag.engine.library.database import Library
from vtag.engine.library.store import observations
from vtag.engine.swin.config import NONE_OF_THESE


def preview(library: Library, model: Checkpoint) -> list[tuple[str, str, int, float]]:
    """What the model would now say of a library: display path, label, moments, best score; nothing is written."""
    spec = model.spec
    default = DEFAULT_THRESHOLD if spec.threshold is None else spec.threshold
    limits = np.array(
        [
            2.0 if label == NONE_OF_THESE else spec.label_thresholds.get(label, default)
            for label in spec.labels
        ]
    )
    videos = videos_with_files(library)
    found: list[tuple[str, str, int, float]] = []
    for key, sampling in observations.samplings(library, spec.backbone_hash).items():
        seen = observations.get(library, key, spec.backbone_hash, sampling)
        if seen is None or key not in videos:
            continue
        _, display, end_ms = videos[key]
        scores = probabilities(seen.features, model.tensors["head.weight"], model.tensors["head.bias"])
        segments = segments_of(seen.windows, scores, limits, end_ms, Rule())
        for k in sorted({segment.label for segment in segments}):
            own = [segment.score for segment in segments if segment.label == k]
            found.append((display, spec.labels[k], len(own), max(own)))
    return sorted(found, key=lambda row: (-row[3], row[0]))
