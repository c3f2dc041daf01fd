"""Stage 1: the student sees what the teacher sees in pictures, and names what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.trainer.starter.optim import Trainee, learning_rate
from vtag.trainer.starter.student import Student

MAP_AXES = 64  # of the teacher's 1280, per place of its 7 x 7 map
POOLED_AXES = 256
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass
class Views:
    """Pictures with their targets; the targets are scaled to a mean square of one."""

    pixels: Tensor  # uint8 [N, S, S, 3]
    maps: Tensor  # bf16 [N, 7, 7, MAP_AXES]
    pooled: Tensor  # bf16 [N, POOLED_AXES]
    labels: Tensor  # int64 [N]


class Imitator(nn.Module):
    """A student with the heads that only its training needs."""

    def __init__(self, student: Student, labels: int) -> None:
        super().__init__()
        self.student = student
        feature_dim = student.swin.sizes.feature_dim
        self.to_map = nn.Linear(student.middle_dim, MAP_AXES)
        self.to_pooled = nn.Linear(feature_dim, POOLED_AXES)
        self.to_label = nn.Linear(feature_dim, labels)


def imitation_loss(model: Imitator, clips: Tensor, maps: Tensor, pooled: Tensor, labels: Tensor) -> Tensor:
    """How far the student is from the teacher on clips of one or more patches in time."""
    seen = model.student(clips)
    places = F.mse_loss(model.to_map(seen.middle).float().mean(1), maps.float())
    answer = model.to_pooled(seen.features).float()
    whole = F.mse_loss(answer, pooled.float()) + 2 * (1 - F.cosine_similarity(answer, pooled.float())).mean()
    return 0.5 * places + whole + 0.3 * F.cross_entropy(model.to_label(seen.features).float(), labels)


def batches(views: Views, size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, ...]]:
    """Endless batches of still clips of two frames, half of each mirrored, in new colours."""
    while True:
        order = torch.randperm(len(views.pixels), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            pixels, maps = views.pixels[chosen], views.maps[chosen]
            half = size // 2
            pixels[:half], maps[:half] = pixels[:half].flip(2), maps[:half].flip(2)
            clips = normalise(pixels[:, None].expand(-1, 2, -1, -1, -1), generator)
            yield clips, maps, views.pooled[chosen], views.labels[chosen]


def normalise(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """uint8 clips [B, T, H, W, 3] for the network, in bf16; with a generator in random light and contrast."""
    scale = torch.tensor([1 / s for s in STD], device=pixels.device)
    offset = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=pixels.device)
    if generator is None:
        return pixels.float().mul_(scale).add_(offset).to(torch.bfloat16)
    shape = (len(pixels), 1, 1, 1, 3)
    contrast = 1 + 0.3 * (2 * torch.rand(len(pixels), 1, 1, 1, 1, generator=generator) - 1)
    tint = 0.1 * torch.randn(shape, generator=generator)
    light = 0.25 * torch.randn(len(pixels), 1, 1, 1, 1, generator=generator)
    gain = (contrast * (1 + tint)).to(pixels.device)
    return pixels.float().mul_(scale * gain).add_(offset * gain + light.to(pixels.device)).to(torch.bfloat16)


def imitate_step(trainee: Trainee, batch: tuple[Tensor, ...], *, peak_lr: float, share: float) -> float:
    """One step of stage 1; returns its loss."""
    model = trainee.model
    assert isinstance(model, Imitator)
    loss = imitation_loss(model, *batch)
    trainee.step(loss, learning_rate(peak_lr, share))
    return float(loss.detach())
