"""The network before training: an inflated image model, the backbone of a video model, or random weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint, with_hashes
from vtag.engine.checkpoints.inflate import inflate
from vtag.engine.errors import ModelError
from vtag.engine.models.image_models import is_image_file
from vtag.engine.models.registry import load_model, locate_model
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.weight_names import is_head
from vtag.engine.text import display_path, printable
from vtag.trainer.loop.network import random_checkpoint
from vtag.trainer.network.config import Config

_HEAD_STD = 0.01  # of a new head's weights, as in the published I3D head
_HEAD_STREAM = 0x4EAD  # the number of the random stream for the head's weights
_DATASET_FPS = 30.0  # frames a second of the data set's videos: gives `interval` a meaning for other videos


def initial_checkpoint(config: Config, labels: tuple[str, ...]) -> Checkpoint:
    """The checkpoint that the training starts from, with a new head for `labels`.

    Raises ModelError if the recipe's initial model cannot be used.
    """
    sizes = config.model.sizes(len(labels))
    data, model = config.data, config.model
    spec = ModelSpec(
        name=model.name,
        sizes=sizes,
        labels=labels,
        frames=data.frames,
        rate=_DATASET_FPS / data.interval,
        short_side=data.short_side,
        crop=data.crop,
        mean=_triple(model.mean),
        std=_triple(model.std),
    )
    base = random_checkpoint(spec, seed=config.run.seed)
    rng = np.random.default_rng((config.run.seed, _HEAD_STREAM))
    head = {
        "head.weight": (_HEAD_STD * rng.normal(size=(len(labels), sizes.feature_dim))).astype(np.float32),
        "head.bias": np.zeros(len(labels), np.float32),
    }
    source, backbone = _load_backbone(config)
    return with_hashes(replace(base.spec, source=source), {**base.tensors, **backbone, **head})


def _load_backbone(config: Config) -> tuple[str, dict[str, NDArray[np.float32]]]:
    """A sentence about the source of the weights, and the initial model's tensors without the head."""
    model = config.model
    if not model.init:
        return "trained by vtag train from random weights", {}
    local = config.path(model.init)
    name = local if local.exists() else model.init
    path = locate_model(name)
    source = f"trained by vtag train from {printable(Path(model.init).name)}"
    sizes = model.sizes(2)
    if path.is_file() and is_image_file(path):
        inflated = inflate(path, window_size=sizes.window_size, patch_size=sizes.patch_size)
        initial_sizes, tensors = inflated.sizes, dict(inflated.tensors)
    else:
        checkpoint = load_model(name)
        initial_sizes, tensors = checkpoint.spec.sizes, dict(checkpoint.tensors)
    if replace(initial_sizes, num_classes=2) != sizes:
        raise ModelError(f"[model]: {display_path(path)} is of other sizes than the recipe: {initial_sizes}")
    return source, {name: array for name, array in tensors.items() if not is_head(name)}


def _triple(values: Sequence[float]) -> tuple[float, float, float]:
    return values[0], values[1], values[2]
