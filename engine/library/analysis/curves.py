"""The score of a label over a video, computed from its observations without opening the video or a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis import derive
from vtag.engine.library.analysis.segments import probabilities
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import heads, observations


@dataclass(frozen=True)
class Curve:
    """Scores float64 [W] of `label` in the windows int64 [W, 2] (ms) of a video; W is 0 without an observation."""

    label: str
    windows: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float  # the score at which a moment starts


def score_curve(library: LibraryWriter, content_id: int, label: str) -> Curve:
    """The scores of `label` in a content, by the library's model or else the latest model that has the label."""
    row = library.connection.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()
    for model_id in _model_ids(library) if row else ():
        model = heads.load_head(library, model_id)
        if label not in model.labels:
            continue
        observation = observations.densest(library.observations, row[0], model.backbone_hash)
        if observation is not None:
            index = model.labels.index(label)
            scores = probabilities(observation.features, model.weight, model.bias)[:, index]
            threshold = float(derive.derivation_rules(library, model).thresholds[index])
            return Curve(label, observation.windows, scores, threshold)
    return Curve(label, np.zeros((0, 2), np.int64), np.zeros(0), 1.0)


def _model_ids(library: LibraryWriter) -> list[int]:
    """Ids of all models, the library's own first, then the latest."""
    rows = library.connection.execute(
        "SELECT id FROM models ORDER BY id = ? DESC, id DESC", (heads.library_model(library),)
    )
    return [row[0] for row in rows]
