"""What the head is fitted on: frozen features of clips, pictures in motion and footage that shows no label.

Targets are softened by what the teachers think of clips of other sources. A label counts as much as another of its
kind, however many clips or pictures show it, and a source of many clips not as much as they.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.recipes.starter.clip_material import ClipMaterial
from vtag.trainer.recipes.starter.clips import camera_move, emptied, training_clip
from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.material import UNNAMED
from vtag.trainer.recipes.starter.measure import features_of
from vtag.trainer.recipes.starter.scan_windows import scan_windows
from vtag.trainer.recipes.starter.student import CROP, Student

OF_CLIP = 3  # random stretches and parts of each clip
OF_LABEL = 30  # pictures of a label
OF_OTHERS = 600  # scenes; a fifth as many are almost black or empty
SOFT = 0.6  # how much of a clip's target is what the teachers think of it
PICTURES = 0.5  # what a label of pictures counts, where a label of clips counts one
RELATED = 0.3  # what the pictures of a label of clips count, where a label of pictures counts one
OTHERS = 2.0  # what all that shows none of the labels counts, where a label of clips counts one
DECAY = 1e-2  # folds over the taught sources like SOFT of 0.6 and 0.7 beside it
STEPS = 40


@dataclass
class Lesson:
    """What a head is fitted on."""

    features: Tensor  # [N, D]
    wanted: Tensor  # [N, K]
    weights: Tensor  # [N], their sum is one


def make_lesson(student: Student, material: ClipMaterial, rng: np.random.Generator) -> Lesson:
    """Show the student what may be taught."""
    clips: list[Pixels] = []
    truth: list[int] = []
    chosen = np.repeat(material.train, OF_CLIP)
    for i in chosen:
        clips.append(training_clip(material.clip(int(i)), rng, size=CROP))
        truth.append(int(material.truth[i]))
    filmed = len(clips)
    for i in some_pictures(material, rng):
        clips.append(camera_move(material.footage.stores["stills"][int(i)], rng, size=CROP))
        truth.append(int(material.picture_truth[i]))
    clips += other_clips(material, rng)
    truth += [material.classes - 1] * (len(clips) - len(truth))
    names = np.array(truth)
    wanted = F.one_hot(torch.from_numpy(names), material.classes).float()
    soft = F.pad(material.shares[torch.from_numpy(chosen)], (0, material.classes - material.shares.shape[1]))
    wanted[:filmed] = (1 - SOFT) * wanted[:filmed] + SOFT * soft
    sources = [material.footage.stores["train"].items[i].source for i in chosen]
    weights = even_weights(names, sources, none=material.classes - 1)
    return Lesson(features_of(student, clips), wanted, torch.from_numpy(weights).float())


def some_pictures(material: ClipMaterial, rng: np.random.Generator) -> npt.NDArray[np.intp]:
    """At most OF_LABEL stills of each label that may be taught."""
    free = (material.picture_truth != UNNAMED) & ~material.footage.held["stills"]
    labels = np.unique(material.picture_truth[free])
    groups = [rng.permutation(np.flatnonzero(free & (material.picture_truth == label))) for label in labels]
    return np.concatenate([group[:OF_LABEL] for group in groups])


def other_clips(material: ClipMaterial, rng: np.random.Generator) -> list[Pixels]:
    """Scenes in motion, clips that show almost nothing, and a scan's windows of footage without an action."""
    stores, held = material.footage.stores, material.footage.held
    scenes = rng.permutation(np.flatnonzero(~held["scenes"]))[:OF_OTHERS]
    moving = [camera_move(stores["scenes"][int(i)], rng, size=CROP) for i in scenes]
    empty = [emptied(clip, rng) for clip in moving[: len(moving) // 5]]
    quiet = np.flatnonzero(~held["negatives"])
    return (
        moving + empty + [clip for i in quiet for clip in scan_windows(stores["negatives"][int(i)]).numpy()]
    )


def even_weights(
    truth: npt.NDArray[np.int64], sources: Sequence[str], *, none: int
) -> npt.NDArray[np.float64]:
    """Weights [N] of the examples: first clips, of these `sources`, then pictures. Labels of a kind weigh the same.

    Within a label of clips a source weighs as the root of its number of clips, because these are alike.
    """
    filmed = len(sources)
    own_number = Counter(zip(truth[:filmed].tolist(), sources, strict=True))
    parts = np.ones(len(truth))
    parts[:filmed] = [own_number[pair] ** -0.5 for pair in zip(truth[:filmed].tolist(), sources, strict=True)]
    of_clips = np.unique(truth[:filmed])
    weights = np.zeros(len(truth))
    is_clip = np.arange(len(truth)) < filmed
    for label in np.unique(truth):
        for rows, share in (
            (is_clip, 1.0),
            (~is_clip, RELATED * PICTURES if label in of_clips else PICTURES),
        ):
            own = rows & (truth == label)
            if own.any():
                weights[own] = (OTHERS if label == none else share) * parts[own] / parts[own].sum()
    return np.asarray(weights / weights.sum(), np.float64)


def fit_soft_head(lesson: Lesson, *, decay: float = DECAY, steps: int = STEPS) -> tuple[Tensor, Tensor]:
    """Weight [K, D] and bias [K] of a linear head, by regularised cross-entropy with shares as targets."""
    share = lesson.weights[:, None]
    mean = (share * lesson.features).sum(0)
    std = (share * (lesson.features - mean).square()).sum(0).sqrt() + 1e-4
    x = (lesson.features - mean) / std
    weight = torch.zeros(lesson.wanted.shape[1], x.shape[1], requires_grad=True)
    bias = torch.zeros(lesson.wanted.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=steps, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        lost = -(share * lesson.wanted * torch.log_softmax(x @ weight.T + bias, -1)).sum()
        lost = lost + decay * weight.square().sum()
        lost.backward()
        return lost

    optimizer.step(loss)
    weight = weight.detach() / std
    return weight, bias.detach() - weight @ mean
