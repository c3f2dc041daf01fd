"""New tags from labelled clips: a linear head on a frozen backbone, or a fine-tuned network."""

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
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import runs
from vtag.engine.library.store.files import content_key
from vtag.engine.scan.events import ScanEvent
from vtag.engine.swin.config import FINETUNED_PREFIX, NONE_OF_THESE
from vtag.trainer.data.dataset import Dataset, DatasetError, folds
from vtag.trainer.data.features import Features, concatenate, empty_features
from vtag.trainer.evaluation.head_metrics import (
    ClipScores,
    FinetuneResult,
    HeadMetrics,
    RejectedScores,
    measure_head,
)
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
from vtag.trainer.heads.finetune_network import (
    NetworkExamples,
    NetworkSettings,
    TrainedNetwork,
    train_network,
)
from vtag.trainer.heads.linear_head import DECAYS, FittedHead, fit_head
from vtag.trainer.heads.run_progress import RunProgress
from vtag.trainer.heads.window_features import OwnedWindow, WindowsDone
from vtag.trainer.loop.loop import TrainEvent, TrainingResumed
from vtag.trainer.loop.state_paths import discard_state, state_folder

_FOLDS = 5  # of the cross-validation
_MAX_NEGATIVES = 20_000  # windows: 60 MB of float32 with Swin-T's 768 features
_MAX_DECODED = 1_000  # windows of other footage, if they have to be decoded
# Weak copies of the examples are "none of these", too: what has little in common with the examples is not the tag.
# docs/finetune.md has what this was measured on.
_WEAK_COPY = 0.6
_REJECTED_SHARE = 0.1  # rejected windows weigh at least this share of other footage: a person checked them
_MAX_EMPHASIS = 50.0


@dataclass(frozen=True)
class FinetuneSettings:
    """How to teach the labels. The names are keys in model.json."""

    per_hour: float = 1.0  # accepted number of false moments an hour, of all labels together
    seed: int = 0
    device: str = "auto"
    network: NetworkSettings | None = None  # None: train only the head
    resume: bool = False


@dataclass(frozen=True)
class FinetuneBase:
    """The model to start from; `source` is its name or path, None if its backbone is in no other model."""

    checkpoint: Checkpoint
    source: str | None


@dataclass
class _TrainingData:
    """The clips and other footage, with features of the base's backbone."""

    dataset: Dataset
    features: Features  # of the clips
    negatives: Features
    emphasis: NDArray[np.float32]  # of each negative window
    rejected_owner: NDArray[
        np.int64
    ]  # the range of each of the last negative windows, which a person rejected
    rejected_labels: tuple[str, ...]  # of these ranges
    decodable: tuple[OwnedWindow, ...] = ()  # windows of other footage for a network, which decodes them
    remarks: list[str] = field(default_factory=list)


FinetuneEvent = ScanEvent | TrainEvent | TrainingResumed | WindowsDone | FinetuneResult
_Steps = Generator[ScanEvent | TrainEvent | TrainingResumed | WindowsDone, None, FinetuneResult]


def finetune(
    dataset: Dataset,
    base: FinetuneBase,
    folder: Path,
    settings: FinetuneSettings,
    *,
    library: LibraryWriter,
    from_library: bool = False,
) -> Generator[FinetuneEvent, None, None]:
    """Teach `base` the labels of `dataset` and write the model to `folder`.

    Yields the events of scanning and training, then the FinetuneResult. Each clip is decoded only once, even over
    several calls. Negatives are windows of `library` without the labels. Closing the generator keeps the state of a
    network's training.

    Args:
        dataset: labelled clips; may be empty with `from_library`.
        base: the model to start from.
        folder: the folder of the new model.
        settings: how to train.
        library: gives negatives, and has the row with the progress of the training.
        from_library: also learn from the annotations in `library`.

    Raises:
        DatasetError: if there are too few clips or labels.
        ModelError: if the folder cannot be written, or there is an unfinished training that is not to be resumed.
    """
    run_id = runs.start(library, "finetune", str(folder))
    state, progress = "failed", RunProgress(library, run_id)
    steps = _teach(dataset, base, folder, settings, library, from_library)
    try:
        with closing(steps):
            while True:
                try:
                    event = next(steps)
                except StopIteration as end:
                    result: FinetuneResult = end.value
                    break
                progress.update(event)
                yield event
        state = "done"
    except (KeyboardInterrupt, GeneratorExit):
        state = "interrupted"
        raise
    finally:
        progress.write()
        runs.finish(library, run_id, state)
    yield result


def _teach(
    dataset: Dataset,
    base: FinetuneBase,
    folder: Path,
    settings: FinetuneSettings,
    library: LibraryWriter,
    from_library: bool,
) -> _Steps:
    annotated = examples_from_annotations(library, base.checkpoint) if from_library else None
    if not dataset.clips and not (annotated and annotated.clips):
        raise DatasetError(_no_examples_message(from_library))
    data = yield from _collect(dataset, base.checkpoint, settings, library, annotated)
    labels = data.dataset.labels
    if not len(data.negatives.values):
        if settings.network is not None and len(labels) < 2:
            raise DatasetError(
                f"a network of one label ({labels[0]}) needs footage that does not show it: scan other videos first "
                "(`vtag scan FOLDER`), or add a folder with another label"
            )
        data.remarks.append(
            "the library holds no other footage, so only what is much like the clips is sure: scan some videos "
            "(`vtag scan FOLDER`) and teach again to know more"
        )
    head, metrics = _fit_head(data, settings)
    checkpoint = _checkpoint(base.checkpoint, labels, head, metrics, folder.name)
    if settings.network is None:
        return _save_head(checkpoint, base, head, metrics, folder, data, settings)
    if not len(data.negatives.values):
        checkpoint = _without_background(checkpoint)  # no clip could teach it
    examples = NetworkExamples(data.dataset, data.features.windows, data.features.owner, data.decodable)
    trained = yield from train_network(
        examples,
        checkpoint,
        settings.network,
        device=settings.device,
        seed=settings.seed,
        per_hour=settings.per_hour,
        folder=state_folder(folder),
        resume=settings.resume,
    )
    return _save_network(trained, metrics, folder, data, settings)


def _collect(
    dataset: Dataset,
    base: Checkpoint,
    settings: FinetuneSettings,
    library: LibraryWriter,
    annotated: AnnotationExamples | None,
) -> Generator[ScanEvent | WindowsDone, None, _TrainingData]:
    """The readable clips with their features, and footage of other things."""
    clips_library = clip_features.clips_library_path()
    features, remarks = empty_features(base.spec.sizes.feature_dim), []
    if dataset.clips:
        labels = set(dataset.labels)
        yield from clip_features.scan_clips(dataset.clips, base, settings.device, clips_library)
        dataset, features = clip_features.load_clip_features(dataset, base, settings.device, clips_library)
        unreadable = sorted(labels - set(dataset.labels))
        remarks += [f"no clip of {label} could be read: it is left out" for label in unreadable]
    clip_keys = {content_key(os.fsencode(clip.path)) for clip in dataset.clips}
    rejected, rejected_labels = empty_features(base.spec.sizes.feature_dim), tuple[str, ...]()
    if annotated:
        features = concatenate(features, annotated.features) if dataset.clips else annotated.features
        clips = (*dataset.clips, *annotated.clips)
        dataset = Dataset(clips, tuple(sorted({clip.label for clip in clips})), dataset.remarks)
        rejected, rejected_labels = annotated.rejected, annotated.rejected_labels
        remarks += annotated.remarks
    if not dataset.clips:
        raise DatasetError("none of the clips could be read")
    seed = settings.seed
    stored = negatives.stored_negatives(
        library, base, dataset.labels, clip_keys, limit=_MAX_NEGATIVES, seed=seed
    )
    decodable: list[OwnedWindow] = []
    if settings.network is not None or not len(stored.values):
        decodable = negatives.windows_to_decode(
            library, dataset.labels, clip_keys, limit=_MAX_DECODED, seed=seed
        )
    if not len(stored.values):
        stored = yield from window_features.embed_windows(decodable, base, settings.device)
    all_negatives, emphasis = _add_rejected(stored, rejected)
    return _TrainingData(
        dataset,
        features,
        all_negatives,
        emphasis,
        rejected.owner,
        rejected_labels,
        tuple(decodable),
        remarks,
    )


def _add_rejected(negatives: Features, rejected: Features) -> tuple[Features, NDArray[np.float32]]:
    """Other footage and rejected windows, and the emphasis of each window: a few rejected ones count more."""
    emphasis = np.ones(len(negatives.values) + len(rejected.values), np.float32)
    if len(rejected.values):
        share = _REJECTED_SHARE * len(negatives.values) / len(rejected.values)
        emphasis[len(negatives.values) :] = float(np.clip(share, 1.0, _MAX_EMPHASIS))
    return concatenate(replace(negatives, videos=()), rejected), emphasis


def _fit_head(data: _TrainingData, settings: FinetuneSettings) -> tuple[FittedHead, HeadMetrics]:
    """The head, and its metrics by cross-validation."""
    dataset, features, footage = data.dataset, data.features, data.negatives
    labels, background = dataset.labels, len(dataset.labels)
    truth = np.array([labels.index(clip.label) for clip in dataset.clips])
    sources = [clip.source for clip in dataset.clips]
    clip_fold = folds(sources, truth.tolist(), _FOLDS, seed=settings.seed)[features.owner]
    rng = np.random.default_rng(settings.seed)
    footage_fold = rng.integers(0, _FOLDS, int(footage.owner.max(initial=0)) + 1)[footage.owner]
    count = len(features.values)
    head = fit_head(
        np.concatenate([features.values, footage.values, _WEAK_COPY * features.values]),
        np.concatenate([truth[features.owner], np.full(len(footage.values) + count, background)]),
        np.concatenate([clip_fold, footage_fold, clip_fold]),
        background + 1,
        background=background,
        emphasis=np.concatenate([np.ones(count, np.float32), data.emphasis, np.ones(count, np.float32)]),
        # without other footage the folds only know the clips, and choose a head that is too sure of itself
        decays=DECAYS if len(footage.values) else DECAYS[:1],
    )
    source_count = {label: len({c.source for c in dataset.clips if c.label == label}) for label in labels}
    single = [label for label in labels if source_count[label] < 2]
    if single:
        data.remarks.append(
            f"{', '.join(single)}: clips of one source alone, so nothing can be said of new videos"
        )
    is_unseen = np.array([source_count[clip.label] >= 2 for clip in dataset.clips])
    clips = ClipScores(
        labels,
        truth,
        sources,
        is_unseen,
        features.owner,
        head.held_out_scores[:count],
        head.scores(features.values),
    )
    return head, _measure_fit(head, clips, data, settings.per_hour)


def _measure_fit(head: FittedHead, clips: ClipScores, data: _TrainingData, per_hour: float) -> HeadMetrics:
    """The metrics of a head on its clips, on other footage, and on what was rejected."""
    footage, first = data.negatives.values, len(data.features.values)
    held_out_scores = head.held_out_scores[first : first + len(footage)]
    rejected = np.zeros((len(data.rejected_labels), len(head.bias)))
    rejected_windows = footage[len(footage) - len(data.rejected_owner) :]
    np.maximum.at(rejected, data.rejected_owner, head.scores(rejected_windows))
    return measure_head(
        clips,
        data.negatives,
        held_out_scores,
        per_hour=per_hour,
        rejected=RejectedScores(data.rejected_labels, rejected),
    )


def _save_head(
    checkpoint: Checkpoint,
    base: FinetuneBase,
    head: FittedHead,
    metrics: HeadMetrics,
    folder: Path,
    data: _TrainingData,
    settings: FinetuneSettings,
) -> FinetuneResult:
    """Write a head, together with its backbone if no other model has it."""
    result = _result(folder, metrics, data.negatives, data.remarks)
    record = _training_record(result, data.dataset, settings, decay=head.decay)
    if base.source is None:
        save_model_folder(checkpoint, folder, extra=record)
    else:
        save_head_folder(checkpoint, folder, base=base.source, extra=record)
    return result


def _save_network(
    trained: TrainedNetwork,
    head_metrics: HeadMetrics,
    folder: Path,
    data: _TrainingData,
    settings: FinetuneSettings,
) -> FinetuneResult:
    """Write a trained network with its history and charts, and delete the state of the training."""
    remarks = [*data.remarks, *trained.remarks]
    if trained.best_epoch:
        remarks.append(f"epoch {trained.best_epoch} of {len(trained.history)} was the best and is kept")
    if head_metrics.accuracy is not None:
        remarks.append(
            f"the head alone, on the backbone as it was: {100 * head_metrics.accuracy:.0f} % right in five folds"
        )
    result = _result(folder, trained.metrics, trained.negatives, remarks)
    spec = replace(trained.checkpoint.spec, label_thresholds=trained.metrics.thresholds)
    files = {HISTORY_FILE: history_csv(trained.history), CURVES_FILE: curves_png(trained.history)}
    if trained.metrics.confusion.any():
        files[CONFUSION_FILE] = confusion_png(data.dataset.labels, trained.metrics.confusion)
    record = _training_record(result, data.dataset, settings, best_epoch=trained.best_epoch)
    save_model_folder(Checkpoint(spec, trained.checkpoint.tensors), folder, extra=record, files=files)
    discard_state(folder)
    return result


def _checkpoint(
    base: Checkpoint, labels: Sequence[str], head: FittedHead, metrics: HeadMetrics, name: str
) -> Checkpoint:
    """The backbone of `base` with the new head, whose last class is "none of these"."""
    spec = replace(
        base.spec,
        name=name,
        sizes=replace(base.spec.sizes, num_classes=len(labels) + 1),
        labels=(*labels, NONE_OF_THESE),
        threshold=None,
        label_thresholds=metrics.thresholds,
        merged_from={},
        source=f"{FINETUNED_PREFIX}{base.spec.name}",
        sha256="",
        head_hash="",
    )
    tensors = {"head.weight": head.weight, "head.bias": head.bias}
    return Checkpoint(spec, {**base.tensors, **tensors}, base.onnx)


def _without_background(model: Checkpoint) -> Checkpoint:
    """The model without its last class."""
    spec, head = model.spec, {name: model.tensors[name][:-1] for name in ("head.weight", "head.bias")}
    sizes = replace(spec.sizes, num_classes=len(spec.labels) - 1)
    return Checkpoint(
        replace(spec, sizes=sizes, labels=spec.labels[:-1]), {**model.tensors, **head}, model.onnx
    )


def _result(
    folder: Path, metrics: HeadMetrics, negatives: Features, remarks: Sequence[str]
) -> FinetuneResult:
    return FinetuneResult(
        folder,
        metrics.labels,
        metrics.accuracy,
        negatives.hours,
        metrics.false_per_hour,
        tuple(remarks),
        tuple(map(tuple, metrics.confusion.tolist())),
    )


def _training_record(
    result: FinetuneResult, dataset: Dataset, settings: FinetuneSettings, **learned: float
) -> dict[str, Any]:
    """The settings, data and metrics of the training, for model.json; `learned` are chosen by the training."""
    names = sorted(f"{clip.label}\0{clip.path.name}\0{clip.source}\0{clip.span_ms}" for clip in dataset.clips)
    return {
        "settings": {**asdict(settings), **learned},
        "data": {
            "clips": len(dataset.clips),
            "sources": len({clip.source for clip in dataset.clips}),
            "fingerprint": hashlib.sha256(json.dumps(names).encode("utf-8", "surrogateescape")).hexdigest(),
        },
        "metrics": {
            "accuracy_unseen_sources": result.accuracy,
            "false_moments_per_hour": result.false_per_hour,
            "negative_hours": result.negative_hours,
            "labels": {label: asdict(metrics) for label, metrics in result.labels.items()},
            "confusion": result.confusion,
        },
    }


def _no_examples_message(from_library: bool) -> str:
    if from_library:
        return "the library has no annotations of yours to learn from: `vtag tag add` and `confirm` make them"
    return "there is no clip to learn from: put the clips of each tag into a folder of its name"
