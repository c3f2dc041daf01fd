"""Classifies a video by a published protocol: decodes its clips, runs the model, averages the probabilities."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.backends.protocol import Backend
from vtag.engine.video.read.published import read_protocol_views

PROTOCOLS = ("clip", "test")


@dataclass(frozen=True)
class Classification:
    """A class of a model, and the probability that a video shows it."""

    index: int
    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities float64 [N, K] of logits [N, K]."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def compute_logits(views: NDArray[np.uint8], backend: Backend) -> NDArray[np.float32]:
    """Logits [N, K] of `views` uint8 [N, T, H, W, 3], computed in batches to bound the memory."""
    step = batch_size(backend.device, "predict")
    return np.concatenate([backend.run(views[i : i + step]).logits for i in range(0, len(views), step)])


def predict(file: Path | bytes, backend: Backend, *, protocol: str, top: int = 5) -> list[Classification]:
    """The `top` classes of a video, best first.

    The protocols are PaddleVideo's two for Video Swin. `clip`: every second frame of one clip from the middle, with
    a centre crop. `test`: the average probability of four clips with three crops each. Raises VideoError if the file
    has no usable picture.
    """
    spec = backend.spec
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol has to be one of {', '.join(PROTOCOLS)}, not {protocol!r}")
    clips = read_protocol_views(
        os.fsencode(file),
        protocol="test" if protocol == "test" else "clip",
        frames=spec.frames,
        short_side=spec.short_side,
        crop=spec.crop,
    )
    scores = softmax(compute_logits(clips, backend)).mean(axis=0)
    order = np.argsort(-scores, kind="stable")[:top]
    return [Classification(int(i), spec.labels[i], float(scores[i])) for i in order]
