"""The head that is shipped: labels merged that only motion tells apart, thresholds from what shows none of them.

Two kinds of footage that shows none of the actions are at hand: stills under a moving camera, and real clips of an
action in the eyes of a head that lacks that action. The second is what a person's videos are like.
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
from vtag.trainer.recipes.starter.clips import camera_move, test_views
from vtag.trainer.recipes.starter.data import MERGED, Pixels, merged_labels
from vtag.trainer.recipes.starter.imitate import normalise
from vtag.trainer.recipes.starter.pipeline import Material
from vtag.trainer.recipes.starter.release import RATE, scan_windows, top1
from vtag.trainer.recipes.starter.student import CROP, FRAMES, Student

FALSE_AN_HOUR = 3.0  # wrong moments, of all actions together


@dataclass
class Shipped:
    """What the head says; its weights are in the student."""

    labels: list[str]  # of the actions; the class after the last is NONE_OF_THESE
    merged_from: dict[str, list[str]]
    limits: dict[str, float]
    unmerged_top1: float  # of a head for each folder's label, by a copy of the judged protocol


@dataclass
class Looks:
    """Features of many views with what they show; `owner` is the clip's or still's number."""

    features: Tensor  # float32 [N, D]
    owner: npt.NDArray[np.intp]


@torch.inference_mode()
def features_of(student: Student, clips: Sequence[Pixels], *, batch: int = 64) -> Tensor:
    """Pooled features [N, D] of uint8 clips [T, S, S, 3], in the network's precision."""
    weight = next(student.parameters())
    out = []
    for start in range(0, len(clips), batch):
        pixels = torch.from_numpy(np.stack(clips[start : start + batch])).to(weight.device)
        out.append(student(normalise(pixels).to(weight.dtype)).features.float().cpu())
    return torch.cat(out).clone()


@dataclass
class Sight:
    """What the merged labels and the thresholds are judged by."""

    windows: Looks  # the scan's windows of the clips to train on
    stills: Looks  # camera moves over stills that stage 2 did not see and that show none of the actions
    tested: Looks  # the judged protocol's views of the held-back clips


def look(student: Student, material: Material, rng: np.random.Generator) -> Sight:
    """Show the network everything, in bf16."""
    seeing = copy.deepcopy(student).to(torch.bfloat16)
    footage, unrelated = material.footage, material.still_truth == len(material.labels)
    windows = [(int(i), window.numpy()) for i in material.train for window in scan_windows(footage[i])]
    stills = [
        (int(i), camera_move(material.pictures[i], rng, size=CROP))
        for i in np.flatnonzero(unrelated & ~material.still_taught)
    ]
    tested = [
        (int(i), view) for i in np.flatnonzero(material.held) for view in test_views(footage[i], size=CROP)
    ]
    return Sight(looks_at(seeing, windows), looks_at(seeing, stills), looks_at(seeing, tested))


def looks_at(student: Student, clips: Sequence[tuple[int, Pixels]]) -> Looks:
    """Looks at clips, each with its owner."""
    return Looks(features_of(student, [clip for _, clip in clips]), np.array([i for i, _ in clips]))


def ship_head(student: Student, material: Material, sight: Sight) -> Shipped:
    """Merge the labels that are shipped as one in the student's head, and set its thresholds."""
    head = student.swin.head
    weight, bias = head.weight.detach().clone(), head.bias.detach().clone()
    apart = measure_head(sight.tested, material, weight, bias)
    shipped, became = merged_labels(material.labels)
    of = np.array([*became, len(shipped)])  # the class of a folder's label; the last is none of them
    weight, bias = merge_head(weight, bias, torch.from_numpy(of))
    put_head(student, weight, bias)
    unknown = strangers(sight.windows.features @ weight.T + bias, of[material.truth[sight.windows.owner]])
    shares = torch.softmax(sight.stills.features @ weight.T + bias, -1)[:, : len(shipped)].numpy()
    names = [label_from_name(label) for label in shipped]
    merged = {
        label_from_name(name): [label_from_name(part) for part in MERGED[name]]
        for name in shipped
        if name in MERGED
    }
    return Shipped(names, merged, thresholds(np.concatenate([unknown, shares]), names), apart)


def merge_head(weight: Tensor, bias: Tensor, of: Tensor) -> tuple[Tensor, Tensor]:
    """A head [K, D], [K] whose class k became class `of[k]`.

    The shares of merged classes add up where the classes agree: their mean logit and the logarithm of their number.
    """
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


def measure_head(tested: Looks, material: Material, weight: Tensor, bias: Tensor) -> float:
    """Top-1 on the held-back clips with a head for each folder's label, by a copy of the judged protocol."""
    clips = np.unique(tested.owner)  # sorted, as the looks are
    logits = (tested.features @ weight.T + bias).view(len(clips), -1, len(bias))
    return top1(logits, torch.from_numpy(material.truth[clips]), len(material.labels))


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


def said_with_hindsight(shares: Tensor, truth: npt.NDArray[np.intp]) -> float:
    """The part of clips that is said where each action's threshold is the highest score of a clip that lacks it.

    `shares` [N, actions] are of clips whose source was not seen, `truth` [N] what they show. The thresholds let no
    wrong clip through and are chosen by the very clips, so that no rule that knows less says more.
    """
    own = shares[torch.arange(len(truth)), torch.from_numpy(truth)].numpy()
    nothing = torch.full((len(shares), 1), -torch.inf)
    wrong = strangers(torch.cat([shares.clamp(min=1e-12).log(), nothing], 1), truth)
    return float((own > np.nanmax(wrong, axis=0)[truth]).mean())


def thresholds(wrong: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """For each action the score that wrong windows [N, actions] pass so rarely that FALSE_AN_HOUR moments come.

    By the rule of `trainer/heads/calibrate.py`, every window a moment. NaN: it shows the action.
    """
    per_hour = FALSE_AN_HOUR / len(names)
    out = {}
    for k, name in enumerate(names):
        scores = wrong[:, k][~np.isnan(wrong[:, k])].astype(np.float64)
        out[name] = round(calibrate_threshold(scores, len(scores) * FRAMES / RATE / 3600, per_hour), 4)
    return out
