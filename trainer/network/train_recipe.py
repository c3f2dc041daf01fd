"""A training by a recipe: data, network and loop as the recipe says, and the files of its result."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import with_hashes
from vtag.engine.checkpoints.model_folder import save_model_folder
from vtag.engine.checkpoints.safe_open import prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.swin.config import ModelSpec
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path
from vtag.trainer.data.augment import Augmentation, flip_probability
from vtag.trainer.data.clip_source import ClipSource, FrameStepSampling
from vtag.trainer.data.dataset import Dataset
from vtag.trainer.evaluation.report import CURVES_FILE, HISTORY_FILE, curves_png, history_csv
from vtag.trainer.loop.distributed import DistributedContext
from vtag.trainer.loop.loop import EpochDone, LoopSettings, TrainEvent, Training, TrainingDone
from vtag.trainer.loop.network import Network, build_network
from vtag.trainer.loop.setup import choose_training_device, make_training
from vtag.trainer.loop.state_paths import STATE_FILE
from vtag.trainer.loop.tensorboard import TensorBoardWriter
from vtag.trainer.loop.training_state import EpochMetrics, is_finished
from vtag.trainer.network.config import Config
from vtag.trainer.network.initial_model import initial_checkpoint
from vtag.trainer.network.recipe_data import (
    dataset_digest,
    labelled_videos,
    read_training_data,
    read_validation_data,
)

BEST, LAST, STATE = "best", "last", "state"  # folders below that of the result
_VALIDATION_CACHE_BYTES = 256 << 20


@dataclass(frozen=True)
class RecipeStarted:
    """A training by a recipe begins; numbers of classes and clips, and how it computes."""

    classes: int
    training_clips: int
    validation_clips: int
    device: str
    bf16: bool
    processes: int
    resumed: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class RecipeDone:
    """A training by a recipe is over. `folder` has the models `best` (by validation) and `last` (last epoch)."""

    folder: Path
    best_epoch: int  # from 1; 0: none was validated
    best_accuracy: float | None


def train(
    config: Config, *, resume: bool = False, distributed: DistributedContext = DistributedContext()
) -> Generator[RecipeStarted | TrainEvent | RecipeDone, None, None]:
    """Train by `config`; yields RecipeStarted, the loop's events, then RecipeDone.

    After every epoch the first process writes the history and the model, as `last`, and as `best` if it is the best
    so far.

    Args:
        config: the recipe.
        resume: continue from the state in the result's folder.
        distributed: the processes that train together; all of them call this with the same recipe.

    Raises:
        VtagError: if the recipe, the data or the machine do not allow the training, or if there is already a
            training in the folder that is not to be resumed.
    """
    folder = result_folder(config)
    if (folder / STATE / STATE_FILE).exists() and not resume:
        problem = (
            f"a finished training: give this one another folder (--set run.out=…), or delete its {STATE}"
            if is_finished(folder / STATE)
            else f"an unfinished training: --resume goes on with it; or delete its {STATE}"
        )
        raise ModelError(f"{display_path(folder)} holds {problem}")
    prepared = prepare(config, distributed)
    distributed.require_same("clips or recipes", int(prepared.fingerprint[:7], 16), prepared.device)
    with ExitStack() as stack:
        training = _open_training(stack, prepared, folder / STATE)
        resumed = resume and training.resume()
        distributed.broadcast(prepared.network.state_dict().values())
        yield _started_event(prepared, resumed)
        writer = _ResultWriter(folder, prepared) if distributed.rank == 0 else None
        if writer and resumed:
            writer.write_missing(training)
        run = stack.enter_context(closing(training.run()))
        for event in run:
            if writer and isinstance(event, EpochDone):
                writer.write_epoch(event, training.history)
            yield event
            if isinstance(event, TrainingDone):
                best = next((row for row in event.history if row.epoch == event.best_epoch), None)
                yield RecipeDone(folder, event.best_epoch, best.val_accuracy if best else None)


@dataclass(frozen=True)
class PreparedTraining:
    """The data and the network of a recipe, read and checked."""

    config: Config
    distributed: DistributedContext
    dataset: Dataset
    validation: Dataset | None
    spec: ModelSpec
    network: Network
    device: torch.device
    bf16: bool
    fingerprint: str


def prepare(config: Config, distributed: DistributedContext = DistributedContext()) -> PreparedTraining:
    """Read the data and build the network of a recipe. Raises VtagError."""
    dataset, labels = read_training_data(config)
    validation = read_validation_data(config, labels)
    device, bf16 = choose_training_device(config.run.device, amp=config.run.amp, distributed=distributed)
    base = initial_checkpoint(config, labels)
    network = build_network(
        base,
        base.tensors["head.weight"],
        base.tensors["head.bias"],
        drop_path=config.model.drop_path,
        head_dropout=config.model.head_dropout,
        recompute=config.optim.checkpointing,
    )
    fingerprint = _fingerprint(config, dataset)
    return PreparedTraining(
        config, distributed, dataset, validation, base.spec, network, device, bf16, fingerprint
    )


def _started_event(prepared: PreparedTraining, resumed: bool) -> RecipeStarted:
    dataset, validation = prepared.dataset, prepared.validation
    return RecipeStarted(
        classes=len(prepared.spec.labels),
        training_clips=len(dataset.clips),
        validation_clips=len(validation.clips) if validation else 0,
        device=str(prepared.device),
        bf16=prepared.bf16,
        processes=prepared.distributed.world_size,
        resumed=resumed,
        remarks=(*dataset.remarks, *(validation.remarks if validation else ())),
    )


def result_folder(config: Config) -> Path:
    """The folder of the result: `run.out`, by default a folder beside the recipe with the model's name."""
    return config.path(config.run.out or config.model.name)


def loop_settings(config: Config, labels: Sequence[str], *, bf16: bool) -> LoopSettings:
    """The settings of the loop for a recipe."""
    optim, data = config.optim, config.data
    return LoopSettings(
        epochs=optim.epochs,
        batch_size=optim.batch_size,
        clips_at_once=optim.clips_at_once,
        lr=optim.lr,
        backbone_lr_scale=optim.backbone_lr_scale,
        weight_decay=optim.weight_decay,
        betas=(optim.betas[0], optim.betas[1]),
        warmup_epochs=optim.warmup_epochs,
        warmup_ratio=optim.warmup_ratio,
        min_lr=optim.min_lr,
        label_smoothing=data.label_smoothing,
        bf16=bf16,
        validate_every=config.run.validate_every,
        seed=config.run.seed,
        augmentation=Augmentation(
            area=(data.area[0], data.area[1]),
            aspect=(data.aspect[0], data.aspect[1]),
            flip=flip_probability(labels, data.flip),
            colour=data.colour,
            mixup=data.mixup,
        ),
    )


def _open_training(stack: ExitStack, prepared: PreparedTraining, state_folder: Path) -> Training:
    """The training of what was prepared; `stack` closes what reads the clips."""
    data, labels = prepared.config.data, prepared.spec.labels
    sampling = FrameStepSampling(data.frames, data.interval, data.short_side)
    source = stack.enter_context(ClipSource(labelled_videos(prepared.dataset, labels), sampling))
    validation_source = None
    if prepared.validation:
        validation_source = stack.enter_context(
            ClipSource(
                labelled_videos(prepared.validation, labels),
                replace(sampling, crop=data.crop),
                cache_bytes=_VALIDATION_CACHE_BYTES,
                positions=1,
            )
        )
    return make_training(
        prepared.network,
        loop_settings(prepared.config, labels, bf16=prepared.bf16),
        prepared.spec,
        source,
        validation_source,
        device=prepared.device,
        folder=state_folder,
        fingerprint=prepared.fingerprint,
        distributed=prepared.distributed,
    )


class _ResultWriter:
    """Writes the files of a result: models, history, curves, the recipe, and what it ran on."""

    def __init__(self, folder: Path, prepared: PreparedTraining) -> None:
        self._folder = folder
        self._prepared = prepared
        self._tensorboard = TensorBoardWriter(folder) if prepared.config.run.tensorboard else None
        self._write("config.json", json.dumps(prepared.config.to_json(), indent=1).encode())
        environment = {
            "vtag": version("vtag"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(prepared.device),
            "processes": prepared.distributed.world_size,
            "clips": len(prepared.dataset.clips),
            "data": dataset_digest(prepared.dataset),
        }
        self._write("environment.json", json.dumps(environment, indent=1).encode())

    def write_epoch(self, event: EpochDone, history: Sequence[EpochMetrics]) -> None:
        """Write the model after an epoch, and the history so far."""
        arrays = self._prepared.network.swin.arrays()
        self._save_model(LAST, arrays)
        if event.best:
            self._save_model(BEST, arrays)
        self._write_history(history)
        if self._tensorboard:
            self._tensorboard.add_epoch(event.row)

    def write_missing(self, training: Training) -> None:
        """Write what an epoch of a resumed state should have left: the disk may have been full after it."""
        file = self._folder / HISTORY_FILE
        if not training.history or (file.exists() and file.read_bytes() == history_csv(training.history)):
            return
        if training.is_between_epochs:
            self._save_model(LAST, self._prepared.network.swin.arrays())
        if training.best:
            self._save_model(BEST, {name: tensor.float().numpy() for name, tensor in training.best.items()})
        self._write_history(training.history)

    def _save_model(self, name: str, arrays: Mapping[str, NDArray[np.float32]]) -> None:
        save_model_folder(with_hashes(self._prepared.spec, arrays), self._folder / name)

    def _write_history(self, history: Sequence[EpochMetrics]) -> None:
        self._write(HISTORY_FILE, history_csv(history))
        self._write(CURVES_FILE, curves_png(history))

    def _write(self, name: str, content: bytes) -> None:
        with prefix_errors(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / name, content)


def _fingerprint(config: Config, dataset: Dataset) -> str:
    """Hash of everything that the history depends on; the device and the result's folder are not part of it."""
    recipe = config.to_json()
    for key in ("out", "device", "tensorboard"):
        del recipe["run"][key]
    return hashlib.sha256(json.dumps([recipe, dataset_digest(dataset)]).encode()).hexdigest()
