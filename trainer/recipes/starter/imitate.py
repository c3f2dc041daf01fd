"""Stage 1: the student sees what the teacher sees in pictures, and names what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.trainer.recipes.starter.optim import Trainee, learning_rate
from vtag.trainer.recipes.starter.student import Student

TARGET_AXES = 256  # of the teacher's 1280
MAP_AXES = 64  # the first of them, wanted in each place of its 7 x 7 map as well
LEAST_PART = 0.35  # of a view's area
PATCHED = 0.5  # share of the views into which a part of another is pasted: there is no end of these
GREY = 0.1  # share of the clips without colours: old films have none
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass
class Views:
    """Pictures with their targets; the targets are scaled to a mean square of one."""

    pixels: Tensor  # uint8 [N, S, S, 3]
    maps: Tensor  # float16 [N, 7, 7, TARGET_AXES]; their means have a mean square of one
    map_scale: float  # the root mean square of the first MAP_AXES in one place
    labels: Tensor  # int64 [N]


class Imitator(nn.Module):
    """A student with the heads that only its training needs."""

    def __init__(self, student: Student, labels: int) -> None:
        super().__init__()
        self.student = student
        feature_dim = student.swin.sizes.feature_dim
        self.to_map = nn.Linear(student.middle_dim, MAP_AXES)
        self.to_pooled = nn.Linear(feature_dim, TARGET_AXES)
        self.to_label = nn.Linear(feature_dim, labels)


@dataclass
class ViewBatch:
    """What one step of stage 1 sees, on the trainee's device."""

    clips: Tensor  # bf16 [B, 2, S, S, 3]
    maps: Tensor  # [B, 7, 7, MAP_AXES], mean square one
    pooled: Tensor  # [B, TARGET_AXES], mean square about one
    labels: Tensor  # int64 [B]


def imitation_loss(model: Imitator, batch: ViewBatch) -> Tensor:
    """How far the student is from the teacher on clips of one or more patches in time."""
    seen = model.student(batch.clips)
    places = F.mse_loss(model.to_map(seen.middle).float().mean(1), batch.maps)
    answer = model.to_pooled(seen.features).float()
    whole = F.mse_loss(answer, batch.pooled) + 2 * (1 - F.cosine_similarity(answer, batch.pooled)).mean()
    named = F.cross_entropy(model.to_label(seen.features).float(), batch.labels, label_smoothing=0.1)
    return 0.5 * places + whole + 0.3 * named


def batches(
    views: Views, size: int, generator: torch.Generator, *, crop: int, device: torch.device
) -> Iterator[ViewBatch]:
    """Endless batches of still clips of two frames: a part of each view, half of them mirrored, in new colours.

    The teacher's map is cut as the view is, so that no step needs the teacher.
    """
    size = min(size, len(views.pixels))
    while True:
        order = torch.randperm(len(views.pixels), generator=generator)
        for start in range(0, len(order) - size + 1, size):
            chosen = order[start : start + size]
            parts = random_parts(size, generator)
            pixels = cut_parts(views.pixels[chosen].to(device), parts, crop)
            maps = cut_parts(views.maps[chosen].to(device), parts, 7)
            patch(pixels, maps, generator)
            clips = normalise(pixels[:, None], generator).expand(-1, 2, -1, -1, -1)
            yield ViewBatch(
                clips,
                maps[..., :MAP_AXES] / views.map_scale,
                maps.mean((1, 2)),
                views.labels[chosen].to(device),
            )


def random_parts(count: int, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3] (as `affine_grid` takes them) that cut a random part, half of them mirrored."""
    area = LEAST_PART + (1 - LEAST_PART) * torch.rand(count, generator=generator)
    stretch = torch.exp(0.15 * (2 * torch.rand(count, generator=generator) - 1))
    across, down = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    mirror = torch.where(torch.arange(count) < count // 2, -1.0, 1.0)
    place = 2 * torch.rand(2, count, generator=generator) - 1
    parts = torch.zeros(count, 2, 3)
    parts[:, 0, 0], parts[:, 0, 2] = across * mirror, (1 - across) * place[0]
    parts[:, 1, 1], parts[:, 1, 2] = down, (1 - down) * place[1]
    return parts


def patch(pixels: Tensor, maps: Tensor, generator: torch.Generator) -> None:
    """Paste a part of another view, with its part of the map, into some of pixels [B, S, S, C] and maps [B, 7, 7, D].

    CutMix (Yun et al., 2019) with targets that are exact but for what the teacher sees beyond a place's own part.
    """
    cell = pixels.shape[1] // maps.shape[1]
    shown, wanted = pixels.clone(), maps.clone()
    for i in torch.nonzero(torch.rand(len(pixels), generator=generator) < PATCHED).flatten().tolist():
        h, w = torch.randint(2, 6, (2,), generator=generator).tolist()
        y, x = (int(torch.randint(maps.shape[1] - n + 1, (), generator=generator)) for n in (h, w))
        other = int(torch.randint(len(pixels), (), generator=generator))
        rows, columns = slice(y * cell, (y + h) * cell), slice(x * cell, (x + w) * cell)
        pixels[i, rows, columns] = shown[other, rows, columns]
        maps[i, y : y + h, x : x + w] = wanted[other, y : y + h, x : x + w]


def cut_parts(maps: Tensor, parts: Tensor, size: int) -> Tensor:
    """The `parts` of maps [B, H, W, C] at `size` x `size`, bilinear, not smoothed (as the protocol's): float32."""
    grid = F.affine_grid(parts.to(maps.device), [len(maps), 1, size, size], align_corners=False)
    x = maps.permute(0, 3, 1, 2).float()
    x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return x.permute(0, 2, 3, 1)


def normalise(pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Clips [B, T, H, W, 3] of 0..255 for the network, in bf16; with a generator in random light and colours."""
    scale = torch.tensor([1 / s for s in STD], device=pixels.device)
    offset = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)], device=pixels.device)
    if generator is None:
        return pixels.float().mul_(scale).add_(offset).to(torch.bfloat16)
    mixed, light = (t.to(pixels.device) for t in random_colours(len(pixels), generator))
    flat = (pixels.float() * scale + offset).flatten(1, 3)  # [B, places, 3]
    return torch.baddbmm(light, flat, mixed).view(pixels.shape).to(torch.bfloat16)


def random_colours(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """For each clip a matrix [count, 3, 3] (contrast, tint, saturation; some grey) and a light [count, 1, 3]."""
    contrast = 1 + 0.3 * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
    tint = 1 + 0.1 * torch.randn(count, 1, 3, generator=generator)
    colour = 1 + 0.5 * (2 * torch.rand(count, 1, 1, generator=generator) - 1)
    colour[torch.rand(count, generator=generator) < GREY] = 0
    grey = torch.tensor([0.299, 0.587, 0.114])[:, None].expand(3, 3)
    mixed = colour * torch.eye(3) + (1 - colour) * grey
    return mixed * contrast * tint, 0.25 * torch.randn(count, 1, 1, generator=generator).expand(-1, 1, 3)


def imitate_step(trainee: Trainee, batch: ViewBatch, *, peak_lr: float, share: float) -> float:
    """One step of stage 1; returns its loss."""
    model = trainee.model
    assert isinstance(model, Imitator)
    loss = imitation_loss(model, batch)
    trainee.step(loss, learning_rate(peak_lr, share))
    return float(loss.detach())
