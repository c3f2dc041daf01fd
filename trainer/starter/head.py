"""The head that is shipped: fitted on what the tuned network sees, and thresholds from footage that shows none of it.

Two kinds of footage that shows none of the actions are at hand: stills under a moving camera, and real clips of an
action in the eyes of a head that was never taught that action. The second is what a person's videos are like.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.trainer.calibrate import threshold
from vtag.trainer.dataset import label_of
from vtag.trainer.starter.clips import camera_move, training_clip
from vtag.trainer.starter.data import Pixels
from vtag.trainer.starter.imitate import normalise
from vtag.trainer.starter.pipeline import Material
from vtag.trainer.starter.release import RATE, scan_windows
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
    """The head as it is shipped; its weights are in the student."""

    labels: list[str]  # of the actions; the class after the last is NONE_OF_THESE
    limits: dict[str, float]


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


def look_at_clips(student: Student, material: Material, rng: np.random.Generator) -> tuple[Looks, Looks]:
    """Random views of the clips to train on, and the scan's windows of all clips."""
    owner = np.tile(material.train, VIEWS)
    random = features_of(student, [training_clip(material.footage[i], rng, size=CROP) for i in owner])
    windows = [scan_windows(footage).numpy() for footage in material.footage]
    seen = features_of(student, [window for part in windows for window in part])
    count = [len(part) for part in windows]
    return Looks(random, owner), Looks(seen, np.repeat(np.arange(len(windows)), count))


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


def ship_head(student: Student, material: Material, rng: np.random.Generator) -> Shipped:
    """Fit the head anew on frozen features of random views, windows and stills, and set its thresholds."""
    seeing = copy.deepcopy(student).to(torch.bfloat16)
    random, windows = look_at_clips(seeing, material, rng)
    stills = look_at_stills(seeing, material, rng)
    windows = windows.of(~material.held)
    taught = stills.of(material.still_taught)
    features = torch.cat([random.features, windows.features, taught.features])
    labels = np.concatenate(
        [material.truth[random.owner], material.truth[windows.owner], material.still_truth[taught.owner]]
    )
    names = [label_of(label) for label in material.labels]
    weight, bias = fit_head(features, torch.from_numpy(labels), len(names) + 1, decay=DECAY, steps=STEPS)
    with torch.no_grad():
        student.swin.head.weight.copy_(weight)
        student.swin.head.bias.copy_(bias)
    unknown = strangers(features, labels, windows.features, material.truth[windows.owner])
    kept = stills.of(~material.still_taught).features
    shares = torch.softmax(kept @ weight.T + bias, -1)[:, : len(names)].numpy()
    limits = thresholds(np.concatenate([unknown, shares]), names)
    return Shipped(names, limits)


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
        weight, bias = fit_head(
            features[taught], torch.from_numpy(labels)[taught], none + 1, decay=DECAY, steps=STEPS // 2
        )
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
