"""The teacher of clips: what pictures show and how bodies move, put together; by folds, so that it knows no source.

Needs `scikit-learn`, while training only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.trainer.recipes.starter.pose import LANDMARKS, PEOPLE
from vtag.trainer.recipes.starter.tune import fit_head, over_time

FOLDS = 5
FARTHEST = 4.0  # of a body's sizes: farther joints are mistakes
LEFT_HIP, RIGHT_HIP = 23, 24
PATHS = (
    0,
    13,
    14,
    15,
    16,
    25,
    26,
    27,
    28,
)  # nose, elbows, wrists, knees, ankles: their way is kept frame by frame
TREES = 400
LEAST_SHARE = 1e-4

Floats = npt.NDArray[np.float32]


@dataclass
class Opinions:
    """What the teachers think that clips show: shares [N, classes], each from clips of other sources."""

    pictures: Tensor
    motion: Tensor
    both: Tensor


def motion_features(frames: Floats, shape: tuple[int, int]) -> Floats:
    """What `PoseTeacher.clip` saw in T frames of `shape` (height, width), as one row of numbers.

    Joints are relative to the hips and to the body's size; their mean, their changes, and the ways of a few of them.
    """
    points = frames[:, : 4 * LANDMARKS].reshape(-1, LANDMARKS, 4)
    presence, others = frames[:, 4 * LANDMARKS], frames[:, 4 * LANDMARKS + 1 :].reshape(-1, PEOPLE, 4)
    found = presence > 0
    at = points[..., :2]
    hips = at[:, [LEFT_HIP, RIGHT_HIP]].mean(1)
    size = np.sqrt(((at - hips[:, None]) ** 2).sum(-1).mean(1)) * 2 + 1e-3
    body = ((at - hips[:, None]) / size[:, None, None]).clip(-FARTHEST, FARTHEST)
    count = len(frames)
    seen = np.flatnonzero(found)
    if len(seen) == 0:
        seen = np.array([0])
        body, hips, size = body * 0, hips * 0, size * 0 + 1
    nearest = seen[
        np.abs(np.arange(count)[:, None] - seen).argmin(1)
    ]  # a frame without a body: as the nearest one
    body, hips, size = body[nearest], hips[nearest], size[nearest]
    steps = np.diff(body, axis=0)
    path = (hips - hips[0]) / np.median(size)
    speed = np.hypot(*np.diff(path, axis=0).T)
    second = others[:, 1]
    apart = (
        np.hypot(*(others[:, 1, 1:3] - others[:, 0, 1:3]).T) / (others[:, 0, 3] + 1e-3) * (second[:, 0] > 0)
    )
    parts = [
        body.mean(0),
        np.abs(steps).mean(0),
        np.abs(steps).max(0),
        body[-1] - body[0],
        body[count // 2] - (body[0] + body[-1]) / 2,
        body[:, PATHS],
        path,
        [speed.mean(), speed.max(), np.abs(path).max(), size[-1] / size[0], size.max() / size.min()],
        points[found][..., 2].mean(0) if found.any() else np.zeros(LANDMARKS),
        [presence.mean(), found.mean(), np.median(size) / min(shape), *(hips.mean(0) / shape[::-1])],
        others[:, :, 0].mean(0),
        [apart.mean(), apart.max() - apart.min(), (second[:, 0] > 0).mean()],
    ]
    row = np.concatenate([np.asarray(part, np.float32).ravel() for part in parts])
    return row.clip(-20, 20)


def mirror(frames: Floats, width: int) -> Floats:
    """The same frames [T, FRAME_VALUES] seen in a mirror: left is right."""
    out = frames.copy()
    points = out[:, : 4 * LANDMARKS].reshape(-1, LANDMARKS, 4)
    order = [0, 4, 5, 6, 1, 2, 3, 8, 7, 10, 9]
    order += [i + 1 if i % 2 else i - 1 for i in range(11, LANDMARKS)]
    points = points[:, order]
    points[..., 0] = np.where(frames[:, 4 * LANDMARKS, None] > 0, width - points[..., 0], 0)
    out[:, : 4 * LANDMARKS] = points.reshape(len(out), -1)
    for k in range(PEOPLE):
        column = 4 * LANDMARKS + 2 + 4 * k
        out[:, column] = np.where(out[:, column - 1] > 0, width - out[:, column], 0)
    return out


def source_folds(sources: Sequence[str], *, folds: int = FOLDS) -> Tensor:
    """The fold of each clip [N]; all clips of a source are in one."""
    names = sorted(set(sources))
    return torch.tensor([names.index(source) % folds for source in sources])


def opinions(
    frames: Tensor,
    motion: Floats,
    mirrored: Floats,
    labels: Tensor,
    sources: Sequence[str],
    classes: int,
    *,
    unseen: Tensor,
    seed: int = 0,
) -> Opinions:
    """What the teachers think of every clip, from clips of other sources.

    `frames` [N, T, C] are the features of pictures; `motion` and `mirrored` [N, F] are `motion_features`. Clips that
    are `unseen` [N] teach nobody. A clip's opinions come from the folds it is not in, of an unseen clip from all.
    """
    pictures = over_time(frames)
    fold = source_folds(sources)
    fold[unseen] = FOLDS
    first = torch.empty(len(labels), classes), torch.empty(len(labels), classes)
    both = torch.empty(len(labels), classes)
    for k in range(FOLDS + 1):
        taught, asked = (fold != k) & ~unseen, fold == k
        weight, bias = fit_head(pictures[taught], labels[taught], classes)
        first[0][asked] = torch.softmax(pictures[asked] @ weight.T + bias, -1)
        first[1][asked] = _trees(motion, mirrored, labels, classes, taught.numpy(), asked.numpy(), seed)
    stacked = torch.cat([share.clamp(min=LEAST_SHARE).log() for share in first], 1)
    for k in range(FOLDS + 1):
        taught, asked = (fold != k) & ~unseen, fold == k
        both[asked] = _fuse(stacked, labels, classes, taught, asked)
    return Opinions(*first, both)


def _trees(
    motion: Floats,
    mirrored: Floats,
    labels: Tensor,
    classes: int,
    taught: npt.NDArray[np.bool_],
    asked: npt.NDArray[np.bool_],
    seed: int,
) -> Tensor:
    trees = import_module("sklearn.ensemble").ExtraTreesClassifier(
        TREES, min_samples_leaf=2, class_weight="balanced", random_state=seed, n_jobs=1
    )
    truth = labels.numpy()[taught]
    trees.fit(np.concatenate([motion[taught], mirrored[taught]]), np.concatenate([truth, truth]))
    shares = np.zeros((int(asked.sum()), classes), np.float32)
    if len(shares):
        shares[:, trees.classes_] = (
            trees.predict_proba(motion[asked]) + trees.predict_proba(mirrored[asked])
        ) / 2
    return torch.from_numpy(shares)


def _fuse(stacked: Tensor, labels: Tensor, classes: int, taught: Tensor, asked: Tensor) -> Tensor:
    """Shares from the log-shares [N, 2 classes] of both: for each class a weight of each, and an offset.

    The weights stay near the common ones, because some classes have few clips.
    """
    common = torch.tensor([1.0, 0.7], requires_grad=True)
    own = torch.zeros(2, classes, requires_grad=True)
    offset = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.Adam([common, own, offset], lr=0.02)
    balance = 1 / torch.bincount(labels[taught], minlength=classes).clamp(min=1).float().sqrt()

    def logits(rows: Tensor) -> Tensor:
        pictures, motion = stacked[rows].chunk(2, 1)
        return pictures * (common[0] + own[0]) + motion * (common[1] + own[1]) + offset

    for _ in range(200):
        loss = torch.nn.functional.cross_entropy(logits(taught), labels[taught], weight=balance)
        loss = loss + 0.5 * own.pow(2).mean() + 0.05 * offset.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return torch.softmax(logits(asked), -1)
