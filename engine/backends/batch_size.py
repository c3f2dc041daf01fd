"""How many clips a call of a model takes on a device."""

from __future__ import annotations

import os
from typing import Literal

from vtag.engine.backends.protocol import MAX_THREADS

_ON_CUDA = 16


def batch_size(device: str, task: Literal["scan", "predict", "train"]) -> int:
    """How many clips a call of a model takes on `device` (`cpu`, `cuda:0`, `mps`). A clip of three crops counts as 3.

    A CUDA card computes 16 at once for every task. On other devices a scan takes a clip for each thread that the
    backend has. A prediction takes 2 and a training 4: more are not faster there, and cost memory.
    """
    if device.split(":")[0] == "cuda":
        return _ON_CUDA
    if task == "scan":
        return min(os.cpu_count() or 1, MAX_THREADS)
    return 2 if task == "predict" else 4
