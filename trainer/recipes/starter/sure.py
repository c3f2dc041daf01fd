"""For each label the score from which it is right four times in five on footage never taught, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from vtag.trainer.recipes.starter.clips import FRAMES, camera_move
from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.labels import picture_label
from vtag.trainer.recipes.starter.material import UNNAMED, Footage
from vtag.trainer.recipes.starter.measure import run_student
from vtag.trainer.recipes.starter.scan_windows import RATE, scan_windows
from vtag.trainer.recipes.starter.student import CROP, Student

Floats = npt.NDArray[np.float32]
PRECISION = 0.8
LEAST = 5  # right ones above a threshold: with fewer, nothing is known


@dataclass
class Scores:
    """The best window's scores of footage that was never taught."""

    shares: Floats  # [N, labels]
    truth: npt.NDArray[np.int64]  # [N], the labels' count: none of them; UNNAMED: nobody knows
    sources: list[str]
    hours: float  # of the footage that shows none of the labels


def held_windows(footage: Footage, rng: np.random.Generator) -> list[tuple[list[Pixels], int, str, str]]:
    """Windows, label, source and folder of all that is held back: clips as a scan sees them, pictures in motion."""
    out = []
    for kind in ("train", "negatives", "stills", "scenes"):
        store = footage.stores[kind]
        for i in np.flatnonzero(footage.held[kind]):
            item, pixels = store.items[i], store[int(i)]
            label = item.label if kind == "train" else picture_label(item.label) if kind == "stills" else None
            truth = len(footage.labels) if label is None else footage.labels.index(label)
            if kind == "stills" and label is None:
                truth = UNNAMED
            moves = len(pixels) > 1
            windows = list(scan_windows(pixels).numpy()) if moves else [camera_move(pixels, rng, size=CROP)]
            out.append((windows, truth, item.source, kind))
    return out


def score_held(student: Student, footage: Footage, rng: np.random.Generator) -> tuple[Scores, Scores]:
    """Scores of what shows a label or nobody knows, and of footage that shows none; classes as the head has them."""
    held = held_windows(footage, rng)
    logits = run_student(student, [window for windows, *_ in held for window in windows])[1]
    shares = torch.softmax(logits, -1)[:, :-1].split([len(windows) for windows, *_ in held])
    best = np.stack([part.max(0).values.numpy() for part in shares])
    none = np.array([kind in ("negatives", "scenes") for *_, kind in held])
    seconds = FRAMES / RATE * sum(len(windows) for (windows, *_), out in zip(held, none, strict=True) if out)
    truth, sources = np.array([label for _, label, *_ in held]), [source for *_, source, _ in held]
    parts = [
        Scores(best[rows], truth[rows], [sources[i] for i in np.flatnonzero(rows)], seconds / 3600)
        for rows in (~none, none)
    ]
    return parts[0], parts[1]


def sure_threshold(
    scores: Floats, right: npt.NDArray[np.bool_], *, precision: float = PRECISION, least: int = LEAST
) -> float | None:
    """The lowest of `scores` [N] above which `precision` is `right` and `least` are; None if there is none."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    last_of_score = np.append(scores[order][1:] < scores[order][:-1], True)
    good = (hits >= precision * np.arange(1, len(order) + 1)) & (hits >= least) & last_of_score
    return float(scores[order][np.flatnonzero(good)[-1]]) if good.any() else None


def sure_table(
    found: Scores, nothing: Scores, labels: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """For each label its threshold, what is found above it, and how often other footage passes it in an hour.

    `crossed` is the precision above thresholds that the other half of the sources set: what a threshold is worth on
    footage that did not set it. None: neither half sets one, or nothing is above.
    """
    known = found.truth != UNNAMED
    sources = sorted(set(found.sources))
    half = np.array([sources.index(source) % 2 for source in found.sources])
    table: dict[str, dict[str, float | int | None]] = {}
    for k, label in enumerate(labels):
        right, scores = found.truth == k, found.shares[:, k]
        level = sure_threshold(scores[known], right[known])
        above = hits = 0
        for part in (0, 1):
            set_by, asked = known & (half == part), known & (half != part)
            other = sure_threshold(scores[set_by], right[set_by], least=max(2, LEAST // 2))
            if other is not None:
                above += int((scores[asked] >= other).sum())
                hits += int((scores[asked & right] >= other).sum())
        over = known & (scores >= level) if level is not None else np.zeros(len(scores), bool)
        table[label] = {
            "threshold": level,
            "of": int(right.sum()),
            "found": int((over & right).sum()),
            "wrong": int((over & ~right).sum()),
            "crossed": hits / above if above else None,
            "an_hour": None
            if level is None
            else float((nothing.shares[:, k] >= level).sum() / nothing.hours),
        }
    return table
