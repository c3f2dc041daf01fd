"""Stage 1: the student sees what the teacher sees in pictures, and names what they show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vtag.trainer.recipes.starter.looks import Looks
from vtag.trainer.recipes.starter.optim import Trainee, learning_rate
from vtag.trainer.recipes.starter.student import Seen, Student
from vtag.trainer.recipes.starter.views import AXES, Joined

TARGET_AXES = AXES  # of the teacher's 1280
MAP_AXES = 64  # the first of them, wanted in each place of its 7 x 7 map as well
JOINTS = 14  # of `people`, the Leeds Sports Pose set's
LEAST_PART = 0.35  # of a view's area
PASTED = 0.5  # share of the views into which a part of another is pasted: there is no end of these
SHAKEN = 0.5  # share of the pictures that a moving camera films: the second frame shows another part
SHAKE = 0.12  # how far, in halves of a view
OF_FILE = 5  # views of a file in one pass at most: the frames of a clip are alike
BLURRED = 0.3  # share of the views that are as blurred as a small video
LOOKS = 0.5  # what it counts to say what a view looks like
GREY = 0.1  # share of the clips without colours: old films have none
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@dataclass
class Views:
    """Pictures with their targets; the targets are scaled to a mean square of one.

    `follow` is the view of a later moment of the same camera, or the view itself. `joints` are places in the view,
    0 to 1 from its left and top, NaN where nobody knows.
    """

    pixels: Joined  # uint8 [N, S, S, 3], on disk
    maps: Joined  # float16 [N, 7, 7, TARGET_AXES], on disk; their means have a mean square of one
    map_scale: float  # the root mean square of the first MAP_AXES in one place
    change_scale: float  # the root mean square of how the pooled answer changes from a view to what follows
    labels: Tensor  # int64 [N], -100: no name
    follow: Tensor  # int64 [N]
    joints: Tensor  # float32 [N, JOINTS, 2]
    files: Tensor  # int64 [N], views of one file have one number
    looks: Looks | None = None  # stage `look` learns them


class Imitator(nn.Module):
    """A student with the heads that only its training needs."""

    def __init__(self, student: Student, labels: int, actions: int) -> None:
        super().__init__()
        self.student = student
        feature_dim = student.swin.sizes.feature_dim
        self.to_map = nn.Linear(student.middle_dim, MAP_AXES)
        self.to_joints = nn.Linear(student.middle_dim, JOINTS)
        self.to_pooled = nn.Linear(feature_dim, TARGET_AXES)
        self.to_change = nn.Linear(feature_dim, TARGET_AXES)
        self.to_label = nn.Linear(feature_dim, labels)
        self.to_action = nn.Linear(feature_dim, actions)


@dataclass
class ViewBatch:
    """What one step of stage 1 sees, on the trainee's device."""

    clips: Tensor  # bf16 [B, 2, S, S, 3]
    maps: Tensor  # [B, 7, 7, MAP_AXES], mean square one
    pooled: Tensor  # [B, TARGET_AXES], mean square about one
    change: (
        Tensor  # [B, TARGET_AXES], of the pooled answer from the first frame to the second; zeros for a still
    )
    moves: Tensor  # bool [B], whether the second frame is another one
    labels: Tensor  # int64 [B]
    places: Tensor  # [B, JOINTS, 49], where the joints are; zeros where nobody knows
    actions: Tensor | None = None  # [B, K], what they look like


def imitation_loss(model: Imitator, batch: ViewBatch, seen: Seen) -> Tensor:
    """How far `seen`, what the student made of the batch, is from the teacher."""
    middle = seen.middle.mean(1)
    in_place = F.mse_loss(model.to_map(middle).float(), batch.maps)
    answer = model.to_pooled(seen.features).float()
    whole = F.mse_loss(answer, batch.pooled) + 2 * (1 - F.cosine_similarity(answer, batch.pooled)).mean()
    change = model.to_change(seen.features).float() - batch.change
    moved = change[batch.moves].pow(2).mean() if batch.moves.any() else 0.0
    named = F.cross_entropy(
        model.to_label(seen.features).float(), batch.labels, label_smoothing=0.1, reduction="sum"
    ) / len(batch.labels)
    where = model.to_joints(middle).float().flatten(1, 2).log_softmax(1).transpose(1, 2)
    lost = -(where * batch.places).sum() / batch.places.sum().clamp(min=1)
    loss = 0.5 * in_place + whole + 0.5 * moved + 0.3 * named + 0.1 * lost
    if batch.actions is not None:
        loss = loss + LOOKS * F.cross_entropy(model.to_action(seen.features).float(), batch.actions)
    return cast(Tensor, loss)


def batches(
    views: Views, chosen: Tensor, size: int, generator: torch.Generator, *, crop: int, device: torch.device
) -> Iterator[ViewBatch]:
    """Endless batches of two frames: a part of each view of `chosen`, half of them mirrored, in new colours.

    The teacher's map is cut as the view is, so that no step needs the teacher.
    """
    while True:
        order = chosen[torch.randperm(len(chosen), generator=generator)]
        order = order[count_earlier(views.files[order]) < OF_FILE]
        order = order[torch.randperm(len(order), generator=generator)]  # files of many views came early
        for start in range(0, max(1, len(order) - size + 1), size):
            yield make_batch(views, order[start : start + size], generator, crop=crop, device=device)


def count_earlier(files: Tensor) -> Tensor:
    """For each of `files` [N] how many before it are the same."""
    order = torch.argsort(files, stable=True)
    _, counts = torch.unique_consecutive(files[order], return_counts=True)
    first = (counts.cumsum(0) - counts).repeat_interleave(counts)
    earlier = torch.empty_like(files)
    earlier[order] = torch.arange(len(files)) - first
    return earlier


def make_batch(
    views: Views, chosen: Tensor, generator: torch.Generator, *, crop: int, device: torch.device
) -> ViewBatch:
    """A batch of random parts of the views `chosen` [B]."""
    follow = views.follow[chosen]
    moves = follow != chosen
    shaken = ~moves & (torch.rand(len(chosen), generator=generator) < SHAKEN)
    again = moves | shaken  # whose second frame differs from the first
    both = torch.cat([chosen, follow[again]])
    parts = random_parts(len(chosen), generator)
    second_parts = torch.where(shaken[:, None, None], shake(parts, generator), parts)
    all_parts = torch.cat([parts, second_parts[again]])
    pixels = cut_parts(torch.from_numpy(views.pixels[both.numpy()]).to(device), all_parts, crop)
    maps = cut_parts(torch.from_numpy(views.maps[both.numpy()]).to(device), all_parts, 7)
    first, second = (torch.stack([part[: len(chosen)]] * 2, 1) for part in (pixels, maps))
    first[again, 1], second[again, 1] = pixels[len(chosen) :], maps[len(chosen) :]
    blur(first, generator)
    places = joint_places(views.joints[chosen], parts)
    whole = paste(first, second, generator)
    places[~whole] = 0  # a joint may be behind the part of another view
    pooled = second.mean((1, 2, 3))
    return ViewBatch(
        normalise(first, generator),
        second.mean(1)[..., :MAP_AXES] / views.map_scale,
        pooled,
        (second[:, 1] - second[:, 0]).mean((1, 2)) / views.change_scale,
        moves.to(device),
        views.labels[chosen].to(device),
        places.to(device),
        None if views.looks is None else views.looks.shares(pooled, chosen, whole),
    )


def blur(pixels: Tensor, generator: torch.Generator) -> None:
    """Make BLURRED of pixels [B, T, S, S, C] as small as a third to four fifths and large again."""
    some = torch.randperm(len(pixels), generator=generator)[: int(BLURRED * len(pixels))]
    size = int(pixels.shape[2] * (0.33 + 0.47 * float(torch.rand((), generator=generator))))
    if len(some):
        sharp = pixels[some].flatten(0, 1).permute(0, 3, 1, 2)
        small = F.interpolate(sharp, (size, size), mode="area")
        large = F.interpolate(small, sharp.shape[2:], mode="bilinear", align_corners=False)
        pixels[some] = large.permute(0, 2, 3, 1).unflatten(0, (len(some), -1))


def joint_places(joints: Tensor, parts: Tensor, *, cells: int = 7) -> Tensor:
    """Where `joints` [B, J, 2] of whole views are in their `parts` [B, 2, 3]: shares of the cells, [B, J, cells^2].

    A joint between cells belongs to the nearest ones, as bilinear interpolation has it. Zeros: not in the part.
    """
    centre, scale = parts[:, None, :, 2], parts[:, None, :, :2].diagonal(dim1=-2, dim2=-1)
    index = ((2 * joints - 1 - centre) / scale + 1) / 2  # 0 to 1 across the part
    inside = ((index >= 0) & (index <= 1)).all(-1)  # NaN is not
    cell = (index.nan_to_num() * cells - 0.5).clamp(0, cells - 1)
    near = (1 - (cell[..., None] - torch.arange(cells)).abs()).clamp(min=0)  # [B, J, 2, cells]
    return (near[:, :, 1, :, None] * near[:, :, 0, None, :]).flatten(2) * inside[..., None]


def random_parts(count: int, generator: torch.Generator) -> Tensor:
    """Affine maps [count, 2, 3] (as `affine_grid` takes them) that cut a random part, half of them mirrored."""
    area = LEAST_PART + (1 - LEAST_PART) * torch.rand(count, generator=generator)
    stretch = torch.exp(0.15 * (2 * torch.rand(count, generator=generator) - 1))
    across, down = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    mirror = torch.where(torch.arange(count) < count // 2, -1.0, 1.0)
    position = 2 * torch.rand(2, count, generator=generator) - 1
    parts = torch.zeros(count, 2, 3)
    parts[:, 0, 0], parts[:, 0, 2] = across * mirror, (1 - across) * position[0]
    parts[:, 1, 1], parts[:, 1, 2] = down, (1 - down) * position[1]
    return parts


def shake(parts: Tensor, generator: torch.Generator) -> Tensor:
    """The `parts` [N, 2, 3] a moment later: a little further in some direction, a little nearer or farther."""
    nearer = 1 + 0.5 * SHAKE * (2 * torch.rand(len(parts), generator=generator) - 1)
    moved = SHAKE * (2 * torch.rand(len(parts), 2, generator=generator) - 1)
    later = parts.clone()
    size = (parts[:, :, :2].diagonal(dim1=-2, dim2=-1).abs() * nearer[:, None]).clamp(max=1)
    later[:, :, :2] = torch.diag_embed(size * parts[:, :, :2].diagonal(dim1=-2, dim2=-1).sign())
    later[:, :, 2] = torch.maximum(torch.minimum(parts[:, :, 2] + moved, 1 - size), size - 1)
    return later


def paste(pixels: Tensor, maps: Tensor, generator: torch.Generator) -> Tensor:
    """Paste a part of another view, with its part of the map, into some of pixels [B, T, S, S, C] and maps [B, T, 7,
    7, D]. Returns which views stayed whole [B].

    CutMix (Yun et al., 2019) with targets that are exact but for what the teacher sees beyond a place's own part.
    """
    cells = maps.shape[2]
    cell = pixels.shape[2] // cells
    shown, wanted = pixels.clone(), maps.clone()
    whole = torch.rand(len(pixels), generator=generator) >= PASTED
    for i in torch.nonzero(~whole).flatten().tolist():
        h, w = torch.randint(2, 6, (2,), generator=generator).tolist()
        y, x = (int(torch.randint(cells - n + 1, (), generator=generator)) for n in (h, w))
        other = int(torch.randint(len(pixels), (), generator=generator))
        rows, columns = slice(y * cell, (y + h) * cell), slice(x * cell, (x + w) * cell)
        pixels[i, :, rows, columns] = shown[other, :, rows, columns]
        maps[i, :, y : y + h, x : x + w] = wanted[other, :, y : y + h, x : x + w]
    return whole


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
    loss = imitation_loss(model, batch, model.student(batch.clips))
    trainee.step(loss, learning_rate(peak_lr, share))
    return float(loss.detach())
