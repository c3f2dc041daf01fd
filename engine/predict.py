"""One file, one answer: the published protocols, from the video's frames to averaged probabilities."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.protocol import Backend
from vtag.engine.video.read.published import read_protocol_views

PROTOCOLS = ("clip", "test")
_AT_ONCE = {"cuda": 16}  # views a call; on a CPU more than two gain nothing and cost their memory
_CPU_AT_ONCE = 2


@dataclass(frozen=True)
class Classification:
    """One class of a model and the probability that a video shows it."""

    index: int
    label: str
    score: float


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities float64 [N, K] of logits [N, K]."""
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def views_at_once(backend: Backend) -> int:
    """How many views a call of `backend` takes."""
    return _AT_ONCE.get(backend.device.split(":")[0], _CPU_AT_ONCE)


def logits_of(views: NDArray[np.uint8], backend: Backend) -> NDArray[np.float32]:
    """Logits [N, K] of `views` uint8 [N, T, H, W, 3], a few at a time, which bounds the memory."""
    step = views_at_once(backend)
    return np.concatenate([backend.run(views[i : i + step]).logits for i in range(0, len(views), step)])


def predict(file: Path | bytes, backend: Backend, *, protocol: str, top: int = 5) -> list[Classification]:
    """The `top` classes of a video, best first.

    `clip` is one clip of the model's frames, every second by index, from the middle, centre crop; `test` is four
    clips x three crops with their probabilities averaged (PaddleVideo's two protocols for Video Swin).
    Raises VideoError where the file shows no usable picture.
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
    scores = softmax(logits_of(clips, backend)).mean(axis=0)
    order = np.argsort(-scores, kind="stable")[:top]
    return [Classification(int(i), spec.labels[i], float(scores[i])) for i in order]
