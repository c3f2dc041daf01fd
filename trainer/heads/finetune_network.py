"""Fine-tunes a whole network for new labels, starting from a fitted head, and measures the result."""

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
from vtag.engine.checkpoints.checkpoint import Checkpoint, with_hashes
from vtag.engine.checkpoints.safe_open import prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.library.analysis.segments import probabilities
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.video.read.sampling import Sampling
from vtag.trainer.data.augment import Augmentation, flip_probability
from vtag.trainer.data.clip_source import ClipSource, LabelledVideo, default_cache_bytes
from vtag.trainer.data.dataset import Dataset
from vtag.trainer.data.features import Features
from vtag.trainer.data.split import validation_mask
from vtag.trainer.evaluation.head_metrics import ClipScores, HeadMetrics, measure_head
from vtag.trainer.heads import window_features
from vtag.trainer.heads.window_features import OwnedWindow, WindowsDone
from vtag.trainer.loop.loop import LoopSettings, TrainEvent, Training, TrainingDone, TrainingResumed
from vtag.trainer.loop.network import Network, TrainablePart, build_network
from vtag.trainer.loop.setup import choose_training_device, make_training
from vtag.trainer.loop.state_paths import STATE_FILE
from vtag.trainer.loop.training_state import EpochMetrics

_BACKGROUND_SHARE = 0.25  # clips of other footage in an epoch
_CALIBRATION_SHARE = 0.4  # of the videos of other footage; they set the thresholds and are not trained on
_NEGATIVES_FILE = "others.json"  # the chosen windows: the library may grow before a training is resumed
_SMALL_CARD_BYTES = 12 << 30  # cards with less memory recompute activations
_PATIENCE = 10  # validations without a new best


@dataclass(frozen=True)
class NetworkSettings:
    """How to train the network. The names are keys in model.json."""

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
class NetworkExamples:
    """The examples for a network: clips with their windows, and windows of other footage."""

    dataset: Dataset
    windows: NDArray[np.int64]  # [W, 2] start_ms, end_ms
    owner: NDArray[np.int64]  # [W], the clip of each window
    negatives: tuple[OwnedWindow, ...]

    @property
    def truth(self) -> NDArray[np.int64]:
        """The label index of each clip [N]."""
        return np.array([self.dataset.labels.index(clip.label) for clip in self.dataset.clips])

    def videos(self, is_chosen: NDArray[np.bool_]) -> list[LabelledVideo]:
        """What is trained on for the chosen clips [N]: each file, or the windows of an annotated part of it."""
        truth, videos = self.truth, []
        for number in np.flatnonzero(is_chosen):
            clip, label = self.dataset.clips[number], int(truth[number])
            starts = self.windows[self.owner == number, 0] if clip.span_ms else [None]
            videos += [LabelledVideo(clip.path, label, None if s is None else int(s)) for s in starts]
        return videos

    def owned_windows(self, is_chosen: NDArray[np.bool_]) -> list[OwnedWindow]:
        """All windows of the chosen clips [N]."""
        truth, clips = self.truth, self.dataset.clips
        return [
            (LabelledVideo(clips[n].path, int(truth[n]), int(start)), int(n))
            for (start, _), n in zip(self.windows, self.owner, strict=True)
            if is_chosen[n]
        ]


@dataclass(frozen=True)
class TrainedNetwork:
    """A trained network with its metrics and history."""

    checkpoint: Checkpoint
    metrics: HeadMetrics
    negatives: Features  # that set its thresholds
    history: tuple[EpochMetrics, ...]
    best_epoch: int  # from 1; 0: none was validated
    remarks: tuple[str, ...]


_Steps = Generator[TrainEvent | TrainingResumed | WindowsDone, None, TrainedNetwork]


def train_network(
    examples: NetworkExamples,
    start: Checkpoint,
    settings: NetworkSettings,
    *,
    device: str,
    seed: int,
    per_hour: float,
    folder: Path,
    resume: bool,
) -> _Steps:
    """Train and measure a network; yields events and returns the new model.

    Args:
        examples: clips and other footage.
        start: the base with the fitted head.
        settings: how to train.
        device: auto, cpu, cuda or mps.
        seed: of the split and of everything random.
        per_hour: the accepted number of false moments an hour.
        folder: of the training's state, which stays if the generator is closed while it trains.
        resume: continue from that state.

    Raises:
        ModelError: if there is a state and `resume` is not set, or if the state cannot be used or written.
    """
    if (folder / STATE_FILE).exists() and not resume:
        raise ModelError(
            f"{folder.name} is an unfinished training: --resume goes on with it; or delete {folder}"
        )
    clips = examples.dataset.clips
    is_validation = validation_mask([clip.source for clip in clips], examples.truth.tolist(), seed=seed)
    negatives = _load_or_save_negatives(examples.negatives, folder, len(examples.dataset.labels))
    calibrates = _calibration_mask(negatives, seed)
    background = [video for (video, _), chosen in zip(negatives, calibrates, strict=True) if not chosen]
    remarks = []
    if not is_validation.any():
        remarks.append(
            "too few sources for a validation part: the last epoch is taken, and nothing was measured"
        )
    with ExitStack() as stack:
        training, network = _set_up(
            stack, examples, is_validation, background, start, settings, device, seed, folder
        )
        if resume and training.resume():
            yield TrainingResumed(training.history)
        elif resume:
            remarks.append("there was nothing to resume: the training began anew")
        done = yield from _run(training)
    checkpoint = with_hashes(start.spec, network.swin.arrays())
    calibration = [window for window, chosen in zip(negatives, calibrates, strict=True) if chosen]
    metrics, unlike = yield from _measure(examples, is_validation, calibration, checkpoint, device, per_hour)
    return TrainedNetwork(checkpoint, metrics, unlike, done.history, done.best_epoch, tuple(remarks))


def _set_up(
    stack: ExitStack,
    examples: NetworkExamples,
    is_validation: NDArray[np.bool_],
    background: list[LabelledVideo],
    start: Checkpoint,
    settings: NetworkSettings,
    device_name: str,
    seed: int,
    folder: Path,
) -> tuple[Training, Network]:
    """The training and its network; `stack` closes what reads the clips."""
    device, bf16 = choose_training_device(device_name, amp=settings.amp)
    network = build_network(
        start,
        start.tensors["head.weight"],
        start.tensors["head.bias"],
        part=settings.part,
        drop_path=settings.drop_path,
        head_dropout=settings.head_dropout,
        recompute=_is_small_card(device),
    )
    videos = examples.videos(~is_validation)
    source = stack.enter_context(ClipSource(videos + background, _sampling(start, "full")))
    validation_source = None
    if is_validation.any():
        validation_source = stack.enter_context(
            ClipSource(
                examples.videos(is_validation),
                _sampling(start, "center"),
                cache_bytes=default_cache_bytes() // 4,
            )
        )
    labels = examples.dataset.labels
    training = make_training(
        network,
        _loop_settings(settings, len(videos), len(background), labels, bf16, device, seed),
        start.spec,
        source,
        validation_source,
        device=device,
        folder=folder,
        fingerprint=_fingerprint(start, examples.dataset, settings, seed),
    )
    return training, network


def _is_small_card(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_properties(device).total_memory < _SMALL_CARD_BYTES


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


def _measure(
    examples: NetworkExamples,
    is_validation: NDArray[np.bool_],
    calibration: Sequence[OwnedWindow],
    checkpoint: Checkpoint,
    device: str,
    per_hour: float,
) -> Generator[WindowsDone, None, tuple[HeadMetrics, Features]]:
    """The metrics of a trained network, and the features of the `calibration` windows, which set its thresholds.

    Without validation clips all clips take part, but count for no metric.
    """
    clips = examples.dataset.clips
    is_scored = is_validation if is_validation.any() else np.ones(len(clips), bool)
    features = yield from window_features.embed_windows(examples.owned_windows(is_scored), checkpoint, device)
    negatives = yield from window_features.embed_windows(calibration, checkpoint, device)
    scores = ClipScores(
        examples.dataset.labels,
        examples.truth,
        [clip.source for clip in clips],
        is_validation,
        features.owner,
        _scores(features, checkpoint),
    )
    return measure_head(scores, negatives, _scores(negatives, checkpoint), per_hour=per_hour), negatives


def _loop_settings(
    settings: NetworkSettings,
    clips: int,
    background: int,
    labels: Sequence[str],
    bf16: bool,
    device: torch.device,
    seed: int,
) -> LoopSettings:
    """Settings under which all labels occur equally often in an epoch, which is as long as there are `clips`."""
    share = _BACKGROUND_SHARE if background else 0.0
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
        epoch_clips=max(1, round(clips / (1 - share))),
        augmentation=Augmentation(
            flip=flip_probability(labels, 0.5), colour=settings.colour, mixup=settings.mixup
        ),
    )


def _sampling(start: Checkpoint, view: str) -> Sampling:
    spec = start.spec
    return Sampling.create(spec.frames, spec.rate, view=view, short_side=spec.short_side, crop=spec.crop)


def _scores(features: Features, model: Checkpoint) -> NDArray[np.float64]:
    """Probabilities of windows, from features rounded to float16 as in a library."""
    rounded = np.clip(features.values, -65504, 65504).astype(np.float16)[:, None]
    return probabilities(rounded, model.tensors["head.weight"], model.tensors["head.bias"])


def _calibration_mask(negatives: Sequence[OwnedWindow], seed: int) -> NDArray[np.bool_]:
    """Which windows of other footage set the thresholds instead of being trained on: those of whole videos."""
    videos = sorted({video for _, video in negatives})
    count = round(_CALIBRATION_SHARE * len(videos))
    chosen = set(np.random.default_rng((seed, 1)).permutation(videos)[:count].tolist())
    return np.array([video in chosen for _, video in negatives], bool)


def _load_or_save_negatives(negatives: Sequence[OwnedWindow], folder: Path, label: int) -> list[OwnedWindow]:
    """The windows of other footage that an unfinished training in `folder` started with; else saves `negatives`."""
    file = folder / _NEGATIVES_FILE
    with prefix_errors(folder):
        if (folder / STATE_FILE).exists() and file.is_file():
            try:
                rows = json.loads(file.read_bytes())
                return [
                    (LabelledVideo(Path(os.fsdecode(bytes.fromhex(path))), label, int(start)), int(video))
                    for path, start, video in rows
                ]
            except (ValueError, TypeError) as error:
                raise ModelError("a damaged training: delete it to begin anew") from error
        folder.mkdir(parents=True, exist_ok=True)
        rows = [[os.fsencode(video.path).hex(), video.start_ms, number] for video, number in negatives]
        write_atomically(file, json.dumps(rows).encode())
    return list(negatives)


def _fingerprint(start: Checkpoint, dataset: Dataset, settings: NetworkSettings, seed: int) -> str:
    """Hash of everything that the history depends on, except the other footage, which is saved with the state."""
    clips = [f"{clip.label}\0{clip.source}\0{clip.path.name}\0{clip.span_ms}" for clip in dataset.clips]
    inputs = json.dumps([start.spec.backbone_hash, clips, asdict(settings), seed])
    return hashlib.sha256(inputs.encode("utf-8", "surrogateescape")).hexdigest()
