"""The set-up that all trainings share: device and precision, validation, and the training itself."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from vtag.engine.backends.torch_backend import choose_device, choose_precision, keep_large_buffers
from vtag.engine.swin.config import ModelSpec
from vtag.trainer.data.clip_source import ClipSource
from vtag.trainer.loop.distributed import DistributedContext
from vtag.trainer.loop.loop import LoopSettings, Training
from vtag.trainer.loop.network import Network
from vtag.trainer.loop.validate import make_validator


class TrainingDevice(NamedTuple):
    """The device that trains, and whether it computes in bfloat16."""

    device: torch.device
    bf16: bool


def choose_training_device(
    name: str, *, amp: bool, distributed: DistributedContext = DistributedContext()
) -> TrainingDevice:
    """The device `name` (auto, cpu, cuda, mps), in bfloat16 if `amp` is set and the device has it.

    With several processes on one machine, each has a CUDA device of its own.
    """
    device = choose_device(name)
    if device.type == "cuda" and distributed.world_size > 1:
        device = torch.device("cuda", distributed.local_rank)
    if device.type == "cpu":
        keep_large_buffers()
    return TrainingDevice(device, amp and choose_precision("auto", device) == "bf16")


def make_training(
    network: Network,
    settings: LoopSettings,
    spec: ModelSpec,
    clips: ClipSource,
    validation_clips: ClipSource | None,
    *,
    device: torch.device,
    folder: Path,
    fingerprint: str,
    distributed: DistributedContext = DistributedContext(),
) -> Training:
    """A training of `network`, which becomes the model `spec`, on `clips`; it is validated on `validation_clips`.

    Without `validation_clips` the last epoch is used. `folder` and `fingerprint` are those of the state.
    """
    validate = None
    if validation_clips is not None:
        validate = make_validator(
            validation_clips,
            mean=spec.mean,
            std=spec.std,
            device=device,
            bf16=settings.bf16,
            clips_at_once=settings.clips_at_once,
            distributed=distributed,
        )
    return Training(
        network,
        clips,
        settings,
        folder=folder,
        fingerprint=fingerprint,
        size=spec.crop,
        mean=spec.mean,
        std=spec.std,
        device=device,
        validate=validate,
        distributed=distributed,
    )
