"""What the student knows of what it is never taught: clips of held-back sources, and held-back pictures in motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.trainer.recipes.starter.clips import camera_move, test_views
from vtag.trainer.recipes.starter.data import LATER_LABELS, Pixels, merged_labels
from vtag.trainer.recipes.starter.imitate import normalise
from vtag.trainer.recipes.starter.material import Footage, shown_label
from vtag.trainer.recipes.starter.student import CROP, Student

Floats = npt.NDArray[np.float32]
FIRST = 10  # rows of a search that a label is judged by


@dataclass
class HeldNumbers:
    """Clips of held-back sources among the labels that were there first, by a copy of `predict --protocol test`."""

    clips: int
    top1: float
    top5: float
    mean_precision: float  # average precision, a mean over the labels
    merged_top1: float  # sit and stand as one, walk and run as one
    merged_precision: float

    def __str__(self) -> str:
        """The numbers in percent."""
        return (
            f"top-1 {100 * self.top1:.1f}, top-5 {100 * self.top5:.1f}, mAP {100 * self.mean_precision:.1f}, "
            f"merged {100 * self.merged_top1:.1f} and {100 * self.merged_precision:.1f} on {self.clips} clips"
        )


@torch.inference_mode()
def run_student(student: Student, clips: Sequence[Pixels], *, batch: int = 64) -> tuple[Tensor, Tensor]:
    """Pooled features [N, D] and logits [N, K] of uint8 clips [T, S, S, 3], in the network's precision."""
    weight = next(student.parameters())
    features, logits = [], []
    for start in range(0, len(clips), batch):
        pixels = torch.from_numpy(np.stack(clips[start : start + batch])).to(weight.device)
        seen = student(normalise(pixels).to(weight.dtype))
        features.append(seen.features.float().cpu())
        logits.append(seen.logits.float().cpu())
    return torch.cat(features).clone(), torch.cat(logits).clone()


def features_of(student: Student, clips: Sequence[Pixels], *, batch: int = 64) -> Tensor:
    """Pooled features [N, D] of uint8 clips [T, S, S, 3]."""
    return run_student(student, clips, batch=batch)[0]


def held_clips(footage: Footage) -> npt.NDArray[np.intp]:
    """The held-back clips of the labels that were there first: what all starters are measured on."""
    items = footage.stores["train"].items
    first = np.array([item.label not in LATER_LABELS for item in items])
    return np.flatnonzero(footage.held["train"] & first)


def measure_held(student: Student, footage: Footage) -> HeldNumbers:
    """How the student does on the clips of held-back sources."""
    student.eval()
    store, chosen = footage.stores["train"], held_clips(footage)
    views = [view for i in chosen for view in test_views(store[int(i)], size=CROP)]
    logits = run_student(student, views)[1].unflatten(0, (len(chosen), -1))
    labels = sorted({store.items[i].label for i in chosen})
    columns = [footage.labels.index(label) for label in labels]
    truth = np.array([labels.index(store.items[i].label) for i in chosen])
    shares = torch.softmax(logits, -1).mean(1)[:, columns].numpy()
    return held_numbers(shares, truth, labels)


def held_numbers(shares: Floats, truth: npt.NDArray[np.int64], labels: list[str]) -> HeldNumbers:
    """The numbers of clips that show `truth` [N], from their `shares` [N, labels]."""
    shipped, became = merged_labels(labels)
    of = np.array(became)
    merged = np.stack([shares[:, of == k].sum(1) for k in range(len(shipped))], 1)
    ranks = (-shares).argsort(1)
    return HeldNumbers(
        len(truth),
        float((ranks[:, 0] == truth).mean()),
        float((ranks[:, :5] == truth[:, None]).any(1).mean()),
        mean_precision(shares, truth),
        float((merged.argmax(1) == of[truth]).mean()),
        mean_precision(merged, of[truth]),
    )


def mean_precision(scores: Floats, truth: npt.NDArray[np.int64]) -> float:
    """The mean over the labels that occur of how well `scores` [N, labels] rank the label's own clips first."""
    return float(np.mean([average_precision(scores[:, k], truth == k) for k in np.unique(truth)]))


def average_precision(scores: Floats, right: npt.NDArray[np.bool_]) -> float:
    """The mean precision at the ranks of the right ones."""
    ranked = right[np.argsort(-scores, kind="stable")]
    return float((np.cumsum(ranked) / np.arange(1, len(ranked) + 1))[ranked].mean())


def measure_pictures(
    student: Student, footage: Footage, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """For each label of pictures: precision among the FIRST of a search, and average precision.

    The search is among held-back stills under a moving camera and the held-back clips.
    """
    student.eval()
    stills, train = footage.stores["stills"], footage.stores["train"]
    chosen = np.flatnonzero(footage.held["stills"])
    clips = [camera_move(stills[int(i)], rng, size=CROP) for i in chosen]
    names = [shown_label(footage, "stills", int(i)) for i in chosen]
    for i in np.flatnonzero(footage.held["train"]):
        clips.append(test_views(train[int(i)], size=CROP)[5])  # the middle crop of the second clip
        names.append(train.items[i].label)
    shares = torch.softmax(run_student(student, clips)[1], -1).numpy()
    found = {}
    for label in sorted({name for name in names[: len(chosen)] if name is not None}):
        scores = shares[:, footage.labels.index(label)]
        right = np.array([name == label for name in names])
        first = min(FIRST, int(right.sum()))
        found[label] = (
            float(right[np.argsort(-scores)[:first]].mean()),
            average_precision(scores, right),
        )
    return found
