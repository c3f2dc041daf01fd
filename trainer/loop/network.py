"""The network in training: its initial weights, its trainable part, and the optimiser's parameter groups."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.engine.checkpoints.checkpoint import Checkpoint, with_hashes
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import ModelSpec
from vtag.engine.swin.weight_names import is_head
from vtag.trainer.data.dataset import DatasetError

TrainablePart = int | Literal["all"]  # the number of last stages, or all of them; the head always learns


class Network(nn.Module):
    """A Video Swin with dropout before its head. Logits are float32, whatever precision the backbone has."""

    def __init__(self, swin: VideoSwin, *, head_dropout: float = 0.0) -> None:
        super().__init__()
        self.swin = swin
        self.head_dropout = head_dropout
        self.frozen: list[nn.Module] = []

    def forward(self, clips: Tensor) -> Tensor:
        """Logits float32 [B, K] of normalised `clips` [B, T, H, W, 3]."""
        features = self.swin.forward_features(clips).float()
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(
                F.dropout(features, self.head_dropout, self.training),
                self.swin.head.weight,
                self.swin.head.bias,
            )

    def train(self, mode: bool = True) -> Network:
        """As `nn.Module.train`, but the frozen part stays in evaluation mode, without dropout."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self


def random_checkpoint(spec: ModelSpec, *, seed: int) -> Checkpoint:
    """A checkpoint of `spec`'s sizes with random weights, initialised as in the official repository."""
    torch.manual_seed(seed)
    random_spec = replace(spec, source="random weights", sha256="", threshold=None, label_thresholds={})
    return with_hashes(random_spec, VideoSwin(spec.sizes).arrays())


def build_network(
    base: Checkpoint,
    weight: NDArray[np.float32],
    bias: NDArray[np.float32],
    *,
    part: TrainablePart = "all",
    drop_path: float = 0.1,
    head_dropout: float = 0.0,
    recompute: bool = False,
) -> Network:
    """The backbone of `base` with a new head of `weight` [K, D] and `bias` [K].

    Args:
        part: the part of the backbone that learns.
        drop_path: the highest rate of stochastic depth.
        head_dropout: the dropout rate before the head.
        recompute: compute activations again in the backward pass: less memory, about a third more time.

    Raises:
        DatasetError: if the network has fewer stages than `part`.
    """
    sizes = replace(base.spec.sizes, num_classes=len(bias))
    swin = VideoSwin(sizes, drop_path=drop_path)
    backbone = {name: array for name, array in base.tensors.items() if not is_head(name)}
    swin.load_arrays({**backbone, "head.weight": weight, "head.bias": bias})
    network = Network(swin, head_dropout=head_dropout)
    if part != "all":
        if not 1 <= part <= len(swin.stages):
            raise DatasetError(f"the network has {len(swin.stages)} stages: --train stages=N needs 1 to that")
        network.frozen = [swin.patch_embed, *list(swin.stages)[: len(swin.stages) - part]]
        for module in network.frozen:
            module.requires_grad_(False)
    for stage in swin.stages:
        stage.recomputes = recompute  # type: ignore[assignment]  # nn.ModuleList is not generic
    return network


def parameter_groups(
    network: Network, *, backbone_lr_scale: float, weight_decay: float
) -> list[dict[str, Any]]:
    """AdamW's parameter groups; each has its `scale` of the learning rate: 1 for the head, `backbone_lr_scale` else.

    Biases, norms and position tables have no weight decay.
    """
    undecayed = network.swin.no_weight_decay()
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.swin.named_parameters():
        if parameter.requires_grad:
            key = (1.0 if is_head(name) else backbone_lr_scale, 0.0 if name in undecayed else weight_decay)
            groups.setdefault(key, []).append(parameter)
    return [
        {"params": parameters, "scale": scale, "weight_decay": decay}
        for (scale, decay), parameters in groups.items()
    ]
