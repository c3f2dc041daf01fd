"""The score from which each label is sure: what is said there is right four times in five on clips never taught.

Few labels have enough clips of unseen sources to set a threshold of their own. The others share one: the lowest score
at which what they say, taken together, is right that often. Labels that spoil this are never sure. A threshold of a
label's own is not below the common one: its clips may give themselves away by their look. Whether it holds
is asked by folds of sources: thresholds from nine tenths of the sources, what they say of the last tenth.

A label that only photographs teach is never sure. Thresholds from photographs in motion do not hold on film: of ten
moments that such labels were sure of in 57 videos none was right.

More is asked of the footage that sets the thresholds than shall hold elsewhere: 85 % held by folds too, and let five
wrong ones through in those 57 videos instead of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vtag.engine.swin.config import ModelSpec
from vtag.trainer.data.dataset import label_from_name
from vtag.trainer.recipes.starter.material import CLIP_KINDS, Footage, shown_label
from vtag.trainer.recipes.starter.measure import run_student
from vtag.trainer.recipes.starter.scan_windows import scan_windows
from vtag.trainer.recipes.starter.student import Student

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

PRECISION = 0.8  # by folds
ASKED = (0.94, 0.95, 0.96, 0.97)  # of the footage that sets thresholds, until PRECISION holds by folds
OWN, COMMON = 10, 8  # right ones above a threshold of a label's own, and above the common one, at least
FOLDS, DRAWS = 10, 5
NEVER = 1.0  # the threshold of a label that is never sure


@dataclass
class Scores:
    """The best window's shares of clips that were never taught."""

    shares: Floats  # [N, labels]
    truth: npt.NDArray[np.int64]  # [N], the labels' count: none of them
    sources: list[str]


@dataclass
class Sure:
    """Thresholds of all labels and what they are worth, by folds of sources: means over DRAWS draws of the folds."""

    thresholds: dict[str, float]
    said: float  # how often a label is sure of a clip
    right: float
    of: int  # clips that show one of the labels


def score_held(student: Student, spec: ModelSpec, footage: Footage) -> Scores:
    """What a student with the shipped head says of all clips that are held back, as a scan sees them."""
    became, none = classes_of(spec), len(spec.labels) - 1
    best, truth, sources = [], [], []
    for kind in CLIP_KINDS:
        store = footage.stores[kind]
        for i in np.flatnonzero(footage.held[kind]):
            logits = run_student(student, list(scan_windows(store[int(i)]).numpy()))[1]
            best.append(torch.softmax(logits, -1)[:, :none].max(0).values.numpy())
            truth.append(became.get(label_from_name(shown_label(footage, kind, int(i)) or ""), none))
            sources.append(store.items[i].source)
    return Scores(np.stack(best), np.array(truth), sources)


def classes_of(spec: ModelSpec) -> dict[str, int]:
    """For each name of a label of the clips or pictures the class that the shipped head has for it."""
    became = {label: k for k, label in enumerate(spec.labels[:-1])}
    for label, parts in spec.merged_from.items():
        became.update(dict.fromkeys(parts, became[label]))
    return became


def calibrate(found: Scores, labels: Sequence[str], filmed: Sequence[str]) -> Sure:
    """The thresholds that ask for the least which by folds are right often enough, else none.

    Labels that are not `filmed`, and all if there are no such thresholds, are never sure.
    """
    columns = [k for k, label in enumerate(labels) if label in filmed]
    shares, right = found.shares[:, columns], found.truth[:, None] == np.array(columns, np.int64)[None]
    levels = dict.fromkeys(labels, NEVER)
    known = int(right.any(1).sum())
    for asked in ASKED:
        said, hits = by_folds(shares, right, found.sources, asked)
        if said and hits >= PRECISION * said:
            own = sure_levels(shares, right, asked).round(4).tolist()
            return Sure(levels | dict(zip([labels[k] for k in columns], own, strict=True)), said, hits, known)
    return Sure(levels, 0.0, 0.0, known)


def by_folds(shares: Floats, right: Bools, sources: Sequence[str], asked: float) -> tuple[float, float]:
    """How often thresholds from other sources are passed, and rightly: means over the draws."""
    names, index = np.unique(np.array(sources), return_inverse=True)
    said = hits = 0
    for seed in range(DRAWS):
        fold = np.random.default_rng(seed).integers(0, FOLDS, len(names))[index]
        for k in range(FOLDS):
            passed = shares[fold == k] >= reachable(sure_levels(shares[fold != k], right[fold != k], asked))
            said += int(passed.sum())
            hits += int((passed & right[fold == k]).sum())
    return said / DRAWS, hits / DRAWS


def reachable(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The levels, with infinity for what is never sure."""
    return np.where(levels < NEVER, levels, np.inf)


def sure_levels(shares: Floats, right: Bools, asked: float) -> npt.NDArray[np.float64]:
    """For each label the lowest share [labels] from which it, or all without an own one, is right so often.

    Those that share a level fall silent one after the other, who is wrong most surely first. Of the levels on the way
    the one counts that lets most of what is right through.
    """
    own = [lowest_level(shares[:, k], right[:, k], asked, OWN) for k in range(shares.shape[1])]
    alone = np.array([NEVER if level is None else level for level in own])
    voiced = [k for k, level in enumerate(own) if level is None]
    candidates = []
    while voiced:
        common = lowest_level(shares[:, voiced].ravel(), right[:, voiced].ravel(), asked, COMMON)
        spoilt = [k for k in voiced if common is not None and is_spoilt(shares[:, k] >= common, right[:, k])]
        if common is not None and not spoilt:
            levels = np.maximum(alone, common)
            levels[voiced] = common
            candidates.append(levels)
        if not spoilt:
            loudest = [shares[~right[:, k], k].max(initial=0) for k in voiced]
            spoilt = [voiced[int(np.argmax(loudest))]]
        voiced = [k for k in voiced if k not in spoilt]
    return max(
        candidates, key=lambda levels: int(((shares >= reachable(levels)) & right).sum()), default=alone
    )


def is_spoilt(passed: Bools, right: Bools) -> bool:
    """Whether a label is wrong more than once above the common threshold, and more often than right."""
    wrong = int((passed & ~right).sum())
    return wrong > 1 and wrong > int((passed & right).sum())


def lowest_level(scores: Floats, right: Bools, asked: float, least: int) -> float | None:
    """The lowest of `scores` [N] from which the share `asked` is `right` and `least` are; None if there is none."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    last_of_score = np.append(scores[order][1:] < scores[order][:-1], True)
    good = (hits >= asked * np.arange(1, len(order) + 1)) & (hits >= least) & last_of_score
    return float(scores[order][np.flatnonzero(good)[-1]]) if good.any() else None
