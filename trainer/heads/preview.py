"""What a model would say of a library, without writing it there."""

from __future__ import annotations

import numpy as np

from vtag.engine.checkpoints.checkpoint import Checkpoint
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
    rows = library.observations.execute(
        "SELECT content_key, sampling FROM observations WHERE backbone_hash = ? ORDER BY window_count, id",
        (spec.backbone_hash,),
    )
    found: list[tuple[str, str, int, float]] = []
    for key, sampling in dict(rows.fetchall()).items():
        seen = observations.get(library, key, spec.backbone_hash, sampling)
        place = library.connection.execute(
            "SELECT f.display, coalesce(c.duration_ms, 1 << 53) FROM contents c JOIN files f ON f.content_id = c.id "
            "WHERE c.key = ? ORDER BY f.state DESC, f.id",
            (key,),
        ).fetchone()
        if seen is None or place is None:
            continue
        scores = probabilities(seen.features, model.tensors["head.weight"], model.tensors["head.bias"])
        segments = segments_of(seen.windows, scores, limits, place[1], Rule())
        for k in sorted({segment.label for segment in segments}):
            own = [segment.score for segment in segments if segment.label == k]
            found.append((place[0], spec.labels[k], len(own), max(own)))
    return sorted(found, key=lambda row: (-row[3], row[0]))
