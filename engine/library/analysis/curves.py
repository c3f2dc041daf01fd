"""The score of a label over a video, out of what was seen: no video is opened, and no model loaded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.segments import probabilities
from vtag.engine.library.database import Library
from vtag.engine.library.store import heads, observations


@dataclass(frozen=True)
class Curve:
    """Scores float64 [W] of `label` in the windows int64 [W, 2] (ms) of a video; W is 0 where nothing is known."""

    label: str
    windows: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float  # at which a moment begins


def score_curve(library: Library, content_id: int, label: str) -> Curve:
    """What the models say of `label` in a content: the library's own model first, then the latest that knows it."""
    for model_id in _models(library):
        model = heads.load_head(library, model_id)
        if label not in model.labels:
            continue
        seen = latest_observation(library, content_id, model.backbone_hash)
        if seen is not None:
            at = model.labels.index(label)
            scores = probabilities(seen.features, model.weight, model.bias)[:, at]
            return Curve(
                label, seen.windows, scores, float(derive.derivation_rules(library, model).thresholds[at])
            )
    return Curve(label, np.zeros((0, 2), np.int64), np.zeros(0), 1.0)


def latest_observation(
    library: Library, content_id: int, backbone_hash: str
) -> observations.Observation | None:
    """What was seen of a content with a backbone: in the sampling with the most windows."""
    row = library.connection.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()
    sampling = (
        row
        and library.observations.execute(
            "SELECT sampling FROM observations WHERE content_key = ? AND backbone_hash = ? "
            "ORDER BY window_count DESC, id DESC LIMIT 1",
            (row[0], backbone_hash),
        ).fetchone()
    )
    return observations.get(library, row[0], backbone_hash, sampling[0]) if sampling else None


def _models(library: Library) -> list[int]:
    """Ids of all models, the library's own first, then the latest."""
    rows = library.connection.execute(
        "SELECT id FROM models ORDER BY id = ? DESC, id DESC", (heads.library_model(library),)
    )
    return [row[0] for row in rows]
