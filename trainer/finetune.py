"""New tags from a person's clips: the head alone, on a backbone that stays, and silent on the rest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.events import Event
from vtag.engine.library.database import Library
from vtag.engine.library.segments import Rule, probabilities, segments_of
from vtag.engine.swin.checkpoints import Checkpoint
from vtag.engine.swin.folders import save_head_folder
from vtag.engine.swin.spec import NONE_OF_THESE
from vtag.trainer import features
from vtag.trainer.calibrate import threshold
from vtag.trainer.dataset import Dataset, DatasetError, folds
from vtag.trainer.features import Features
from vtag.trainer.head import Fit, fit

_FOLDS = 5
_MOST_NEGATIVES = 20_000  # windows: 40 MB of float32 with Swin-T's 768 features
_CHANCE = 0.5


@dataclass(frozen=True)
class Settings:
    """How to teach: `per_hour` false moments an hour are accepted, of all labels together."""

    per_hour: float = 1.0
    seed: int = 0
    device: str = "auto"


@dataclass(frozen=True)
class LabelFigures:
    """How one label does on clips of sources that the head had not seen; None where there were too few sources."""

    clips: int
    sources: int
    threshold: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Taught:
    """The new model, and what was measured of it."""

    folder: Path
    labels: Mapping[str, LabelFigures]
    accuracy: float | None  # of clips of unseen sources, among the labels
    negative_hours: float  # of footage that shows none of the labels, as far as is known
    false_per_hour: float | None  # on that footage, by heads that had not seen the video; None without any
    remarks: tuple[str, ...] = field(default=())


def finetune(
    dataset: Dataset,
    base: Checkpoint,
    base_source: str,
    folder: Path,
    settings: Settings,
    *,
    library: Library | None = None,
) -> Iterator[Event | Taught]:
    """Teach `base` the labels of `dataset` and write the model to `folder`; yields the scan's events, then Taught.

    Clips are decoded once in their life; negatives are what `library` holds that carries none of the labels. Raises
    DatasetError where there is too little to learn from, ModelError where the folder cannot be written.
    """
    if not dataset.clips:
        raise DatasetError(
            "there is no clip to learn from: put the clips of each tag into a folder of its name"
        )
    yield from features.look_at(dataset, base, settings.device)
    asked = set(dataset.labels)
    dataset, seen = features.of_clips(dataset, base, settings.device)
    remarks = [
        f"no clip of {label} could be read: it is left out" for label in sorted(asked - set(dataset.labels))
    ]
    if not dataset.clips:
        raise DatasetError("none of the clips could be read")
    empty = Features(np.zeros((0, seen.values.shape[1]), np.float32), np.zeros(0, np.int64))
    negatives = (
        features.of_library(library, base, dataset, most=_MOST_NEGATIVES, seed=settings.seed)
        if library
        else empty
    )
    if len(dataset.labels) + bool(len(negatives.values)) < 2:
        raise DatasetError(
            f"one label ({dataset.labels[0]}) needs footage that does not show it: scan other videos first "
            "(`vtag scan FOLDER`), or add a folder with another label"
        )
    learned = _learn(dataset, seen, negatives, settings)
    remarks += learned.remarks
    if not len(negatives.values):
        remarks.append(
            "the library holds no footage of other things: thresholds are guesses until it does (`vtag scan FOLDER`)"
        )
    taught = Taught(
        folder, learned.figures, learned.accuracy, negatives.hours, learned.false_per_hour, tuple(remarks)
    )
    checkpoint = _checkpoint(base, learned, folder.name)
    save_head_folder(checkpoint, folder, base=base_source, told=_told(taught, dataset, settings, learned.fit))
    yield taught


def preview(library: Library, model: Checkpoint) -> list[tuple[str, str, int, float]]:
    """What the model would now say of a library: display path, label, moments, best score; nothing is written."""
    spec = model.spec
    limits = np.array(
        [
            2.0 if label == NONE_OF_THESE else spec.label_thresholds.get(label, _CHANCE)
            for label in spec.labels
        ]
    )
    rows = library.observations.execute(
        "SELECT content_key, sampling FROM observations WHERE backbone_hash = ? ORDER BY window_count, id",
        (spec.backbone_hash,),
    )
    found: list[tuple[str, str, int, float]] = []
    from vtag.engine.library import observations  # noqa: PLC0415

    for key, sampling in dict(rows.fetchall()).items():
        seen = observations.get(library, key, spec.backbone_hash, sampling)
        place = library.connection.execute(
            "SELECT f.display, coalesce(c.duration_ms, 1 << 53) FROM contents c JOIN files f ON f.content_id = c.id "
            "WHERE c.key = ? ORDER BY f.state DESC, f.id",
            (key,),
        ).fetchone()
        if seen is None or place is None:
            continue
        scores = probabilities(seen.features, model.tensors["head.weight"], model.tensors["head.bias"])
        segments = segments_of(seen.windows, scores, limits, place[1], Rule())
        for k in sorted({segment.label for segment in segments}):
            own = [segment.score for segment in segments if segment.label == k]
            found.append((place[0], spec.labels[k], len(own), max(own)))
    return sorted(found, key=lambda row: (-row[3], row[0]))


@dataclass
class _Learned:
    fit: Fit
    labels: tuple[str, ...]
    figures: dict[str, LabelFigures]
    accuracy: float | None
    false_per_hour: float | None
    remarks: list[str]

    @property
    def thresholds(self) -> dict[str, float]:
        return {label: figure.threshold for label, figure in self.figures.items()}


def _learn(dataset: Dataset, seen: Features, negatives: Features, settings: Settings) -> _Learned:
    """The head, its thresholds, and what heads that had not seen a source say of it."""
    labels = dataset.labels
    background = len(labels)
    truth = np.array([labels.index(clip.label) for clip in dataset.clips])
    sources = {label: len({c.source for c in dataset.clips if c.label == label}) for label in labels}
    remarks = []
    few = [label for label in labels if sources[label] < 2]
    if few:
        remarks.append(f"{', '.join(few)}: clips of one source alone, so nothing can be said of new videos")
    clip_fold = folds([clip.source for clip in dataset.clips], truth.tolist(), _FOLDS, seed=settings.seed)
    videos = np.unique(negatives.owner)
    negative_fold = np.random.default_rng(settings.seed).integers(0, _FOLDS, int(videos.max(initial=0)) + 1)
    classes = background + bool(len(negatives.values))
    fitted = fit(
        np.concatenate([seen.values, negatives.values]),
        np.concatenate([truth[seen.owner], np.full(len(negatives.values), background)]),
        np.concatenate([clip_fold[seen.owner], negative_fold[negatives.owner]]),
        classes,
        background=background if len(negatives.values) else None,
    )
    own, other = fitted.unseen[: len(seen.values)], fitted.unseen[len(seen.values) :]
    limits = np.array(
        [
            _limit(k, own, truth[seen.owner], other, negatives.hours, settings, background)
            for k in range(background)
        ]
    )
    best = np.stack([own[seen.owner == i].max(0) for i in range(len(truth))])  # [clips, classes]
    mean = np.stack([own[seen.owner == i].mean(0) for i in range(len(truth))])
    judged = np.array([sources[clip.label] >= 2 for clip in dataset.clips])
    fires = best[:, :background] >= limits
    figures = {}
    for k, label in enumerate(labels):
        is_it, is_known = truth == k, sources[label] >= 2
        right = int((fires[:, k] & is_it).sum())
        fired = int((fires[:, k] & judged).sum())
        figures[label] = LabelFigures(
            clips=int(is_it.sum()),
            sources=sources[label],
            threshold=round(float(limits[k]), 4),
            precision=right / fired if is_known and fired else None,
            recall=right / int(is_it.sum()) if is_known else None,
        )
    accuracy = None
    if judged.any() and background > 1:
        accuracy = float((mean[judged, :background].argmax(1) == truth[judged]).mean())
    return _Learned(fitted, labels, figures, accuracy, _false_per_hour(negatives, other, limits), remarks)


def _limit(
    k: int,
    own: NDArray[np.float64],
    truth: NDArray[np.int64],
    other: NDArray[np.float64],
    hours: float,
    settings: Settings,
    labels: int,
) -> float:
    """One label's threshold: above what footage of other things reaches, and what clips of the other labels do."""
    if len(other):
        return threshold(other[:, k], hours, settings.per_hour / labels)
    strangers = own[truth != k, k]
    return max(_CHANCE, float(np.quantile(strangers, 0.98))) if len(strangers) else _CHANCE


def _false_per_hour(
    negatives: Features, scores: NDArray[np.float64], limits: NDArray[np.float64]
) -> float | None:
    """Moments an hour that the thresholds let through on footage that shows none of the labels."""
    if not negatives.hours:
        return None
    thresholds = np.append(limits, 2.0)
    count = 0
    for video in np.unique(negatives.owner):
        own = negatives.owner == video
        windows = negatives.windows[own]
        order = np.argsort(windows[:, 0], kind="stable")
        count += len(segments_of(windows[order], scores[own][order], thresholds, 1 << 53, Rule()))
    return count / negatives.hours


def _checkpoint(base: Checkpoint, learned: _Learned, name: str) -> Checkpoint:
    labels = learned.labels
    if len(learned.fit.bias) > len(labels):
        labels = (*labels, NONE_OF_THESE)
    sizes = replace(base.spec.sizes, num_classes=len(labels))
    spec = replace(
        base.spec,
        name=name,
        sizes=sizes,
        labels=labels,
        threshold=None,
        label_thresholds=learned.thresholds,
        merged_from={},
        source=f"taught by vtag finetune on {base.spec.name}",
        sha256="",
        head_hash="",
    )
    return Checkpoint(
        spec, {**base.tensors, "head.weight": learned.fit.weight, "head.bias": learned.fit.bias}
    )


def _told(taught: Taught, dataset: Dataset, settings: Settings, fitted: Fit) -> dict[str, Any]:
    """What model.json says of how the model came to be."""
    names = sorted(f"{clip.label}\0{clip.path.name}\0{clip.path.stat().st_size}" for clip in dataset.clips)
    return {
        "settings": {**asdict(settings), "decay": fitted.decay},
        "data": {
            "clips": len(dataset.clips),
            "sources": len({clip.source for clip in dataset.clips}),
            "fingerprint": hashlib.sha256(json.dumps(names).encode("utf-8", "surrogateescape")).hexdigest(),
        },
        "metrics": {
            "accuracy_unseen_sources": taught.accuracy,
            "false_moments_per_hour": taught.false_per_hour,
            "negative_hours": taught.negative_hours,
            "labels": {label: asdict(figures) for label, figures in taught.labels.items()},
        },
    }
