"""The head that is shipped: fitted on what the tuned network sees, and thresholds from footage that shows none of it.

Two kinds of footage that shows none of the actions are at hand: stills under a moving camera, and real clips of an
action in the eyes of a head that was never taught that action. The second is what a person's videos are like.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.trainer.calibrate import threshold
from vtag.trainer.dataset import label_of
from vtag.trainer.starter.clips import camera_move, test_views, training_clip
from vtag.trainer.starter.data import MERGED, Pixels, merged_labels
from vtag.trainer.starter.imitate import normalise
from vtag.trainer.starter.pipeline import Material
from vtag.trainer.starter.release import RATE, scan_windows, top1
from vtag.trainer.starter.student import CROP, FRAMES, Student
from vtag.trainer.starter.tune import fit_head

VIEWS = 4  # random ones of each clip
UNRELATED = 1600  # stills
DECAY = 2e-2
STEPS = 200
FALSE_AN_HOUR = 3.0  # wrong moments, of all actions together
WINDOWS_A_MOMENT = 2.0  # wrong windows come in rows, which are one moment


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

    def of(self, chosen: npt.NDArray[np.bool_]) -> Looks:
        """The looks at the clips or stills that are chosen."""
        keep = chosen[self.owner]
        return Looks(self.features[torch.from_numpy(keep)], self.owner[keep])


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
    """All that the head and its thresholds are made from."""

    random: Looks  # random views of the clips to train on
    windows: Looks  # the scan's windows of these
    stills: Looks
    tested: Looks  # the judged protocol's views of the held-back clips


def look(student: Student, material: Material, rng: np.random.Generator) -> Sight:
    """Show the network everything, in bf16."""
    seeing = copy.deepcopy(student).to(torch.bfloat16)
    footage = material.footage
    random = [(i, training_clip(footage[i], rng, size=CROP)) for _ in range(VIEWS) for i in material.train]
    windows = [(i, window.numpy()) for i in material.train for window in scan_windows(footage[i])]
    tested = [(i, view) for i in np.flatnonzero(material.held) for view in test_views(footage[i], size=CROP)]
    return Sight(
        looks_at(seeing, random),
        looks_at(seeing, windows),
        look_at_stills(seeing, material, rng),
        looks_at(seeing, tested),
    )


def looks_at(student: Student, clips: Sequence[tuple[int, Pixels]]) -> Looks:
    """Looks at clips, each with its owner."""
    return Looks(features_of(student, [clip for _, clip in clips]), np.array([i for i, _ in clips]))


def look_at_stills(
    student: Student, material: Material, rng: np.random.Generator, *, unrelated: int = UNRELATED
) -> Looks:
    """A camera move over each related still that is taught, `unrelated` of the others, and half as many kept ones."""
    kinds, taught, actions = material.still_truth, material.still_taught, len(material.labels)
    related = np.flatnonzero((kinds >= 0) & (kinds < actions) & taught)
    others = rng.permutation(np.flatnonzero((kinds == actions) & taught))[:unrelated]
    kept = rng.permutation(np.flatnonzero((kinds == actions) & ~taught))[: unrelated // 2]
    owner = np.concatenate([related, others, kept])
    return Looks(
        features_of(student, [camera_move(material.pictures[i], rng, size=CROP) for i in owner]), owner
    )


def ship_head(student: Student, material: Material, sight: Sight) -> Shipped:
    """Fit the head anew on frozen features of random views, windows and stills, and set its thresholds."""
    taught, kept = sight.stills.of(material.still_taught), sight.stills.of(~material.still_taught)
    windows, own = sight.windows, material.truth[sight.windows.owner]
    features = torch.cat([sight.random.features, windows.features, taught.features])
    truth = np.concatenate([material.truth[sight.random.owner], own, material.still_truth[taught.owner]])
    apart = measure_head(sight.tested, material, fit(features, truth, len(material.labels)))

    shipped, became = merged_labels(material.labels)
    of = np.array([*became, len(shipped)])  # the class of a folder's label; the last is none of them
    weight, bias = fit(features, of[truth], len(shipped))
    put_head(student, weight, bias)
    unknown = strangers(features, of[truth], windows.features, of[own])
    shares = torch.softmax(kept.features @ weight.T + bias, -1)[:, : len(shipped)].numpy()
    names = [label_of(label) for label in shipped]
    merged = {label_of(name): [label_of(part) for part in MERGED[name]] for name in shipped if name in MERGED}
    return Shipped(names, merged, thresholds(np.concatenate([unknown, shares]), names), apart)


def fit(
    features: Tensor, truth: npt.NDArray[np.intp], actions: int, steps: int = STEPS
) -> tuple[Tensor, Tensor]:
    """A head for `actions` and none of them."""
    return fit_head(features, torch.from_numpy(truth), actions + 1, decay=DECAY, steps=steps)


def put_head(student: Student, weight: Tensor, bias: Tensor) -> None:
    """Give the student this head, of as many classes as it has."""
    head = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    student.swin.head = head
    student.swin.sizes = replace(student.swin.sizes, num_classes=len(bias))


def measure_head(tested: Looks, material: Material, head: tuple[Tensor, Tensor]) -> float:
    """Top-1 on the held-back clips with a head for each folder's label, by a copy of the judged protocol."""
    clips = np.unique(tested.owner)  # sorted, as the looks are
    logits = (tested.features @ head[0].T + head[1]).view(len(clips), -1, len(head[1]))
    return top1(logits, torch.from_numpy(material.truth[clips]), len(material.labels))


def strangers(
    features: Tensor, labels: npt.NDArray[np.intp], windows: Tensor, truth: npt.NDArray[np.intp]
) -> npt.NDArray[np.float32]:
    """Shares [N, actions] of windows in the eyes of heads that were never taught the windows' own actions.

    `features` and `labels` are what the heads are fitted on, `truth` the windows' actions, whose shares are NaN.
    """
    none = int(labels.max())
    out = np.full((len(windows), none), np.nan, np.float32)
    for action in np.unique(truth):
        taught, shown = torch.from_numpy(labels != action), truth == action
        weight, bias = fit(features[taught], labels[taught.numpy()], none, steps=STEPS // 2)
        shares = torch.softmax(windows[torch.from_numpy(shown)] @ weight.T + bias, -1)
        out[shown] = shares[:, :none].numpy()
        out[shown, action] = np.nan
    return out


def thresholds(wrong: npt.NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """For each action the score that wrong windows [N, actions] pass so rarely that FALSE_AN_HOUR moments come.

    By the rule for a person's own tags (`vtag.trainer.calibrate`). NaN: the window shows the action.
    """
    per_hour = FALSE_AN_HOUR * WINDOWS_A_MOMENT / len(names)
    out = {}
    for k, name in enumerate(names):
        scores = wrong[:, k][~np.isnan(wrong[:, k])].astype(np.float64)
        out[name] = round(threshold(scores, len(scores) * FRAMES / RATE / 3600, per_hour), 4)
    return out
