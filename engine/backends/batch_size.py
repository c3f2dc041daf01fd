"""The number of clips in a call of a model on a device."""

from __future__ import annotations

import os
from typing import Literal

from vtag.engine.backends.protocol import MAX_THREADS

_CUDA_BATCH = 16


def batch_size(device: str, task: Literal["scan", "predict", "train"]) -> int:
    """The number of clips in a call on `device` (`cpu`, `cuda:0`, `mps`). A clip of three crops counts as 3.

    A CUDA card computes 16 clips at a time for every task. On other devices a scan takes a clip for each thread of
    the backend. A prediction takes 2 and a training 4: larger batches are not faster there and cost memory.
    """
    if device.split(":")[0] == "cuda":
        return _CUDA_BATCH
    if task == "scan":
        return min(os.cpu_count() or 1, MAX_THREADS)
    return 2 if task == "predict" else 4
