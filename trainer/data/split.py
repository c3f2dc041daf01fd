"""The validation split: whole sources, a few of every label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SHARE = 0.2  # of a label's sources
_MIN_SOURCES = 3  # a label with fewer gives none to validation


def validation_mask(sources: Sequence[str], labels: Sequence[int], *, seed: int) -> NDArray[np.bool_]:
    """Which clips [N] are for validation: a fifth of the sources of every label that has three or more.

    Every label keeps at least one source for training, even if sources show several labels.
    """
    rng = np.random.default_rng(seed)
    label_sources = {
        k: sorted({s for s, label in zip(sources, labels, strict=True) if label == k}) for k in set(labels)
    }
    chosen: set[str] = set()
    for label in sorted(label_sources, key=lambda k: (len(label_sources[k]), k)):
        candidates = label_sources[label]
        quota = max(1, round(_SHARE * len(candidates))) if len(candidates) >= _MIN_SOURCES else 0
        for i in rng.permutation(len(candidates)):
            if len(chosen & set(candidates)) >= quota:
                break
            source = candidates[i]
            if all(source not in group or len(set(group) - chosen) > 1 for group in label_sources.values()):
                chosen.add(source)
    return np.array([source in chosen for source in sources], bool)
