"""What stage 2 draws its batches from: clips and pictures with what they show and what the teachers think of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.recipes.starter.clips import camera_move, emptied, stack, training_clip
from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.imitate import normalise
from vtag.trainer.recipes.starter.labels import picture_label
from vtag.trainer.recipes.starter.material import UNNAMED, Footage, shown_label
from vtag.trainer.recipes.starter.student import CROP
from vtag.trainer.recipes.starter.tune import ClipBatch, mix
from vtag.trainer.recipes.starter.views import ViewSet

SOFT = 0.5  # how much of a clip's target is what the teachers think of it
# A step of stage 2, times Plan.tune_scale:
CLIPS, PICTURES, NEGATIVES, SCENES, EMPTY = 24, 7, 2, 2, 1


@dataclass
class ClipMaterial:
    """All that stage 2 sees; the class after the labels is "none of these"."""

    footage: Footage
    rows: list[slice]  # of a clip, between its black bars
    truth: npt.NDArray[np.int64]  # of the clips
    picture_truth: npt.NDArray[np.int64]  # of the stills; UNNAMED: of no label
    pooled: dict[str, Tensor]  # of each folder's items, the teacher's along its axes, [N, TARGET_AXES]
    shares: Tensor  # [clips, clip labels], what the teachers think; of no use where the clip is held back

    @property
    def classes(self) -> int:
        """The labels and "none of these"."""
        return len(self.footage.labels) + 1

    @property
    def train(self) -> npt.NDArray[np.intp]:
        """Indices of the clips that may be taught."""
        return np.flatnonzero(~self.footage.held["train"])

    def clip(self, i: int) -> Pixels:
        """The frames of a clip without its black bars."""
        return self.footage.stores["train"][i][:, self.rows[i]]


def clip_material(
    footage: Footage, rows_between_bars: list[slice], whole: ViewSet, shares: Tensor
) -> ClipMaterial:
    """Join `footage` with the teacher's answer to its `whole` views and the `shares` of the teacher of clips."""
    pictures = [shown_label(footage, "stills", i) for i in range(len(footage.stores["stills"]))]
    answers = torch.from_numpy(whole.maps.mean((1, 2), dtype=np.float32))
    pooled = {}
    for kind in footage.stores:
        rows = torch.tensor([i for i, view in enumerate(whole.views) if view.kind == kind])
        pooled[kind] = answers[rows].unflatten(0, (len(footage.stores[kind]), -1)).mean(1)
    return ClipMaterial(
        footage,
        rows_between_bars,
        np.array([footage.labels.index(item.label) for item in footage.stores["train"].items]),
        np.array([UNNAMED if name is None else footage.labels.index(name) for name in pictures]),
        pooled,
        shares,
    )


def view_classes(footage: Footage, names: Sequence[str]) -> Tensor:
    """For each name of stage 1 the label that it teaches in stage 2, or UNNAMED."""
    out = []
    for name in names:
        folder = name.removesuffix(" picture")
        label = folder if folder == name and name in footage.labels else picture_label(folder)
        out.append(UNNAMED if label is None else footage.labels.index(label))
    return torch.tensor(out)


def draw_batch(
    material: ClipMaterial,
    rng: np.random.Generator,
    generator: torch.Generator,
    *,
    scale: int,
    device: torch.device,
) -> ClipBatch:
    """Clips, half of them drawn evenly over labels and sources; pictures in motion; footage that shows no label."""
    footage, none = material.footage, material.classes - 1
    half = CLIPS * scale // 2
    chosen = [*rng.choice(material.train, half), *even_choice(material, rng, CLIPS * scale - half)]
    clips = [training_clip(material.clip(i), rng, size=CROP) for i in chosen]
    own = F.one_hot(torch.from_numpy(material.truth[chosen]), material.classes).float()
    soft = F.pad(material.shares[chosen], (0, material.classes - material.shares.shape[1]))
    shares, pooled = [(1 - SOFT) * own + SOFT * soft], [material.pooled["train"][chosen]]

    def add(kind: str, items: npt.NDArray[np.intp], truth: Tensor) -> None:
        for i in items:
            pixels = footage.stores[kind][int(i)]
            moves = len(pixels) > 1
            clips.append(
                training_clip(pixels, rng, size=CROP) if moves else camera_move(pixels, rng, size=CROP)
            )
        shares.append(F.one_hot(truth, material.classes).float())
        pooled.append(material.pooled[kind][torch.from_numpy(items)])

    pictures = even_pictures(material, rng, PICTURES * scale)
    add("stills", pictures, torch.from_numpy(material.picture_truth[pictures]))
    for kind, count in ("negatives", NEGATIVES), ("scenes", SCENES), ("scenes", EMPTY):
        items = rng.choice(np.flatnonzero(~footage.held[kind]), count * scale)
        add(kind, items, torch.full((count * scale,), none))
    pooled[-1] = torch.zeros_like(pooled[-1])
    clips[-EMPTY * scale :] = [emptied(clip, rng) for clip in clips[-EMPTY * scale :]]
    pixels = normalise(stack(clips).to(device), generator)
    wanted = torch.cat([torch.cat(shares), torch.cat(pooled)], 1).to(device)
    mixed, wanted = mix(pixels, wanted, generator)
    return ClipBatch(mixed, wanted[:, : material.classes], wanted[:, material.classes :])


def even_choice(material: ClipMaterial, rng: np.random.Generator, count: int) -> list[int]:
    """Clips to train on whose labels, and within a label whose sources, are equally likely."""
    chosen = []
    items = material.footage.stores["train"].items
    sources = np.array([item.source for item in items])
    known = np.unique(material.truth)
    for label in rng.permutation(np.resize(rng.permutation(known), count)):
        of_label = material.train[material.truth[material.train] == label]
        source = rng.choice(np.unique(sources[of_label]))
        chosen.append(int(rng.choice(of_label[sources[of_label] == source])))
    return chosen


def even_pictures(material: ClipMaterial, rng: np.random.Generator, count: int) -> npt.NDArray[np.intp]:
    """Stills that may be taught, their labels equally likely."""
    free = (material.picture_truth != UNNAMED) & ~material.footage.held["stills"]
    known = np.unique(material.picture_truth[free])
    chosen = [
        rng.choice(np.flatnonzero(free & (material.picture_truth == label)))
        for label in rng.choice(known, count)
    ]
    return np.array(chosen, np.intp)
