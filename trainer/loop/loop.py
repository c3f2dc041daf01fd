"""The training loop: a generator of small frozen events that can be left after any of them and resumed to the bit.

Everything random follows from the seed and the place in the training (epoch, step, clip), never from what came
before: the state holds weights, the optimiser's moments and sums, and no random generator.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.data.augment import Augmentation, apply_transform, draw_transform, mix_clips
from vtag.trainer.data.clip_source import ClipRequest, ClipSource, Pixels
from vtag.trainer.data.sampler import epoch_order, items_of_rank
from vtag.trainer.loop.distributed import DistributedContext, ProcessLost
from vtag.trainer.loop.network import Network, parameter_groups
from vtag.trainer.loop.schedule import learning_rate
from vtag.trainer.loop.training_state import (
    EpochMetrics,
    TrainingProgress,
    load_state,
    optimizer_tensors,
    restore_optimizer,
    save_state,
)
from vtag.trainer.loop.validate import Validator

_SAVE_EVERY_S = 60.0
_BEST, _MODEL = "best", "model"


@dataclass(frozen=True)
class LoopSettings:
    """How to train. `batch_size` is of one optimiser step, over all processes and accumulated parts."""

    epochs: int = 20
    batch_size: int = 16
    clips_at_once: int = 4
    lr: float = 1e-3  # of the head
    backbone_lr_scale: float = 0.1
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = 1.0
    warmup_ratio: float = 0.1
    min_lr: float = 0.0
    label_smoothing: float = 0.1
    bf16: bool = False  # compute in bfloat16
    validate_every: int = 1  # epochs; the last one is always validated
    patience: int = 0  # epochs without a better validation after which it stops; 0: never
    seed: int = 0
    shares: tuple[float, ...] | None = None  # of the classes in an epoch; None: every clip once
    epoch_clips: int | None = None  # with shares: how many clips an epoch draws; None: as many as there are
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class StepDone:
    """A part of a step is done; `loss` and `accuracy` are means over the epoch so far."""

    epoch: int  # from 1
    epochs: int
    step: int  # steps of the epoch that are done
    steps: int
    clips: int  # looked at since this run began
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over and validated."""

    epochs: int
    row: EpochMetrics
    best: bool
    best_row: EpochMetrics | None = None  # of the best epoch so far


@dataclass(frozen=True)
class TrainingDone:
    """The end: the network holds the best epoch's weights, the last one's where nothing was validated."""

    history: tuple[EpochMetrics, ...]
    best_epoch: int  # from 1; 0: none was validated


@dataclass(frozen=True)
class TrainingResumed:
    """A training that was left goes on; `history` are the epochs that were over."""

    history: tuple[EpochMetrics, ...]


TrainEvent = StepDone | EpochDone | TrainingDone


class Training:
    """One training of `network` on the clips of `source`.

    Its state lies in `folder` and is of `fingerprint` alone. `mean` and `std` are of pixels 0 to 255; `size` is the
    crop in pixels. `validate` gives loss and accuracy of a network; without it the last epoch counts.
    """

    def __init__(
        self,
        network: Network,
        source: ClipSource,
        settings: LoopSettings,
        *,
        folder: Path,
        fingerprint: str,
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: torch.device,
        validate: Validator | None = None,
        distributed: DistributedContext = DistributedContext(),
    ) -> None:
        if settings.batch_size % distributed.world_size:
            raise ValueError(
                f"a batch of {settings.batch_size} cannot be shared by {distributed.world_size} processes"
            )
        self._network = network.to(device)
        self._source = source
        self._settings = settings
        self._folder = folder
        self._fingerprint = fingerprint
        self._size = size
        self._device = device
        self._validate = validate
        self._distributed = distributed
        self._mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self._std = torch.tensor(std, dtype=torch.float32, device=device)
        groups = parameter_groups(
            network, backbone_lr_scale=settings.backbone_lr_scale, weight_decay=settings.weight_decay
        )
        self._optimizer = torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas)
        self._names: dict[Tensor, str] = {p: name for name, p in network.swin.named_parameters()}
        self._labels = [item.label for item in source.items]
        self._progress = TrainingProgress()
        self._best: dict[str, Tensor] = {}
        self._saved_at = time.monotonic()
        self._clips = 0

    @property
    def history(self) -> tuple[EpochMetrics, ...]:
        """Every epoch that is over, those before a resumption included."""
        return tuple(self._progress.history)

    def resume(self) -> bool:
        """Go on from the state in the folder; False where there is none. Raises ModelError."""
        state = load_state(self._folder, fingerprint=self._fingerprint)
        self._distributed.require_same("states of it in its folder", _digest(state), self._device)
        if state is None:
            return False
        self._progress, tensors = state
        self._network.swin.load_state_dict(_named(tensors, _MODEL))
        self._best = _named(tensors, _BEST)
        restore_optimizer(self._optimizer, self._names, tensors)
        return True

    def run(self) -> Generator[TrainEvent, None, None]:
        """Train to the end. Closing the generator, and the loss of another process, keep the last whole step."""
        try:
            while not self._is_over():
                yield from self._epoch()
        except (GeneratorExit, ProcessLost):
            self.save()
            raise
        if self._best:
            self._network.swin.load_state_dict(self._best)
        self._network.eval()
        yield TrainingDone(self.history, self._progress.best_epoch)

    def save(self) -> None:
        """Keep the state. Raises ModelError where the disk does not take it."""
        if self._distributed.rank:
            return
        tensors = {f"{_MODEL} {name}": t for name, t in self._network.swin.state_dict().items()}
        tensors |= {f"{_BEST} {name}": t for name, t in self._best.items()}
        tensors |= optimizer_tensors(self._optimizer, self._names)
        save_state(self._folder, self._progress, tensors, fingerprint=self._fingerprint)
        self._saved_at = time.monotonic()

    def _is_over(self) -> bool:
        s, p = self._settings, self._progress
        return p.epoch >= s.epochs or bool(s.patience and p.stale >= s.patience)

    def _epoch(self) -> Iterator[TrainEvent]:
        s, p = self._settings, self._progress
        order = epoch_order(
            self._labels,
            seed=s.seed,
            epoch=p.epoch,
            batch_size=s.batch_size,
            shares=s.shares,
            length=s.epoch_clips,
        )
        self._network.train()
        own = [
            items_of_rank(items, self._distributed.rank, self._distributed.world_size)
            for items in order[p.step :]
        ]
        wants = [
            self._want(int(item), p.epoch, p.step + i, n)
            for i, k in enumerate(own)
            for n, item in enumerate(k)
        ]
        pixels = self._source.read(wants)
        for items in own:
            yield from self._step(items, pixels, len(order))
        yield self._end_epoch(len(order))

    def _want(self, item: int, epoch: int, step: int, position: int) -> ClipRequest:
        rng = self._rng(1, epoch, step, self._place(position))
        return ClipRequest(item, int(rng.integers(self._source.positions)))

    def _step(
        self, items: NDArray[np.int64], pixels: Iterator[Pixels | None], steps: int
    ) -> Iterator[TrainEvent]:
        """One optimiser step, a few clips at a time; its loss is the mean over the whole batch."""
        s, p = self._settings, self._progress
        loss = right = clips = 0.0
        for first in range(0, len(items), s.clips_at_once):
            part = items[first : first + s.clips_at_once]
            seen = self._look([next(pixels) for _ in part], part, first)
            if seen is not None:
                loss, right, clips = loss + seen[0], right + seen[1], clips + seen[2]
            self._clips += len(part)
            if first + len(part) < len(items):
                yield self._stepped(steps, loss, right, clips)
        loss, right, clips = self._distributed.all_reduce_sum((loss, right, clips), self._device)
        self._update(steps)
        p.loss, p.right, p.clips = p.loss + loss, p.right + right, p.clips + clips
        p.step += 1
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()
        yield self._stepped(steps, 0.0, 0.0, 0.0)

    def _look(
        self, pixels: list[Pixels | None], items: NDArray[np.int64], first: int
    ) -> tuple[float, float, int] | None:
        """Forward and backward of a few clips: their losses' sum, how many were right, how many could be read."""
        s, p = self._settings, self._progress
        place = (p.epoch, p.step, first, self._distributed.rank)
        torch.manual_seed(int(self._rng(2, *place).integers(1 << 62)))  # what is dropped in the network
        clips, targets = [], []
        for n, (array, item) in enumerate(zip(pixels, items, strict=True)):
            if array is not None:
                rng = self._rng(3, p.epoch, p.step, self._place(first + n))
                change = draw_transform(rng, array.shape[1], array.shape[2], s.augmentation)
                clips.append(apply_transform(torch.from_numpy(array).to(self._device), change, self._size))
                targets.append(self._labels[int(item)])
        if not clips:
            return None
        truth = torch.tensor(targets, device=self._device)
        classes = self._network.swin.sizes.num_classes
        shares = F.one_hot(truth, classes).float()
        mixed, shares = mix_clips(torch.stack(clips), shares, s.augmentation.mixup, self._rng(4, *place))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=s.bf16):
            logits = self._network((mixed - self._mean) / self._std)
        losses = F.cross_entropy(logits, shares, label_smoothing=s.label_smoothing, reduction="sum")
        (losses / s.batch_size).backward()
        right = (logits.detach().argmax(1) == truth).sum()
        return float(losses.detach()), float(right), len(clips)

    def _update(self, steps: int) -> None:
        p = self._progress
        rate = self._rate(p.epoch * steps + p.step, steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self._distributed.all_reduce_gradients(self._network.parameters())
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _rate(self, step: int, steps: int) -> float:
        s = self._settings
        return learning_rate(
            step,
            s.epochs * steps,
            peak=s.lr,
            warmup=s.warmup_epochs * steps,
            ratio=s.warmup_ratio,
            floor=s.min_lr,
        )

    def _end_epoch(self, steps: int) -> EpochDone:
        p = self._progress
        s = self._settings
        due = (p.epoch + 1) % s.validate_every == 0 or p.epoch + 1 == s.epochs
        loss, accuracy = self._validate(self._network) if self._validate and due else (None, None)
        clips = max(p.clips, 1)
        rate = self._rate((p.epoch + 1) * steps - 1, steps)
        row = EpochMetrics(p.epoch + 1, rate, p.loss / clips, p.right / clips, loss, accuracy)
        is_best = accuracy is not None and all(_key(row) > _key(known) for known in p.history)
        if is_best:
            self._best = {n: t.detach().cpu().clone() for n, t in self._network.swin.state_dict().items()}
        self._progress = TrainingProgress(
            epoch=p.epoch + 1,
            best_epoch=row.epoch if is_best else p.best_epoch,
            stale=0 if is_best else p.stale + (accuracy is not None),
            history=[*p.history, row],
        )
        self._progress.over = self._is_over()
        if self._progress.over or time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()
        best_row = next((r for r in self._progress.history if r.epoch == self._progress.best_epoch), None)
        return EpochDone(self._settings.epochs, row, is_best, best_row)

    def _stepped(self, steps: int, loss: float, right: float, clips: float) -> StepDone:
        p = self._progress
        seen = max(p.clips + clips, 1)
        return StepDone(
            epoch=p.epoch + 1,
            epochs=self._settings.epochs,
            step=p.step,
            steps=steps,
            clips=self._clips * self._distributed.world_size,
            loss=(p.loss + loss) / seen,
            accuracy=(p.right + right) / seen,
        )

    def _place(self, position: int) -> int:
        """The place in the whole batch of a place in this process's part: chance is the same for any number."""
        return self._distributed.rank + self._distributed.world_size * position

    def _rng(self, *place: int) -> np.random.Generator:
        return np.random.default_rng((self._settings.seed, *place))


def _digest(state: tuple[TrainingProgress, dict[str, Tensor]] | None) -> int:
    return 0 if state is None else 1 + state[0].epoch * (1 << 20) + state[0].step


def _key(row: EpochMetrics) -> tuple[float, float]:
    """What makes an epoch the better one: accuracy, and where that is equal the loss."""
    return (row.val_accuracy or 0.0, -(row.val_loss or 0.0))


def _named(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    return {key.partition(" ")[2]: t for key, t in tensors.items() if key.startswith(f"{kind} ")}
