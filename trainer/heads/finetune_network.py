"""Trains the network itself for a person's tags: from a head that was fitted first to a new model that is judged."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.backends.torch_backend import choose_device, choose_precision, keep_large_buffers
from vtag.engine.checkpoints.checkpoint import Checkpoint, identified
from vtag.engine.checkpoints.safe_open import said_of
from vtag.engine.errors import ModelError
from vtag.engine.library.analysis.segments import probabilities
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.video.read.sampling import Sampling
from vtag.trainer.data.augment import Augmentation, mention_sides
from vtag.trainer.data.clip_source import ClipSource, LabelledVideo, default_cache_bytes
from vtag.trainer.data.dataset import Dataset
from vtag.trainer.data.features import Features
from vtag.trainer.data.split import validation_mask
from vtag.trainer.evaluation.head_metrics import HeadMetrics, measure_head
from vtag.trainer.heads import window_features
from vtag.trainer.heads.window_features import OwnedWindow, WindowsDone
from vtag.trainer.loop.loop import LoopSettings, TrainEvent, Training, TrainingDone, TrainingResumed
from vtag.trainer.loop.network import Network, TrainablePart, build_network
from vtag.trainer.loop.state_paths import STATE_FILE
from vtag.trainer.loop.training_state import EpochMetrics
from vtag.trainer.loop.validate import Validator, make_validator

BACKGROUND_SHARE = 0.25  # of an epoch's clips
_FOR_CALIBRATION = 0.4  # of the videos without the labels
_OTHERS_FILE = "others.json"  # what was drawn stays: a library may grow while a training rests
_SMALL_CARD_BYTES = 12 << 30  # below that activations are computed twice
_PATIENCE = 10  # epochs


@dataclass(frozen=True)
class NetworkSettings:
    """How to train the network."""

    part: TrainablePart = "all"
    epochs: int = 30
    batch_size: int = 8
    lr: float = 1e-3  # of the head; the backbone's is a tenth, as in the official recipe
    amp: bool = True
    colour: float = 0.2
    mixup: float = 0.0
    label_smoothing: float = 0.1
    drop_path: float = 0.1
    head_dropout: float = 0.2


@dataclass(frozen=True)
class Examples:
    """What the network learns from: clips with the windows of them, and windows of other footage."""

    dataset: Dataset
    windows: NDArray[np.int64]  # [W, 2] start_ms, end_ms
    owner: NDArray[np.int64]  # [W], the clip of each
    others: tuple[OwnedWindow, ...]

    @property
    def truth(self) -> NDArray[np.int64]:
        """The label of each clip, by its place."""
        return np.array([self.dataset.labels.index(clip.label) for clip in self.dataset.clips])

    def items(self, which: NDArray[np.bool_]) -> list[LabelledVideo]:
        """What is trained on of some clips [N]: the file, or the windows where a person said from when to when."""
        truth, found = self.truth, []
        for number in np.flatnonzero(which):
            clip, label = self.dataset.clips[number], int(truth[number])
            starts = self.windows[self.owner == number, 0] if clip.span_ms else [None]
            found += [LabelledVideo(clip.path, label, None if s is None else int(s)) for s in starts]
        return found

    def owned(self, which: NDArray[np.bool_]) -> list[OwnedWindow]:
        """All windows of some clips [N]."""
        truth, clips = self.truth, self.dataset.clips
        return [
            (LabelledVideo(clips[n].path, int(truth[n]), int(start)), int(n))
            for (start, _), n in zip(self.windows, self.owner, strict=True)
            if which[n]
        ]


@dataclass(frozen=True)
class NewModel:
    """A trained model, what was found of it, and how it came to be."""

    checkpoint: Checkpoint
    verdict: HeadMetrics
    others: Features  # what its thresholds were set on
    history: tuple[EpochMetrics, ...]
    best_epoch: int
    remarks: tuple[str, ...]


Steps = Generator[TrainEvent | TrainingResumed | WindowsDone, None, NewModel]


def train_backbone(
    examples: Examples,
    start: Checkpoint,
    settings: NetworkSettings,
    *,
    device: str,
    seed: int,
    per_hour: float,
    folder: Path,
    resume: bool,
) -> Steps:
    """Train `start`, the base under the head that was fitted, and judge it; returns the new model.

    The state of the training lies in `folder`; closing the generator while it trains keeps it. Raises ModelError
    where a state is there and `resume` was not asked for.
    """
    if (folder / STATE_FILE).exists() and not resume:
        raise ModelError(
            f"{folder.name} is an unfinished training: --resume goes on with it; or delete {folder}"
        )
    clips = examples.dataset.clips
    held = validation_mask([clip.source for clip in clips], examples.truth.tolist(), seed=seed)
    others = _kept_others(examples.others, folder, len(examples.dataset.labels))
    calibrates = _calibrates(others, seed)
    learns = [item for (item, _), spared in zip(others, calibrates, strict=True) if not spared]
    train = examples.items(~held) + learns
    remarks = []
    if not held.any():
        remarks.append(
            "too few sources for a validation part: the last epoch is taken, and nothing was measured"
        )
    with ExitStack() as stack:
        training, network = _training(
            stack,
            train,
            examples.items(held),
            len(learns),
            start,
            settings,
            examples.dataset,
            device,
            seed,
            folder,
        )
        if resume and training.resume():
            yield TrainingResumed(training.history)
        elif resume:
            remarks.append("there was nothing to resume: the training began anew")
        trained = yield from _run(training)
    checkpoint = identified(start.spec, network.swin.arrays())
    judged = held if held.any() else np.ones(len(clips), bool)
    own = yield from window_features.embed_windows(examples.owned(judged), checkpoint, device)
    calibration = [pair for pair, spared in zip(others, calibrates, strict=True) if spared]
    unlike = yield from window_features.embed_windows(calibration, checkpoint, device)
    verdict = measure_head(
        examples.dataset.labels,
        examples.truth,
        [clip.source for clip in clips],
        held,
        own.owner,
        _scores(own, checkpoint),
        unlike,
        _scores(unlike, checkpoint),
        per_hour=per_hour,
    )
    return NewModel(checkpoint, verdict, unlike, trained.history, trained.best_epoch, tuple(remarks))


def _training(
    stack: ExitStack,
    train: list[LabelledVideo],
    held: list[LabelledVideo],
    background: int,
    start: Checkpoint,
    settings: NetworkSettings,
    dataset: Dataset,
    device: str,
    seed: int,
    folder: Path,
) -> tuple[Training, Network]:
    """The training of the items, with what it reads open on `stack`."""
    spec, where = start.spec, choose_device(device)
    bf16 = settings.amp and choose_precision("auto", where) == "bf16"
    if where.type == "cpu":
        keep_large_buffers()
    small = where.type == "cuda" and torch.cuda.get_device_properties(where).total_memory < _SMALL_CARD_BYTES
    network = build_network(
        start,
        start.tensors["head.weight"],
        start.tensors["head.bias"],
        part=settings.part,
        drop_path=settings.drop_path,
        head_dropout=settings.head_dropout,
        recompute=small,
    )
    loop = _loop_settings(settings, len(train), background, dataset.labels, bf16, where, seed)
    source = stack.enter_context(ClipSource(train, _sampling(start, "full")))
    validate: Validator | None = None
    if held:
        looked = stack.enter_context(
            ClipSource(held, _sampling(start, "center"), cache_bytes=default_cache_bytes() // 4)
        )
        validate = make_validator(
            looked, mean=spec.mean, std=spec.std, device=where, bf16=bf16, clips_at_once=loop.clips_at_once
        )
    training = Training(
        network,
        source,
        loop,
        folder=folder,
        fingerprint=_fingerprint(start, dataset, settings, seed),
        size=spec.crop,
        mean=spec.mean,
        std=spec.std,
        device=where,
        validate=validate,
    )
    return training, network


def _run(training: Training) -> Generator[TrainEvent, None, TrainingDone]:
    run = training.run()
    try:
        for event in run:
            yield event
            if isinstance(event, TrainingDone):
                return event
    except torch.OutOfMemoryError as error:
        raise ModelError(
            "the device's memory does not suffice for this: use a smaller --batch-size"
        ) from error
    finally:
        run.close()
    raise AssertionError("a training ends with its history")


def _loop_settings(
    settings: NetworkSettings,
    items: int,
    background: int,
    labels: Sequence[str],
    bf16: bool,
    device: torch.device,
    seed: int,
) -> LoopSettings:
    share = BACKGROUND_SHARE if background else 0.0
    shares = tuple([(1 - share) / len(labels)] * len(labels)) + ((share,) if background else ())
    return LoopSettings(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        clips_at_once=min(settings.batch_size, batch_size(device.type, "train")),
        lr=settings.lr,
        warmup_epochs=min(2.5, settings.epochs / 10),
        label_smoothing=settings.label_smoothing,
        bf16=bf16,
        patience=_PATIENCE,
        seed=seed,
        shares=shares,
        epoch_clips=max(1, round((items - background) / (1 - share))),
        augmentation=Augmentation(
            flip=0.0 if mention_sides(labels) else 0.5, colour=settings.colour, mixup=settings.mixup
        ),
    )


def _sampling(start: Checkpoint, view: str) -> Sampling:
    spec = start.spec
    return Sampling.create(spec.frames, spec.rate, view=view, short_side=spec.short_side, crop=spec.crop)


def _scores(seen: Features, model: Checkpoint) -> NDArray[np.float64]:
    halves = np.clip(seen.values, -65504, 65504).astype(np.float16)[:, None]  # as a library keeps them
    return probabilities(halves, model.tensors["head.weight"], model.tensors["head.bias"])


def _calibrates(others: Sequence[OwnedWindow], seed: int) -> NDArray[np.bool_]:
    """Which windows of other footage set the thresholds instead of being learned from: whole videos."""
    videos = sorted({video for _, video in others})
    count = round(_FOR_CALIBRATION * len(videos))
    chosen = set(np.random.default_rng((seed, 1)).permutation(videos)[:count].tolist())
    return np.array([video in chosen for _, video in others], bool)


def _kept_others(others: Sequence[OwnedWindow], folder: Path, label: int) -> list[OwnedWindow]:
    """The windows that an unfinished training in `folder` began with, else `others`, which are written down."""
    file = folder / _OTHERS_FILE
    with said_of(folder):
        if (folder / STATE_FILE).exists() and file.is_file():
            try:
                told = json.loads(file.read_bytes())
                return [
                    (LabelledVideo(Path(os.fsdecode(bytes.fromhex(p))), label, int(s)), int(n))
                    for p, s, n in told
                ]
            except (ValueError, TypeError) as error:
                raise ModelError("a damaged training: delete it to begin anew") from error
        folder.mkdir(parents=True, exist_ok=True)
        told = [[os.fsencode(item.path).hex(), item.start_ms, number] for item, number in others]
        write_atomically(file, json.dumps(told).encode())
    return list(others)


def _fingerprint(start: Checkpoint, dataset: Dataset, settings: NetworkSettings, seed: int) -> str:
    """Of all that the loss history follows from, the other footage apart, which is kept."""
    clips = [f"{clip.label}\0{clip.source}\0{clip.path.name}\0{clip.span_ms}" for clip in dataset.clips]
    told = json.dumps([start.spec.backbone_hash, clips, asdict(settings), seed])
    return hashlib.sha256(told.encode("utf-8", "surrogateescape")).hexdigest()
