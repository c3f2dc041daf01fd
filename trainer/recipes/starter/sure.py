"""The score from which each label is sure: what is said there is right four times in five on footage never taught.

Few labels have enough clips of unseen sources to set a threshold of their own. The others share one: the lowest score
at which what they say, taken together, is right that often. A label that spoils this is never sure. Whether it holds
is asked by folds of sources: thresholds from nine tenths of the sources, what they say of the last tenth.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vtag.engine.swin.config import ModelSpec
from vtag.trainer.data.dataset import label_from_name
from vtag.trainer.recipes.starter.clips import camera_move
from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.material import CLIP_KINDS, Footage, shown_label
from vtag.trainer.recipes.starter.measure import run_student
from vtag.trainer.recipes.starter.scan_windows import scan_windows
from vtag.trainer.recipes.starter.student import CROP, Student

Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]

PRECISION = 0.8  # by folds
ASKED = (0.8, 0.85, 0.9, 0.95)  # of the footage that sets thresholds, until PRECISION holds by folds
OWN, COMMON = 10, 8  # right ones above a threshold of a label's own, and above the common one, at least
FOLDS, DRAWS = 10, 5
NEVER = 1.0  # the threshold of a label that is never sure


@dataclass
class Scores:
    """The best window's shares of footage that was never taught."""

    shares: Floats  # [N, labels]
    truth: npt.NDArray[np.int64]  # [N], the labels' count: none of them
    sources: list[str]
    filmed: Bools  # [N], whether it is a clip and not a picture in motion


@dataclass
class Sure:
    """Thresholds of some labels and what they are worth, by folds of sources: means over DRAWS draws of the folds."""

    thresholds: dict[str, float]
    said: float  # how often a label is sure of a clip or picture
    right: float
    of: int  # clips or pictures that show one of the labels


def held_windows(footage: Footage, rng: np.random.Generator) -> Iterator[tuple[list[Pixels], str, str, bool]]:
    """All that is held back and known: windows, label ("": none), source, whether it is filmed.

    Clips as a scan sees them, pictures under a moving camera.
    """
    for kind in ("train", "negatives", "stills", "scenes"):
        store = footage.stores[kind]
        for i in np.flatnonzero(footage.held[kind]):
            pixels, label = store[int(i)], shown_label(footage, kind, int(i))
            if label is None:
                continue
            filmed = kind in CLIP_KINDS
            windows = list(scan_windows(pixels).numpy()) if filmed else [camera_move(pixels, rng, size=CROP)]
            yield windows, label, store.items[i].source, filmed


def score_held(student: Student, spec: ModelSpec, footage: Footage, rng: np.random.Generator) -> Scores:
    """What a student with the shipped head says of all that is held back."""
    became = classes_of(spec)
    held = list(held_windows(footage, rng))
    logits = run_student(student, [window for windows, *_ in held for window in windows])[1]
    shares = torch.softmax(logits, -1)[:, :-1].split([len(windows) for windows, *_ in held])
    none = len(spec.labels) - 1
    return Scores(
        np.stack([part.max(0).values.numpy() for part in shares]),
        np.array([became.get(label_from_name(label), none) for _, label, *_ in held]),
        [source for *_, source, _ in held],
        np.array([filmed for *_, filmed in held]),
    )


def classes_of(spec: ModelSpec) -> dict[str, int]:
    """For each name of a label of the clips or pictures the class that the shipped head has for it."""
    became = {label: k for k, label in enumerate(spec.labels[:-1])}
    for label, parts in spec.merged_from.items():
        became.update(dict.fromkeys(parts, became[label]))
    return became


def calibrate(found: Scores, labels: Sequence[str], filmed: Sequence[str]) -> dict[str, Sure]:
    """Thresholds of the labels, in two groups: those that clips show (`filmed`), by clips alone; and the others."""
    groups: Mapping[str, list[int]] = {
        "clips": [k for k, label in enumerate(labels) if label in filmed],
        "pictures": [k for k, label in enumerate(labels) if label not in filmed],
    }
    out = {}
    for name, columns in groups.items():
        rows = found.filmed if name == "clips" else np.ones(len(found.truth), bool)
        right = found.truth[rows, None] == np.array(columns, np.int64)[None]
        sources = [source for source, kept in zip(found.sources, rows, strict=True) if kept]
        if columns:
            out[name] = best_levels(
                found.shares[rows][:, columns], right, sources, [labels[k] for k in columns]
            )
    return out


def best_levels(shares: Floats, right: Bools, sources: Sequence[str], labels: Sequence[str]) -> Sure:
    """The thresholds that ask for the least which by folds are still right often enough, else none."""
    known = int(right.any(1).sum())
    for asked in ASKED:
        said, hits = by_folds(shares, right, sources, asked)
        if said and hits >= PRECISION * said:
            levels = sure_levels(shares, right, asked).round(4)
            return Sure(dict(zip(labels, levels.tolist(), strict=True)), said, hits, known)
    return Sure(dict.fromkeys(labels, NEVER), 0.0, 0.0, known)


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
    """For each label the lowest share [labels] from which it, or all without an own one, is right so often."""
    levels = np.full(shares.shape[1], NEVER)
    voiced = []
    for k in range(shares.shape[1]):
        own = lowest_level(shares[:, k], right[:, k], asked, OWN)
        if own is None:
            voiced.append(k)
        else:
            levels[k] = own
    while voiced:
        common = lowest_level(shares[:, voiced].ravel(), right[:, voiced].ravel(), asked, COMMON)
        spoilt = [k for k in voiced if common is not None and is_spoilt(shares[:, k] >= common, right[:, k])]
        if common is None:  # who says what is most surely wrong is silent
            loudest = [shares[~right[:, k], k].max(initial=0) for k in voiced]
            spoilt = [voiced[int(np.argmax(loudest))]]
        if not spoilt:
            levels[voiced] = common
            break
        voiced = [k for k in voiced if k not in spoilt]
    return levels


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
