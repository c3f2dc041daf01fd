"""The training loop: a generator of small frozen events that can be closed after any of them and resumed.

A resumed training is bit-identical, because randomness depends only on the seed and the position (epoch, step, clip).
The state therefore holds the weights, the optimiser's moments and sums, but no random generator.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
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
_BEST, _MODEL = "best", "model"  # first words of the names of tensors in the state


class RandomStream(IntEnum):
    """The purpose of a random stream; the numbers are part of its seed, so they must not change."""

    CLIP_POSITION = 1
    DROPOUT = 2
    TRANSFORM = 3
    MIXUP = 4


@dataclass(frozen=True)
class LoopSettings:
    """How to train."""

    epochs: int = 20
    batch_size: int = 16  # clips of an optimiser step, over all processes and accumulated parts
    clips_at_once: int = 4  # in one forward pass of one process
    lr: float = 1e-3  # of the head
    backbone_lr_scale: float = 0.1  # the backbone's learning rate as a share of the head's
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    warmup_epochs: float = 1.0
    warmup_ratio: float = 0.1  # of the learning rate, at the first step
    min_lr: float = 0.0
    label_smoothing: float = 0.1
    bf16: bool = False  # compute in bfloat16
    validate_every: int = 1  # epochs; the last epoch is always validated
    patience: int = 0  # stop after so many validations without a new best; 0: never
    seed: int = 0
    shares: tuple[float, ...] | None = None  # of each class in an epoch; None: every clip once
    epoch_clips: int | None = None  # clips that an epoch draws by `shares`; None: as many as there are
    augmentation: Augmentation = field(default_factory=Augmentation)


@dataclass(frozen=True)
class StepDone:
    """A part of a step is done. `loss` and `accuracy` are means over the epoch so far."""

    epoch: int  # from 1
    epochs: int
    step: int  # finished steps of the epoch
    steps: int
    clips: int  # processed since this run began
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochDone:
    """An epoch is over and validated."""

    epochs: int
    row: EpochMetrics
    best: bool  # so far
    best_row: EpochMetrics | None = None  # the best epoch so far


@dataclass(frozen=True)
class TrainingDone:
    """The training is over. The network has the weights of the best epoch, or of the last if none was validated."""

    history: tuple[EpochMetrics, ...]
    best_epoch: int  # from 1; 0: none was validated


@dataclass(frozen=True)
class TrainingResumed:
    """An interrupted training continues; `history` has the finished epochs."""

    history: tuple[EpochMetrics, ...]


TrainEvent = StepDone | EpochDone | TrainingDone


class Training:
    """One training of `network` on the clips of `source`.

    Args:
        folder: where the state is saved.
        fingerprint: identifies clips and settings; a state with another fingerprint is refused.
        size: side of the crop in pixels.
        mean: of each colour channel, for pixels from 0 to 255; `std` likewise.
        validate: measures loss and accuracy of the network after an epoch; without it the last epoch is used.

    Raises:
        ValueError: if the processes cannot share a batch evenly.
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
        self._clips = 0  # processed by this process

    @property
    def history(self) -> tuple[EpochMetrics, ...]:
        """All finished epochs, including those before an interruption."""
        return tuple(self._progress.history)

    @property
    def is_between_epochs(self) -> bool:
        """Whether the weights are those of the end of an epoch."""
        return self._progress.step == 0

    @property
    def best(self) -> dict[str, Tensor]:
        """The weights of the best epoch so far; empty if none was validated."""
        return self._best

    def resume(self) -> bool:
        """Continue from the state in the folder; False if there is none. Raises ModelError."""
        state = load_state(self._folder, fingerprint=self._fingerprint)
        self._distributed.require_same("states of it in its folder", _state_digest(state), self._device)
        if state is None:
            return False
        self._progress, tensors = state
        self._network.swin.load_state_dict(_select_tensors(tensors, _MODEL))
        self._best = _select_tensors(tensors, _BEST)
        restore_optimizer(self._optimizer, self._names, tensors)
        return True

    def run(self) -> Generator[TrainEvent, None, None]:
        """Train to the end. The last finished step is saved if the generator is closed or another process is lost."""
        try:
            while not self._is_over():
                yield from self._run_epoch()
        except (GeneratorExit, ProcessLost):
            self.save()
            raise
        if self._best:
            self._network.swin.load_state_dict(self._best)
        self._network.eval()
        yield TrainingDone(self.history, self._progress.best_epoch)

    def save(self) -> None:
        """Save the state. Raises ModelError if it cannot be written."""
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

    def _run_epoch(self) -> Iterator[TrainEvent]:
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
        rank, world_size = self._distributed.rank, self._distributed.world_size
        batches = [items_of_rank(items, rank, world_size) for items in order[p.step :]]
        requests = [
            self._request_clip(int(item), p.step + i, position)
            for i, items in enumerate(batches)
            for position, item in enumerate(items)
        ]
        pixels = self._source.read(requests)
        for items in batches:
            yield from self._run_step(items, pixels, len(order))
        yield self._end_epoch(len(order))
        # now that the caller has written what it makes of the epoch
        if self._progress.over or time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()

    def _request_clip(self, item: int, step: int, position: int) -> ClipRequest:
        """The clip of `item`, at a random position in its video, for `position` in this process's part of a batch."""
        epoch = self._progress.epoch
        rng = self._rng(RandomStream.CLIP_POSITION, epoch, step, self._batch_position(position))
        return ClipRequest(item, int(rng.integers(self._source.positions)))

    def _run_step(
        self, items: NDArray[np.int64], pixels: Iterator[Pixels | None], steps: int
    ) -> Iterator[TrainEvent]:
        """One optimiser step, a few clips at a time; its loss is the mean over the whole batch."""
        s, p = self._settings, self._progress
        loss = right = clips = 0.0
        for first in range(0, len(items), s.clips_at_once):
            part = items[first : first + s.clips_at_once]
            sums = self._forward_backward([next(pixels) for _ in part], part, first)
            if sums is not None:
                loss, right, clips = loss + sums[0], right + sums[1], clips + sums[2]
            self._clips += len(part)
            if first + len(part) < len(items):
                yield self._step_event(steps, loss, right, clips)
        loss, right, clips = self._distributed.all_reduce_sum((loss, right, clips), self._device)
        self._update_weights(steps)
        p.loss, p.right, p.clips = p.loss + loss, p.right + right, p.clips + clips
        p.step += 1
        if time.monotonic() - self._saved_at > _SAVE_EVERY_S:
            self.save()
        yield self._step_event(steps, 0.0, 0.0, 0.0)

    def _forward_backward(
        self, pixels: list[Pixels | None], items: NDArray[np.int64], first: int
    ) -> tuple[float, float, int] | None:
        """Add the gradients of a few clips, which begin at `first` in this process's part of the batch.

        Returns the sum of their losses, how many were right, and how many could be read; None if none could.
        """
        s, p = self._settings, self._progress
        seed = (p.epoch, p.step, first, self._distributed.rank)
        torch.manual_seed(int(self._rng(RandomStream.DROPOUT, *seed).integers(1 << 62)))
        clips, targets = [], []
        for n, (array, item) in enumerate(zip(pixels, items, strict=True)):
            if array is not None:
                clips.append(self._augment(array, first + n))
                targets.append(self._labels[int(item)])
        if not clips:
            return None
        truth = torch.tensor(targets, device=self._device)
        shares = F.one_hot(truth, self._network.swin.sizes.num_classes).float()
        rng = self._rng(RandomStream.MIXUP, *seed)
        mixed, shares = mix_clips(torch.stack(clips), shares, s.augmentation.mixup, rng)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=s.bf16):
            logits = self._network((mixed - self._mean) / self._std)
        losses = F.cross_entropy(logits, shares, label_smoothing=s.label_smoothing, reduction="sum")
        (losses / s.batch_size).backward()
        right = (logits.detach().argmax(1) == truth).sum()
        return float(losses.detach()), float(right), len(clips)

    def _augment(self, pixels: Pixels, position: int) -> Tensor:
        """A clip [T, H, W, 3] with a random transform, float32 [T, size, size, 3]."""
        p = self._progress
        rng = self._rng(RandomStream.TRANSFORM, p.epoch, p.step, self._batch_position(position))
        transform = draw_transform(rng, pixels.shape[1], pixels.shape[2], self._settings.augmentation)
        return apply_transform(torch.from_numpy(pixels).to(self._device), transform, self._size)

    def _update_weights(self, steps: int) -> None:
        p = self._progress
        rate = self._learning_rate(p.epoch * steps + p.step, steps)
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group["scale"]
        self._distributed.all_reduce_gradients(self._network.parameters())
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)

    def _learning_rate(self, step: int, steps: int) -> float:
        """The learning rate of the head at `step` of the training, if an epoch has `steps`."""
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
        s, p = self._settings, self._progress
        is_due = (p.epoch + 1) % s.validate_every == 0 or p.epoch + 1 == s.epochs
        loss, accuracy = self._validate(self._network) if self._validate and is_due else (None, None)
        clips = max(p.clips, 1)
        rate = self._learning_rate((p.epoch + 1) * steps - 1, steps)
        row = EpochMetrics(p.epoch + 1, rate, p.loss / clips, p.right / clips, loss, accuracy)
        is_best = accuracy is not None and all(_quality(row) > _quality(earlier) for earlier in p.history)
        if is_best:
            self._best = {n: t.detach().cpu().clone() for n, t in self._network.swin.state_dict().items()}
        self._progress = TrainingProgress(
            epoch=p.epoch + 1,
            best_epoch=row.epoch if is_best else p.best_epoch,
            stale=0 if is_best else p.stale + (accuracy is not None),
            history=[*p.history, row],
        )
        self._progress.over = self._is_over()
        best_row = next((r for r in self._progress.history if r.epoch == self._progress.best_epoch), None)
        return EpochDone(s.epochs, row, is_best, best_row)

    def _step_event(self, steps: int, loss: float, right: float, clips: float) -> StepDone:
        """The event for sums of the current step that are not in the progress yet."""
        p = self._progress
        epoch_clips = max(p.clips + clips, 1)
        return StepDone(
            epoch=p.epoch + 1,
            epochs=self._settings.epochs,
            step=p.step,
            steps=steps,
            clips=self._clips * self._distributed.world_size,
            loss=(p.loss + loss) / epoch_clips,
            accuracy=(p.right + right) / epoch_clips,
        )

    def _batch_position(self, position: int) -> int:
        """The position in the whole batch of a position in this process's part of it.

        Seeds use it so that clips are cut and changed alike for every number of processes.
        """
        return self._distributed.rank + self._distributed.world_size * position

    def _rng(self, stream: RandomStream, *position: int) -> np.random.Generator:
        return np.random.default_rng((self._settings.seed, int(stream), *position))


def _state_digest(state: tuple[TrainingProgress, dict[str, Tensor]] | None) -> int:
    return 0 if state is None else 1 + state[0].epoch * (1 << 20) + state[0].step


def _quality(row: EpochMetrics) -> tuple[float, float]:
    """The sort key of the best epoch: the highest accuracy, then the lowest loss."""
    return (row.val_accuracy or 0.0, -(row.val_loss or 0.0))


def _select_tensors(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """The tensors of the state that are saved as `KIND NAME`, by name."""
    return {key.partition(" ")[2]: t for key, t in tensors.items() if key.startswith(f"{kind} ")}
