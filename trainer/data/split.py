"""A part of the clips that training does not see: whole sources, a few of every label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHARE = 0.2
_LEAST_SOURCES = 3  # of a label that gives some of them up


def validation_mask(sources: Sequence[str], labels: Sequence[int], *, seed: int) -> NDArray[np.bool_]:
    """Which clips [N] are for validation: a fifth of the sources of every label that has three or more.

    No label loses its last source for training, also where sources show several labels.
    """
    rng = np.random.default_rng(seed)
    own = {
        k: sorted({s for s, label in zip(sources, labels, strict=True) if label == k}) for k in set(labels)
    }
    chosen: set[str] = set()
    for label in sorted(own, key=lambda k: (len(own[k]), k)):
        wanted = max(1, round(_SHARE * len(own[label]))) if len(own[label]) >= _LEAST_SOURCES else 0
        for i in rng.permutation(len(own[label])):
            if len(chosen & set(own[label])) >= wanted:
                break
            source = own[label][i]
            if all(source not in rest or len(set(rest) - chosen) > 1 for rest in own.values()):
                chosen.add(source)
    return np.array([source in chosen for source in sources], bool)
