"""A training by a recipe: data, network and loop out of one file, and what lies beside the result."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from vtag.engine.backends.torch_backend import choose_device, choose_precision, keep_large_buffers
from vtag.engine.checkpoints.checkpoint import Checkpoint, identified
from vtag.engine.checkpoints.inflate import inflate
from vtag.engine.checkpoints.model_folder import save_model_folder
from vtag.engine.checkpoints.safe_open import said_of
from vtag.engine.errors import ModelError
from vtag.engine.models.image_models import is_image_file
from vtag.engine.models.registry import load_model, locate_model
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.weight_names import is_head
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path, printable
from vtag.trainer.data.augment import Augmentation, mention_sides
from vtag.trainer.data.clip_source import ClipSource, FrameStepSampling, LabelledVideo
from vtag.trainer.data.dataset import Dataset, DatasetError, LabelledClip, label_from_name, read_dataset
from vtag.trainer.evaluation.report import CURVES_FILE, HISTORY_FILE, curves_png, history_csv
from vtag.trainer.loop.distributed import DistributedContext
from vtag.trainer.loop.loop import EpochDone, LoopSettings, TrainEvent, Training, TrainingDone
from vtag.trainer.loop.network import Network, build_network, random_checkpoint
from vtag.trainer.loop.state_paths import STATE_FILE
from vtag.trainer.loop.tensorboard import TensorBoardWriter
from vtag.trainer.loop.training_state import EpochMetrics, is_finished
from vtag.trainer.loop.validate import Validator, make_validator
from vtag.trainer.network.config import Config

BEST, LAST, STATE = "best", "last", "state"  # below the result's folder
_HEAD_STD = 0.01  # of a new head's weights, as in the published I3D head
_VALIDATION_CACHE_BYTES = 256 << 20
_ORIGINAL_RATE = (
    30.0  # frames a second of the data set's videos: what `interval` means for a scan of other videos
)


@dataclass(frozen=True)
class RecipeStarted:
    """What is about to be trained, on what."""

    labels: int
    train: int
    val: int
    device: str
    bf16: bool
    processes: int
    resumed: bool
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class RecipeDone:
    """The result's folder; in it `best` is the model of the best validation, `last` that of the last epoch."""

    folder: Path
    best_epoch: int  # from 1; 0: nothing was validated
    best_accuracy: float | None


def train(
    config: Config, *, resume: bool = False, distributed: DistributedContext = DistributedContext()
) -> Generator[RecipeStarted | TrainEvent | RecipeDone, None, None]:
    """Train by `config`; yields Begun, the loop's events, then Ended. All of `ranks` call it with the same recipe.

    After every epoch the first process writes the model (`last`, and `best` where it is the best yet) and the
    history. Raises VtagError where the recipe, the data or the machine do not allow it.
    """
    folder = result_folder(config)
    if (folder / STATE / STATE_FILE).exists() and not resume:
        what = (
            f"a finished training: give this one another folder (--set run.out=…), or delete its {STATE}"
            if is_finished(folder / STATE)
            else f"an unfinished training: --resume goes on with it; or delete its {STATE}"
        )
        raise ModelError(f"{display_path(folder)} holds {what}")
    prepared = prepare(config, distributed)
    distributed.require_same("clips or recipes", int(prepared.fingerprint[:7], 16), prepared.device)
    with ExitStack() as stack:
        training = _training(stack, prepared, folder / STATE)
        resumed = resume and training.resume()
        distributed.broadcast(prepared.network.state_dict().values())
        yield _begun(prepared, resumed)
        writer = _Writer(folder, prepared) if distributed.rank == 0 else None
        run = stack.enter_context(closing(training.run()))
        for event in run:
            if writer and isinstance(event, EpochDone):
                writer.keep(event, training.history)
            yield event
            if isinstance(event, TrainingDone):
                best = next((row for row in event.history if row.epoch == event.best_epoch), None)
                yield RecipeDone(folder, event.best_epoch, best.val_accuracy if best else None)


@dataclass(frozen=True)
class Prepared:
    """All that a training needs, read and checked."""

    config: Config
    distributed: DistributedContext
    dataset: Dataset
    val: Dataset | None
    spec: ModelSpec
    network: Network
    device: torch.device
    bf16: bool
    fingerprint: str


def prepare(config: Config, distributed: DistributedContext = DistributedContext()) -> Prepared:
    """Read the data and build the network that `config` names. Raises VtagError."""
    dataset, labels = training_data(config)
    val = validation_data(config, labels)
    device = choose_device(config.run.device)
    if device.type == "cuda" and distributed.world_size > 1:
        device = torch.device("cuda", distributed.local_rank)
    if device.type == "cpu":
        keep_large_buffers()
    base = starting_point(config, labels)
    network = build_network(
        base,
        base.tensors["head.weight"],
        base.tensors["head.bias"],
        drop_path=config.model.drop_path,
        head_dropout=config.model.head_dropout,
        recompute=config.optim.checkpointing,
    )
    bf16 = config.run.amp and choose_precision("auto", device) == "bf16"
    told = _fingerprint(config, dataset)
    return Prepared(config, distributed, dataset, val, base.spec, network, device, bf16, told)


def _begun(p: Prepared, resumed: bool) -> RecipeStarted:
    remarks = (*p.dataset.remarks, *(p.val.remarks if p.val else ()))
    return RecipeStarted(
        labels=len(p.spec.labels),
        train=len(p.dataset.clips),
        val=len(p.val.clips) if p.val else 0,
        device=str(p.device),
        bf16=p.bf16,
        processes=p.distributed.world_size,
        resumed=resumed,
        remarks=remarks,
    )


def result_folder(config: Config) -> Path:
    """Where the result goes: `run.out`, else a folder of the model's name beside the recipe."""
    return config.path(config.run.out or config.model.name)


def training_data(config: Config) -> tuple[Dataset, tuple[str, ...]]:
    """The clips to learn from, and all labels in the order of the classes. Raises DatasetError."""
    dataset = read_dataset(config.path(config.data.train), root=_root(config))
    if not dataset.clips:
        raise DatasetError(
            f"there is no clip to learn from in {display_path(config.path(config.data.train))}"
        )
    named = label_names(config)
    if named:
        return _named(dataset, named), named
    if any(clip.index is not None for clip in dataset.clips):
        raise DatasetError("the list has indices for labels: name them with data.labels (one name a line)")
    if len(dataset.labels) < 2:
        raise DatasetError("there is one class alone: add clips of another")
    return dataset, dataset.labels


def validation_data(config: Config, labels: tuple[str, ...]) -> Dataset | None:
    """The clips to validate on, with the same labels; None where the recipe names none. Raises DatasetError."""
    if not config.data.val:
        return None
    dataset = read_dataset(config.path(config.data.val), root=_root(config))
    dataset = _named(dataset, labels)
    if not dataset.clips:
        raise DatasetError(f"there is no clip to validate on in {display_path(config.path(config.data.val))}")
    return dataset


def label_names(config: Config) -> tuple[str, ...]:
    """The names in the file of labels, `labels.txt` beside the list where none is told; empty where there is none."""
    told = config.data.labels
    file = config.path(told) if told else config.path(config.data.train).parent / "labels.txt"
    if not told and (not file.is_file() or config.path(config.data.train).is_dir()):
        return ()
    try:
        names = [
            label_from_name(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"the labels in {display_path(file)} cannot be read") from error
    return tuple(names)


def starting_point(config: Config, labels: tuple[str, ...]) -> Checkpoint:
    """The network before training: an inflated image model, a video model's backbone, or random; with a new head."""
    sizes = config.model.sizes(len(labels))
    data, model = config.data, config.model
    spec = ModelSpec(
        name=model.name,
        sizes=sizes,
        labels=labels,
        frames=data.frames,
        rate=_ORIGINAL_RATE / data.interval,
        short_side=data.short_side,
        crop=data.crop,
        mean=_three(model.mean),
        std=_three(model.std),
    )
    base = random_checkpoint(spec, seed=config.run.seed)
    rng = np.random.default_rng((config.run.seed, 0x4EAD))
    head = {
        "head.weight": (_HEAD_STD * rng.normal(size=(len(labels), sizes.feature_dim))).astype(np.float32),
        "head.bias": np.zeros(len(labels), np.float32),
    }
    source, backbone = _backbone(config)
    told = replace(base.spec, source=source)
    return identified(told, {**base.tensors, **backbone, **head})


def _backbone(config: Config) -> tuple[str, dict[str, np.ndarray]]:
    """What the network starts from, in words, and its tensors but the head's."""
    model = config.model
    if not model.init:
        return "trained by vtag train from random weights", {}
    own = config.path(model.init)
    path = locate_model(own if own.exists() else model.init)
    source = f"trained by vtag train from {printable(Path(model.init).name)}"
    sizes = model.sizes(2)
    if _is_image(path):
        found = inflate(path, window_size=sizes.window_size, patch_size=sizes.patch_size)
        start, tensors = found.sizes, dict(found.tensors)
    else:
        checkpoint = load_model(own if own.exists() else model.init)
        start, tensors = checkpoint.spec.sizes, dict(checkpoint.tensors)
    if replace(start, num_classes=2) != sizes:
        raise ModelError(f"[model]: {display_path(path)} is of other sizes than the recipe: {start}")
    return source, {name: array for name, array in tensors.items() if not is_head(name)}


def _is_image(path: Path) -> bool:
    return path.is_file() and is_image_file(path)


def loop_settings(config: Config, labels: Sequence[str], *, bf16: bool) -> LoopSettings:
    """What the loop is told by a recipe."""
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
            flip=0.0 if mention_sides(labels) else data.flip,
            colour=data.colour,
            mixup=data.mixup,
        ),
    )


def _training(stack: ExitStack, p: Prepared, state: Path) -> Training:
    """The loop over what was prepared, with what it reads open on `stack`."""
    data, optim, labels = p.config.data, p.config.optim, p.spec.labels
    cut = FrameStepSampling(data.frames, data.interval, data.short_side)
    source = stack.enter_context(ClipSource(_items(p.dataset, labels), cut))
    validate: Validator | None = None
    if p.val:
        centre = replace(cut, crop=data.crop)
        looked = ClipSource(_items(p.val, labels), centre, cache_bytes=_VALIDATION_CACHE_BYTES, positions=1)
        validate = make_validator(
            stack.enter_context(looked),
            mean=p.spec.mean,
            std=p.spec.std,
            device=p.device,
            bf16=p.bf16,
            clips_at_once=optim.clips_at_once,
            distributed=p.distributed,
        )
    return Training(
        p.network,
        source,
        loop_settings(p.config, labels, bf16=p.bf16),
        folder=state,
        fingerprint=p.fingerprint,
        size=data.crop,
        mean=p.spec.mean,
        std=p.spec.std,
        device=p.device,
        validate=validate,
        distributed=p.distributed,
    )


class _Writer:
    """Keeps what lies beside the result: models, history, curves, the recipe and the machine."""

    def __init__(self, folder: Path, prepared: Prepared) -> None:
        self._folder = folder
        self._prepared = prepared
        self._scalars = TensorBoardWriter(folder) if prepared.config.run.tensorboard else None
        self._write("config.json", json.dumps(prepared.config.to_json(), indent=1).encode())
        told = {
            "vtag": version("vtag"),
            "torch": torch.__version__,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": str(prepared.device),
            "processes": prepared.distributed.world_size,
            "clips": len(prepared.dataset.clips),
            "data": _data_digest(prepared.dataset),
        }
        self._write("environment.json", json.dumps(told, indent=1).encode())

    def keep(self, done: EpochDone, history: Sequence[EpochMetrics]) -> None:
        """Write the epoch's model and the history so far."""
        checkpoint = identified(self._prepared.spec, self._prepared.network.swin.arrays())
        save_model_folder(checkpoint, self._folder / LAST)
        if done.best:
            save_model_folder(checkpoint, self._folder / BEST)
        self._write(HISTORY_FILE, history_csv(history))
        self._write(CURVES_FILE, curves_png(history))
        if self._scalars:
            self._scalars.add_epoch(done.row)

    def _write(self, name: str, content: bytes) -> None:
        with said_of(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._folder / name, content)


def _root(config: Config) -> Path | None:
    return config.path(config.data.root) if config.data.root else None


def _named(dataset: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The same with the labels' own names; indices count, and case does not. Raises DatasetError."""
    known = {label.casefold(): label for label in labels}
    clips: list[LabelledClip] = []
    for clip in dataset.clips:
        if clip.index is not None and clip.index < len(labels):
            label = labels[clip.index]
        elif clip.index is None and label_from_name(clip.label).casefold() in known:
            label = known[label_from_name(clip.label).casefold()]
        else:
            raise DatasetError(
                f"{display_path(clip.path)} has a label that is not known: {printable(clip.label)}"
            )
        clips.append(replace(clip, label=label))
    return replace(dataset, clips=tuple(clips), labels=labels)


def _items(dataset: Dataset, labels: tuple[str, ...]) -> list[LabelledVideo]:
    index = {label: i for i, label in enumerate(labels)}
    return [LabelledVideo(clip.path, index[clip.label]) for clip in dataset.clips]


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]


def _fingerprint(config: Config, dataset: Dataset) -> str:
    """Of all that the loss history follows from; where it runs and where the result goes are not in it."""
    told = config.to_json()
    for key in ("out", "device", "tensorboard"):
        del told["run"][key]
    return hashlib.sha256(json.dumps([told, _data_digest(dataset)]).encode()).hexdigest()


def _data_digest(dataset: Dataset) -> str:
    names = sorted(f"{clip.label}\0{clip.path.name}" for clip in dataset.clips)
    return hashlib.sha256(json.dumps(names).encode("utf-8", "surrogateescape")).hexdigest()
