"""New tags from a person's clips: a head on a backbone that stays, or a trained network; silent on the rest."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.model_folder import save_head_folder, save_model_folder
from vtag.engine.library.database import Library
from vtag.engine.library.store import runs
from vtag.engine.library.store.files import content_key
from vtag.engine.scan.events import ScanEvent
from vtag.engine.swin.config import NONE_OF_THESE, TAUGHT
from vtag.trainer.data.dataset import Dataset, DatasetError, folds
from vtag.trainer.data.features import Features, concatenate, empty_features
from vtag.trainer.evaluation.head_metrics import FinetuneResult, HeadMetrics, measure_head
from vtag.trainer.evaluation.report import (
    CONFUSION_FILE,
    CURVES_FILE,
    HISTORY_FILE,
    confusion_png,
    curves_png,
    history_csv,
)
from vtag.trainer.heads import clip_features, negatives, window_features
from vtag.trainer.heads.examples import AnnotationExamples, examples_from_annotations
from vtag.trainer.heads.finetune_network import Examples, NetworkSettings, NewModel, train_backbone
from vtag.trainer.heads.linear_head import FittedHead, fit_head
from vtag.trainer.heads.run_progress import RunProgress
from vtag.trainer.heads.window_features import OwnedWindow, WindowsDone
from vtag.trainer.loop.loop import TrainEvent, TrainingResumed
from vtag.trainer.loop.state_paths import discard_state, state_folder

_FOLDS = 5
_MOST_NEGATIVES = 20_000  # windows: 40 MB of float32 with Swin-T's 768 features
_MOST_DECODED = 1_000  # windows of other footage, where they have to be decoded
_REJECTED_SHARE = 0.1  # of the weight of all other footage, at least; what a person rejected is known best
_MOST_EMPHASIS = 50.0


@dataclass(frozen=True)
class FinetuneSettings:
    """How to teach: `per_hour` false moments an hour are accepted, of all labels together."""

    per_hour: float = 1.0
    seed: int = 0
    device: str = "auto"
    network: NetworkSettings | None = None  # None: the head alone
    resume: bool = False


@dataclass(frozen=True)
class FinetuneBase:
    """What to stand on; `source` is the model's name or path, None where nobody else has this backbone."""

    checkpoint: Checkpoint
    source: str | None


@dataclass
class _Material:
    """All that is learned from, as the base's backbone sees it."""

    dataset: Dataset
    seen: Features
    negatives: Features
    emphasis: NDArray[np.float32]  # of each negative window
    others: tuple[OwnedWindow, ...] = ()  # windows of other footage that can be decoded
    remarks: list[str] = field(default_factory=list)


FinetuneEvent = ScanEvent | TrainEvent | TrainingResumed | WindowsDone | FinetuneResult
Steps = Generator[ScanEvent | TrainEvent | TrainingResumed | WindowsDone, None, FinetuneResult]


def finetune(
    dataset: Dataset,
    base: FinetuneBase,
    folder: Path,
    settings: FinetuneSettings,
    *,
    library: Library,
    from_library: bool = False,
) -> Generator[FinetuneEvent, None, None]:
    """Teach `base` the labels of `dataset` and, with `from_library`, those of a person's words; write the model.

    Yields the events of looking and training, then Taught. Clips are decoded once in their life; negatives are what
    `library` holds that carries none of the labels. Closing the generator keeps the state of a network's training.
    Raises DatasetError where there is too little to learn from, ModelError where the folder cannot be written.
    """
    run_id = runs.start(library, "finetune", str(folder))
    state, reporting = "failed", RunProgress(library, run_id)
    steps = _teach(dataset, base, folder, settings, library, from_library)
    try:
        with closing(steps):
            while True:
                try:
                    event = next(steps)
                except StopIteration as end:
                    taught: FinetuneResult = end.value
                    break
                reporting.hear(event)
                yield event
        state = "done"
    except (KeyboardInterrupt, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        reporting.write()
        runs.finish(library, run_id, state)
    yield taught


def _teach(
    dataset: Dataset,
    base: FinetuneBase,
    folder: Path,
    settings: FinetuneSettings,
    library: Library,
    from_library: bool,
) -> Steps:
    said = examples_from_annotations(library, base.checkpoint) if from_library else None
    if not dataset.clips and not (said and said.clips):
        raise DatasetError(_nothing(from_library))
    material = yield from _gather(dataset, base, settings, library, said)
    labels = material.dataset.labels
    if len(labels) + bool(len(material.negatives.values)) < 2:
        raise DatasetError(
            f"one label ({labels[0]}) needs footage that does not show it: scan other videos first "
            "(`vtag scan FOLDER`), or add a folder with another label"
        )
    if not len(material.negatives.values):
        material.remarks.append(
            "the library holds no footage of other things: thresholds are guesses until it does (`vtag scan FOLDER`)"
        )
    fitted, verdict = _fit_head(material, settings)
    checkpoint = _checkpoint(base.checkpoint, labels, fitted, verdict, folder.name)
    if settings.network is None:
        taught = _taught(folder, verdict, material.negatives, material.remarks)
        told = _told(taught, material.dataset, settings, decay=fitted.decay)
        if base.source is None:
            save_model_folder(checkpoint, folder, told=told)
        else:
            save_head_folder(checkpoint, folder, base=base.source, told=told)
        return taught
    examples = Examples(material.dataset, material.seen.windows, material.seen.owner, material.others)
    new = yield from train_backbone(
        examples,
        checkpoint,
        settings.network,
        device=settings.device,
        seed=settings.seed,
        per_hour=settings.per_hour,
        folder=state_folder(folder),
        resume=settings.resume,
    )
    return _save_network(new, verdict, folder, material, settings)


def _gather(
    dataset: Dataset,
    base: FinetuneBase,
    settings: FinetuneSettings,
    library: Library,
    said: AnnotationExamples | None,
) -> Generator[ScanEvent | WindowsDone, None, _Material]:
    """The clips that can be read, their features, and footage of other things."""
    checkpoint, place = base.checkpoint, clip_features.clips_library_path()
    seen, remarks = empty_features(checkpoint.spec.sizes.feature_dim), []
    if dataset.clips:
        asked = set(dataset.labels)
        yield from clip_features.scan_clips(dataset.clips, checkpoint, settings.device, place)
        dataset, seen = clip_features.load_clip_features(dataset, checkpoint, settings.device, place)
        lost = sorted(asked - set(dataset.labels))
        remarks += [f"no clip of {label} could be read: it is left out" for label in lost]
    own = {content_key(os.fsencode(clip.path)) for clip in dataset.clips}
    rejected = empty_features(checkpoint.spec.sizes.feature_dim)
    if said:
        seen = concatenate(seen, said.seen) if dataset.clips else said.seen
        clips = (*dataset.clips, *said.clips)
        dataset = Dataset(clips, tuple(sorted({clip.label for clip in clips})), dataset.remarks)
        rejected = said.rejected
        remarks += said.remarks
    if not dataset.clips:
        raise DatasetError("none of the clips could be read")
    found = negatives.known_negatives(
        library, checkpoint, dataset.labels, own, most=_MOST_NEGATIVES, seed=settings.seed
    )
    others: list[OwnedWindow] = []
    if settings.network is not None or not len(found.values):
        others = negatives.windows_to_decode(
            library, dataset.labels, own, most=_MOST_DECODED, seed=settings.seed
        )
    if not len(found.values):
        found = yield from window_features.embed_windows(others, checkpoint, settings.device)
    return _Material(dataset, seen, *_with_rejected(found, rejected), tuple(others), remarks)


def _with_rejected(found: Features, rejected: Features) -> tuple[Features, NDArray[np.float32]]:
    """Other footage and what a person rejected, with the weight of each window: few rejected ones count more."""
    emphasis = np.ones(len(found.values) + len(rejected.values), np.float32)
    if len(rejected.values):
        wanted = _REJECTED_SHARE * len(found.values) / len(rejected.values)
        emphasis[len(found.values) :] = float(np.clip(wanted, 1.0, _MOST_EMPHASIS))
    return concatenate(replace(found, videos=()), rejected), emphasis


def _fit_head(material: _Material, settings: FinetuneSettings) -> tuple[FittedHead, HeadMetrics]:
    """The head, and what heads that had not seen a source say of it."""
    dataset, seen, others = material.dataset, material.seen, material.negatives
    labels, background = dataset.labels, len(dataset.labels)
    truth = np.array([labels.index(clip.label) for clip in dataset.clips])
    sources = [clip.source for clip in dataset.clips]
    count = {label: len({c.source for c in dataset.clips if c.label == label}) for label in labels}
    few = [label for label in labels if count[label] < 2]
    if few:
        material.remarks.append(
            f"{', '.join(few)}: clips of one source alone, so nothing can be said of new videos"
        )
    clip_fold = folds(sources, truth.tolist(), _FOLDS, seed=settings.seed)
    rng = np.random.default_rng(settings.seed)
    other_fold = rng.integers(0, _FOLDS, int(others.owner.max(initial=0)) + 1)
    fitted = fit_head(
        np.concatenate([seen.values, others.values]),
        np.concatenate([truth[seen.owner], np.full(len(others.values), background)]),
        np.concatenate([clip_fold[seen.owner], other_fold[others.owner]]),
        background + bool(len(others.values)),
        background=background if len(others.values) else None,
        emphasis=np.concatenate([np.ones(len(seen.values), np.float32), material.emphasis]),
    )
    own, other = fitted.held_out_scores[: len(seen.values)], fitted.held_out_scores[len(seen.values) :]
    judged = np.array([count[clip.label] >= 2 for clip in dataset.clips])
    verdict = measure_head(
        labels, truth, sources, judged, seen.owner, own, others, other, per_hour=settings.per_hour
    )
    return fitted, verdict


def _save_network(
    new: NewModel, of_head: HeadMetrics, folder: Path, material: _Material, settings: FinetuneSettings
) -> FinetuneResult:
    """Write the trained model with its history and pictures; the state of its training goes."""
    remarks = [*material.remarks, *new.remarks]
    if new.best_epoch:
        remarks.append(f"epoch {new.best_epoch} of {len(new.history)} was the best and is kept")
    if of_head.accuracy is not None:
        remarks.append(
            f"the head alone, on the backbone as it was: {100 * of_head.accuracy:.0f} % right in five folds"
        )
    taught = _taught(folder, new.verdict, new.others, remarks)
    spec = replace(new.checkpoint.spec, label_thresholds=new.verdict.thresholds)
    files = {HISTORY_FILE: history_csv(new.history), CURVES_FILE: curves_png(new.history)}
    if new.verdict.confusion.any():
        files[CONFUSION_FILE] = confusion_png(material.dataset.labels, new.verdict.confusion)
    told = _told(taught, material.dataset, settings, best_epoch=new.best_epoch)
    save_model_folder(Checkpoint(spec, new.checkpoint.tensors), folder, told=told, files=files)
    discard_state(folder)
    return taught


def _checkpoint(
    base: Checkpoint, labels: Sequence[str], fitted: FittedHead, verdict: HeadMetrics, name: str
) -> Checkpoint:
    if len(fitted.bias) > len(labels):
        labels = (*labels, NONE_OF_THESE)
    spec = replace(
        base.spec,
        name=name,
        sizes=replace(base.spec.sizes, num_classes=len(labels)),
        labels=tuple(labels),
        threshold=None,
        label_thresholds=verdict.thresholds,
        merged_from={},
        source=f"{TAUGHT}{base.spec.name}",
        sha256="",
        head_hash="",
    )
    head = {"head.weight": fitted.weight, "head.bias": fitted.bias}
    return Checkpoint(spec, {**base.tensors, **head}, base.onnx)


def _taught(folder: Path, verdict: HeadMetrics, others: Features, remarks: Sequence[str]) -> FinetuneResult:
    return FinetuneResult(
        folder,
        verdict.labels,
        verdict.accuracy,
        others.hours,
        verdict.false_per_hour,
        tuple(remarks),
        tuple(map(tuple, verdict.confusion.tolist())),
    )


def _told(
    taught: FinetuneResult, dataset: Dataset, settings: FinetuneSettings, **learned: float
) -> dict[str, Any]:
    """What model.json says of how the model came to be."""
    names = sorted(f"{clip.label}\0{clip.path.name}\0{clip.source}\0{clip.span_ms}" for clip in dataset.clips)
    return {
        "settings": {**asdict(settings), **learned},
        "data": {
            "clips": len(dataset.clips),
            "sources": len({clip.source for clip in dataset.clips}),
            "fingerprint": hashlib.sha256(json.dumps(names).encode("utf-8", "surrogateescape")).hexdigest(),
        },
        "metrics": {
            "accuracy_unseen_sources": taught.accuracy,
            "false_moments_per_hour": taught.false_per_hour,
            "negative_hours": taught.negative_hours,
            "labels": {label: asdict(labels) for label, labels in taught.labels.items()},
            "confusion": taught.confusion,
        },
    }


def _nothing(from_library: bool) -> str:
    if from_library:
        return (
            "the library holds no word of yours to learn from: `vtag tag add` and `vtag tag confirm` say some"
        )
    return "there is no clip to learn from: put the clips of each tag into a folder of its name"
