"""Stage 2: whole clips and their actions, from a head that was fitted on the features of stage 1."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.starter.imitate import Imitator, imitation_loss
from vtag.trainer.starter.optim import Trainee, learning_rate

SMOOTHING = 0.1


def fit_head(
    features: Tensor, labels: Tensor, classes: int, *, decay: float = 1e-2, steps: int = 300
) -> tuple[Tensor, Tensor]:
    """Weight [classes, D] and bias of a linear head on features [N, D], by regularised cross-entropy."""
    mean, std = features.mean(0), features.std(0) + 1e-4
    x = (features - mean) / std
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    balance = 1 / torch.bincount(labels, minlength=classes).clamp(min=1).float()
    optimizer = torch.optim.Adam([weight, bias], lr=1e-2)
    for _ in range(steps):
        loss = F.cross_entropy(x @ weight.T + bias, labels, weight=balance) + decay * weight.pow(2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    weight, bias = weight.detach() / std, bias.detach()
    return weight, bias - weight @ mean


def mix(
    clips: Tensor, targets: Tensor, *, strength: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Mixup: each clip blended with another of the batch, its target likewise."""
    lam = 1 - strength * torch.rand(len(clips), generator=generator)
    other = torch.randperm(len(clips), generator=generator)
    share = lam.view(-1, 1, 1, 1, 1).to(clips.dtype)
    return clips * share + clips[other] * (1 - share), targets * lam[:, None] + targets[other] * (
        1 - lam[:, None]
    )


def tune_step(
    trainee: Trainee,
    clips: tuple[Tensor, Tensor, Tensor],
    views: tuple[Tensor, ...],
    *,
    peak_lr: float,
    share: float,
) -> float:
    """One step on clips (normalised, target shares [B, K], teacher's pooled features or zeros) and views."""
    model = trainee.model
    assert isinstance(model, Imitator)
    pixels, targets, pooled = clips
    seen = model.student(pixels)
    targets = targets * (1 - SMOOTHING) + SMOOTHING / targets.shape[1]
    loss = F.cross_entropy(seen.logits.float(), targets)
    known = pooled.abs().sum(1) > 0
    alike = F.cosine_similarity(model.to_pooled(seen.features).float(), pooled, dim=1)
    loss = loss + ((1 - alike) * known).sum() / known.sum().clamp(min=1)
    loss = loss + 0.5 * imitation_loss(model, *views)
    trainee.step(loss, learning_rate(peak_lr, share))
    return float(loss.detach())


@torch.inference_mode()
def run_clips(
    forward: Callable[[Tensor], Tensor],
    clips: Tensor,
    normalise: Callable[[Tensor], Tensor],
    *,
    batch: int = 48,
) -> Tensor:
    """`forward` over uint8 clips [N, T, H, W, 3] in parts; float32 [N, ...]."""
    return torch.cat([forward(normalise(part)).float() for part in clips.split(batch)])
