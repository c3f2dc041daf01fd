"""Probes of the teacher of pictures that say what views look like, each fitted on clips of other sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vtag.trainer.recipes.starter.fusion import FOLDS, source_folds
from vtag.trainer.recipes.starter.looks import Looks
from vtag.trainer.recipes.starter.material import Footage
from vtag.trainer.recipes.starter.tune import fit_head
from vtag.trainer.recipes.starter.views import ViewSet


def find_looks(footage: Footage, sets: Sequence[ViewSet], opinions: Tensor) -> Looks:
    """Fit the probes on the clips' views of all `sets`; `opinions` [clips, K] is what the teachers think of each."""
    items = footage.stores["train"].items
    folds = source_folds([item.source for item in items])
    labels = torch.tensor([footage.clip_labels.index(item.label) for item in items])
    clip = torch.tensor([view.item if view.kind == "train" else -1 for part in sets for view in part.views])
    fold = torch.where(clip >= 0, folds[clip.clamp(min=0)], FOLDS)
    thought = torch.where((clip >= 0)[:, None], opinions[clip.clamp(min=0)], 0.0)
    rows = [[i for i, view in enumerate(part.views) if view.kind == "train"] for part in sets]
    pooled = torch.cat(
        [
            torch.from_numpy(part.maps[chosen].mean((1, 2), dtype=np.float32))
            for part, chosen in zip(sets, rows, strict=True)
        ]
    )
    shown = clip[clip >= 0]
    taught = torch.from_numpy(~footage.held["train"])[shown]
    heads = []
    for k in range(FOLDS + 1):
        others = taught & (folds[shown] != k)
        heads.append(fit_head(pooled[others], labels[shown][others], opinions.shape[1]))
    weight, bias = (torch.stack(part) for part in zip(*heads, strict=True))
    return Looks(fold, thought, weight, bias)
