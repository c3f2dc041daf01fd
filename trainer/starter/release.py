"""The end of the recipe: the judged protocol on held-back sources, thresholds, and the model folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.engine.swin.spec import NONE_OF_THESE
from vtag.trainer.starter.data import Pixels
from vtag.trainer.starter.imitate import normalise
from vtag.trainer.starter.student import CROP, FRAMES, Student
from vtag.trainer.starter.views import resize

Scores = npt.NDArray[np.float32]

WINDOW_STEP = 2  # frames: every second one of 30 a second is the 15 a second that the scan takes
RATE = 15.0  # frames a second: the test's every second frame at 30
LOUDEST = 0.9999  # a threshold above this would say that the class is never named
TAIL = 30  # windows: enough for a mean, few enough to be the tail
MARGIN = 0.02  # above the highest wrong score that calibration saw


@dataclass(frozen=True)
class Accuracy:
    """Shares between 0 and 1 over clips of held-back sources."""

    top1: float
    top5: float
    mean_class: float
    confusion: npt.NDArray[np.int64]  # [true, said]


def view_scores(student: Student, views: Tensor, *, batch: int = 96) -> Tensor:
    """Logits float32 [N, V, K] of views uint8 [N, V, T, H, W, 3]."""
    n, v = views.shape[:2]
    parts = views.flatten(0, 1).split(batch)
    weight = next(student.parameters())
    with torch.inference_mode():
        logits = torch.cat(
            [
                student(normalise(part.to(weight.device)).to(weight.dtype)).logits.float().cpu()
                for part in parts
            ]
        )
    return logits.view(n, v, -1)


def accuracy(logits: Tensor, labels: Tensor, actions: int, *, best: int = 5) -> Accuracy:
    """Of logits [N, V, K], asking for the first `actions` classes; shares averaged over the views."""
    shares = torch.softmax(logits[..., :actions], -1).mean(1)
    said = shares.argmax(1)
    confusion = torch.zeros(actions, actions, dtype=torch.int64)
    confusion.index_put_((labels, said), torch.ones_like(labels), accumulate=True)
    per_class = confusion.diag() / confusion.sum(1).clamp(min=1)
    return Accuracy(
        top1=(said == labels).float().mean().item(),
        top5=(shares.topk(best).indices == labels[:, None]).any(1).float().mean().item(),
        mean_class=per_class[confusion.sum(1) > 0].mean().item(),
        confusion=confusion.numpy(),
    )


def scan_windows(frames: Pixels) -> Tensor:
    """A scan's windows of frames [T, H, W, 3] at 15 a second, middle crop: uint8 [N, FRAMES, S, S, 3]."""
    height, width = frames.shape[1:3]
    scale = CROP / min(height, width)
    starts = list(range(0, max(1, len(frames) - FRAMES + 1), FRAMES))
    if len(frames) > FRAMES and starts[-1] + FRAMES + FRAMES // 2 < len(frames):
        starts.append(len(frames) - FRAMES)
    small = resize(frames, (max(CROP, int(height * scale)), max(CROP, int(width * scale))))
    y, x = (small.shape[1] - CROP) // 2, (small.shape[2] - CROP) // 2
    small = small[:, y : y + CROP, x : x + CROP]
    order = [[(start + i) % len(small) for i in range(FRAMES)] for start in starts]
    return torch.from_numpy(small[np.array(order)])


def thresholds(
    scores: Sequence[Scores], truth: Sequence[int], labels: Sequence[str], *, false_an_hour: float = 3.0
) -> dict[str, float]:
    """For each action a score that no window of another action reached, and that few would in an hour.

    `scores` holds a video's window probabilities [N, K] each, `truth` the index of its action. Minutes of
    footage cannot show a rate of a few an hour, so the common floor is extrapolated (`rare_score`).
    """
    actions = [k for k, label in enumerate(labels) if label != NONE_OF_THESE]
    wrong = [
        np.delete(s[:, actions], [t] if t in actions else [], 1) for s, t in zip(scores, truth, strict=True)
    ]
    highest = np.concatenate([part.max(1) for part in wrong])
    floor = rare_score(highest, windows_an_hour=3600 * RATE / FRAMES, false_an_hour=false_an_hour)
    out = {}
    for k in actions:
        seen = [float(s[:, k].max()) for s, t in zip(scores, truth, strict=True) if t != k]
        out[labels[k]] = round(min(LOUDEST, max(floor, max(seen, default=0.0) + MARGIN)), 4)
    return out


def rare_score(wrong: Scores, *, windows_an_hour: float, false_an_hour: float) -> float:
    """The score that wrong ones [N] (one a window) exceed `false_an_hour` times, by their tail's shape.

    The log odds above the TAIL-th highest are taken as exponential, whose mean is that of the excesses.
    """
    odds = np.sort(np.log(np.clip(wrong, 1e-6, 1 - 1e-6) / (1 - np.clip(wrong, 1e-6, 1 - 1e-6))))[::-1]
    tail = min(TAIL, len(odds) - 1)
    if tail < 1:
        return LOUDEST
    start = odds[tail]
    excess = float((odds[:tail] - start).mean())
    expected = false_an_hour * len(odds) / windows_an_hour  # in as much footage as was seen
    rare = start + excess * max(0.0, np.log(tail / expected))
    return float(min(LOUDEST, 1 / (1 + np.exp(-rare))))


def found(scores: Sequence[Scores], truth: Sequence[int], limits: Sequence[float]) -> tuple[int, int]:
    """How many videos get their own action, and how many moments of another action there are."""
    right = wrong = 0
    for s, t in zip(scores, truth, strict=True):
        over = s[:, : len(limits)] >= np.array(limits)
        right += bool(t < len(limits) and over[:, t].any())
        over = over.copy()
        if t < len(limits):
            over[:, t] = False
        starts = over & ~np.concatenate([np.zeros_like(over[:1]), over[:-1]])
        wrong += int(starts.sum())
    return right, wrong
