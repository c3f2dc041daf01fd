"""The head that is shipped: labels merged that only motion tells apart, thresholds from what shows none of them.

Footage that shows none of the labels: real clips of a label in the eyes of a head that lacks that label, which is
what a person's videos are like; pictures under a moving camera; surveillance where nothing happens.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.trainer.data.dataset import label_from_name
from vtag.trainer.evaluation.calibrate import calibrate_threshold
from vtag.trainer.recipes.starter.clips import FRAMES, camera_move
from vtag.trainer.recipes.starter.data import MERGED, Pixels, merged_labels
from vtag.trainer.recipes.starter.labels import picture_label
from vtag.trainer.recipes.starter.material import UNNAMED, Footage
from vtag.trainer.recipes.starter.measure import measure_pictures, run_student
from vtag.trainer.recipes.starter.scan_windows import RATE, scan_windows
from vtag.trainer.recipes.starter.student import CROP, Student

FALSE_AN_HOUR = 3.0  # wrong moments, of all labels together
LEAST_PRECISION = (
    0.5  # among the first of a search for a label of pictures: with less, the label does not pay
)
UNADVERTISED = ("hugging", "shaking_hands")  # clips of two places: taught, because other labels look alike


@dataclass
class Shipped:
    """What the head says; its weights are in the student."""

    labels: list[str]  # of the actions; the class after the last is NONE_OF_THESE
    of: dict[str, int]  # of each folder's label that is shipped, the class
    merged_from: dict[str, list[str]]
    limits: dict[str, float]


@dataclass
class Looks:
    """Logits of many windows before labels are merged, and what the windows show."""

    logits: Tensor  # float32 [N, K]
    truth: npt.NDArray[np.int64]  # [N]; K - 1: none of the labels; UNNAMED: nobody knows


@dataclass
class Sight:
    """What the labels are chosen and the thresholds set by."""

    taught: Looks  # a scan's windows of the clips that were taught
    unseen: (
        Looks  # held-back pictures and scenes in motion, a scan's windows of held-back footage of no label
    )
    precision: dict[str, tuple[float, float]]  # of the labels of pictures, by `measure_pictures`


def look(student: Student, footage: Footage, rng: np.random.Generator) -> Sight:
    """Show the network everything, in bf16."""
    seeing = copy.deepcopy(student).to(torch.bfloat16)
    train, none = footage.stores["train"], len(footage.labels)
    taught, unseen = [], []
    for i in np.flatnonzero(~footage.held["train"]):
        truth = footage.labels.index(train.items[i].label)
        taught += [(window.numpy(), truth) for window in scan_windows(train[int(i)])]
    for i in np.flatnonzero(footage.held["negatives"]):
        unseen += [(window.numpy(), none) for window in scan_windows(footage.stores["negatives"][int(i)])]
    for kind in ("scenes", "stills"):
        store = footage.stores[kind]
        for i in np.flatnonzero(footage.held[kind]):
            label = picture_label(store.items[i].label) if kind == "stills" else None
            truth = none if kind == "scenes" else UNNAMED if label is None else footage.labels.index(label)
            unseen.append((camera_move(store[int(i)], rng, size=CROP), truth))
    return Sight(looks_at(seeing, taught), looks_at(seeing, unseen), measure_pictures(seeing, footage, rng))


def looks_at(student: Student, clips: Sequence[tuple[Pixels, int]]) -> Looks:
    """Looks at clips, each with what it shows."""
    return Looks(
        run_student(student, [clip for clip, _ in clips])[1], np.array([truth for _, truth in clips])
    )


def chosen_labels(footage: Footage, precision: dict[str, tuple[float, float]]) -> list[str]:
    """The labels that are shipped: those of clips, and those of pictures whose search finds mostly its own."""
    clips = [label for label in footage.clip_labels if label not in UNADVERTISED]
    pictures = footage.labels[len(footage.clip_labels) :]
    return clips + [label for label in pictures if precision[label][0] >= LEAST_PRECISION]


def ship_head(student: Student, footage: Footage, sight: Sight) -> Shipped:
    """Merge the labels that are shipped as one in the student's head, leave out others, and set thresholds."""
    head = student.swin.head
    kept = chosen_labels(footage, sight.precision)
    shipped, became = merged_labels(kept)
    rows = [*(footage.labels.index(label) for label in kept), len(footage.labels)]
    of = np.array([*became, len(shipped)])  # the class of a kept label; the last is none of them
    weight, bias = merge_head(head.weight.detach()[rows], head.bias.detach()[rows], torch.from_numpy(of))
    put_head(student, weight, bias)
    scores = np.concatenate([wrong_shares(part, rows, of) for part in (sight.taught, sight.unseen)])
    names = [label_from_name(label) for label in shipped]
    merged = {
        label_from_name(name): [label_from_name(part) for part in MERGED[name]]
        for name in shipped
        if name in MERGED
    }
    became_of = dict(zip(kept, became, strict=True))
    return Shipped(names, became_of, merged, thresholds(scores, names))


def wrong_shares(looks: Looks, rows: Sequence[int], of: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """The shares [N, shipped labels] of windows in the eyes of a head that lacks the windows' own labels.

    What a head says that lacks the right answer is what it says of the many things it was never told of. Windows that
    nobody knows are left out; a window of none of the labels is seen by the whole head.
    """
    labels = int(of.max())
    became = np.full(
        looks.logits.shape[1], labels
    )  # a label that is left out is none of those that are shipped
    became[list(rows)] = of
    known = looks.truth != UNNAMED
    logits, truth = looks.logits[torch.from_numpy(known)][:, list(rows)], became[looks.truth[known]]
    merged = merge_logits(logits, torch.from_numpy(of))
    out = torch.softmax(merged, -1)[:, :-1].numpy().copy()
    own = np.flatnonzero(truth < labels)
    out[own] = strangers(merged[torch.from_numpy(own)], truth[own])
    return np.asarray(out, np.float32)


def merge_logits(logits: Tensor, of: Tensor) -> Tensor:
    """Logits [N, K] of classes k that became class `of[k]`, by the rule of `merge_head`."""
    count = torch.bincount(of).float()
    return torch.zeros(len(logits), len(count)).index_add_(1, of, logits) / count + count.log()


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


def strangers(logits: Tensor, truth: npt.NDArray[np.intp]) -> npt.NDArray[np.float32]:
    """Shares [N, actions] of windows in the eyes of a head that lacks the windows' own actions, whose shares are NaN.

    `logits` [N, actions + 1] are of the whole head, `truth` [N] the actions that the windows show.
    """
    rows = torch.arange(len(logits))
    without = logits.clone()
    without[rows, torch.from_numpy(truth)] = -torch.inf
    shares = torch.softmax(without, -1)[:, :-1].numpy().copy()
    shares[np.arange(len(truth)), truth] = np.nan
    return np.asarray(shares, np.float32)


def thresholds(wrong: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """For each action the score that wrong windows [N, actions] pass so rarely that FALSE_AN_HOUR moments come.

    By the rule of trainer/evaluation/calibrate.py, every window a moment. NaN: it shows the action.
    """
    per_hour = FALSE_AN_HOUR / len(names)
    out = {}
    for k, name in enumerate(names):
        scores = wrong[:, k][~np.isnan(wrong[:, k])].astype(np.float64)
        out[name] = round(calibrate_threshold(scores, len(scores) * FRAMES / RATE / 3600, per_hour), 4)
    return out
