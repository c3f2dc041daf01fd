"""The head that is shipped: the labels that pay, and one in place of two that only motion tells apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vtag.trainer.data.dataset import label_from_name
from vtag.trainer.recipes.starter.data import MERGED, merged_labels
from vtag.trainer.recipes.starter.material import Footage
from vtag.trainer.recipes.starter.student import Student

# among the first of a search for a label of pictures: with less, the label does not pay
LEAST_PRECISION = 0.5
UNADVERTISED = ("hugging", "shaking_hands")  # clips of two places: taught, because other labels look alike


@dataclass
class Shipped:
    """What the head says; its weights are in the student."""

    labels: list[str]  # of the actions; the class after the last is NONE_OF_THESE
    merged_from: dict[str, list[str]]


def chosen_labels(footage: Footage, precision: Mapping[str, tuple[float, float]]) -> list[str]:
    """The labels that are shipped: those of clips, and those of pictures whose search finds mostly its own.

    `precision` is what `measure_pictures` found.
    """
    clips = [label for label in footage.clip_labels if label not in UNADVERTISED]
    pictures = footage.labels[len(footage.clip_labels) :]
    return clips + [label for label in pictures if precision[label][0] >= LEAST_PRECISION]


def ship_head(student: Student, footage: Footage, precision: Mapping[str, tuple[float, float]]) -> Shipped:
    """Merge the labels that are shipped as one in the student's head, and leave out others."""
    head = student.swin.head
    kept = chosen_labels(footage, precision)
    shipped, became = merged_labels(kept)
    rows = [*(footage.labels.index(label) for label in kept), len(footage.labels)]
    of = torch.tensor([*became, len(shipped)])  # the class of a kept label; the last is none of them
    put_head(student, *merge_head(head.weight.detach()[rows], head.bias.detach()[rows], of))
    merged = {
        label_from_name(name): [label_from_name(part) for part in MERGED[name]]
        for name in shipped
        if name in MERGED
    }
    return Shipped([label_from_name(label) for label in shipped], merged)


def merge_head(weight: Tensor, bias: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """A head [K, D], [K] whose class k became class `of[k]`: the mean logit plus the logarithm of the number."""
    count = torch.bincount(of).float()
    merged = torch.zeros(len(count), weight.shape[1]).index_add_(0, of, weight) / count[:, None]
    return merged, torch.zeros(len(count)).index_add_(0, of, bias) / count + count.log()


def put_head(student: Student, weight: Tensor, bias: Tensor) -> None:
    """Give the student this head, of as many classes as it has."""
    head = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    student.swin.head = head
    student.swin.sizes = replace(student.swin.sizes, num_classes=len(bias))
