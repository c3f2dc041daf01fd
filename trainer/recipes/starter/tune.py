"""Stage 2: whole clips and their actions, from a head that was fitted on the features of stage 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.recipes.starter.imitate import Imitator, ViewBatch, imitation_loss
from vtag.trainer.recipes.starter.optim import Trainee, learning_rate

SMOOTHING = 0.05
MIXUP, CUTMIX = 0.5, 0.25  # shares of the clips


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


def over_time(frames: Tensor) -> Tensor:
    """Features [N, 3 D] of clips from their frames' [N, T, D]: mean, spread, and how the second half differs."""
    half = frames.shape[1] // 2
    return torch.cat([frames.mean(1), frames.std(1), frames[:, half:].mean(1) - frames[:, :half].mean(1)], 1)


def mix(clips: Tensor, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Mixup or CutMix (Yun et al., 2019) with another of the batch, each for a part of the clips [B, T, H, W, 3].

    Returns clips and targets [B, K], mixed alike. The others stay as they are.
    """
    count, _, height, width, _ = clips.shape
    other = torch.randperm(count, generator=generator)
    kind = torch.rand(count, generator=generator)
    blend = torch.where(kind < MIXUP, 0.4 * torch.rand(count, generator=generator), torch.zeros(()))
    own = 1 - blend
    share = blend.view(-1, 1, 1, 1, 1).to(clips.dtype)
    mixed = clips.lerp(clips[other], share)
    for i in torch.nonzero((kind >= MIXUP) & (kind < MIXUP + CUTMIX)).flatten().tolist():
        side = (0.5 * torch.rand((), generator=generator)).sqrt()
        h, w = int(side * height), int(side * width)
        y, x = (int(torch.randint(n, (), generator=generator)) for n in (height - h + 1, width - w + 1))
        mixed[i, :, y : y + h, x : x + w] = clips[other[i], :, y : y + h, x : x + w]
        own[i] = 1 - h * w / (height * width)
    return mixed, targets * own[:, None] + targets[other] * (1 - own[:, None])


@dataclass
class ClipBatch:
    """Clips of one step of stage 2, on the trainee's device."""

    clips: Tensor  # bf16 [B, T, S, S, 3]
    shares: Tensor  # [B, K], what they show
    pooled: Tensor  # [B, TARGET_AXES], the teacher's of the whole clip, or zeros


def tune_step(
    trainee: Trainee, batch: ClipBatch, views: ViewBatch, classes: Tensor, *, peak_lr: float, share: float
) -> float:
    """One step on clips and on views, which keep what was learnt and teach the labels of pictures; returns its loss.

    `classes` [B] are the labels that the views show, -100 where they show none.
    """
    model = trainee.model
    assert isinstance(model, Imitator)
    seen = model.student(batch.clips)
    shares = batch.shares * (1 - SMOOTHING) + SMOOTHING / batch.shares.shape[1]
    loss = F.cross_entropy(seen.logits.float(), shares)
    known = batch.pooled.abs().sum(1) > 0
    alike = F.cosine_similarity(model.to_pooled(seen.features).float(), batch.pooled, dim=1)
    loss = loss + ((1 - alike) * known).sum() / known.sum().clamp(min=1)
    seen = model.student(views.clips)
    named = F.cross_entropy(seen.logits.float(), classes, label_smoothing=0.1, reduction="sum") / len(classes)
    loss = loss + 0.5 * named + 0.3 * imitation_loss(model, views, seen)
    trainee.step(loss, learning_rate(peak_lr, share))
    return float(loss.detach())
