"""Views: square pictures cut from footage, each with what the teacher of pictures sees in it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.recipes.starter.data import Pixels
from vtag.trainer.recipes.starter.optim import save_atomically
from vtag.trainer.recipes.starter.teacher import CHANNELS, principal_axes, teacher_maps

log = logging.getLogger(__name__)

VIEW = 144  # pixels: more than the student sees, so that a step can cut its own part of a view
CLIP_FRAMES = 8  # of a clip, spread over it; also what the teacher's features of a clip are made from
AXES = 256  # of the teacher's 1280 that are kept
AXES_FROM = 3000  # views from which the axes are found
CHUNK = 512  # views from one save to the next

Box = tuple[float, float, float, float]  # top, left, height, width: shares of the frame
WHOLE: Box = (0.0, 0.0, 1.0, 1.0)


@dataclass(frozen=True)
class View:
    """Where a view is cut from."""

    kind: str  # the folder: stills, train, ...
    item: int
    frame: int = 0
    box: Box = WHOLE


@dataclass
class ViewSet:
    """Views with the teacher's answer; the arrays lie on disk."""

    views: list[View]
    pixels: npt.NDArray[np.uint8]  # [N, VIEW, VIEW, 3]
    maps: npt.NDArray[np.float16]  # [N, 7, 7, AXES], scaled to a mean square of one
    pooled: npt.NDArray[np.float16]  # [N, CHANNELS], the mean of the teacher's own map


class Joined:
    """Rows of several arrays as if they lay one after another; read from where they are, so that no copy is held."""

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self.parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """The rows [N], copied."""
        out = np.empty((len(rows), *self.parts[0].shape[1:]), self.parts[0].dtype)
        of = np.searchsorted(self._starts, rows, side="right") - 1
        for k, part in enumerate(self.parts):
            chosen = of == k
            out[chosen] = part[rows[chosen] - self._starts[k]]
        return out


def resize(pictures: Pixels, size: tuple[int, int]) -> Pixels:
    """Pictures uint8 [T, H, W, 3] at `size` (height, width), smoothed where they shrink."""
    x = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2)
    # on uint8 this is torch's fast path, a few times faster than on float
    x = F.interpolate(x, size, mode="bilinear", align_corners=False, antialias=True)
    return x.permute(0, 2, 3, 1).numpy()


def random_crop(pictures: Pixels, rng: np.random.Generator, *, size: int, least: float = 0.3) -> Pixels:
    """One random part of all `pictures` [T, H, W, 3] (area from `least` to 1, aspect 3:4 to 4:3), squared."""
    return cut(pictures, random_box(pictures.shape[1:3], rng, least=least), size=size)


def random_box(shape: Sequence[int], rng: np.random.Generator, *, least: float) -> Box:
    """A random part of frames of `shape` (height, width), nearly square in pixels."""
    height, width = shape
    side = np.sqrt(rng.uniform(least, 1.0) * min(height, width) * max(height, width))
    stretch = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)) / 2)
    h, w = (min(1.0, side * s / full) for full, s in ((height, 1 / stretch), (width, stretch)))
    return float(rng.uniform(0, 1 - h)), float(rng.uniform(0, 1 - w)), float(h), float(w)


def cut(pictures: Pixels, box: Box, *, size: int) -> Pixels:
    """The part `box` of all pictures [T, H, W, 3]: uint8 [T, size, size, 3]."""
    height, width = pictures.shape[1:3]
    top, left = int(box[0] * height), int(box[1] * width)
    h, w = max(1, round(box[2] * height)), max(1, round(box[3] * width))
    return resize(pictures[:, top : top + h, left : left + w], (size, size))


def spread_frames(frames: int) -> npt.NDArray[np.int64]:
    """CLIP_FRAMES frames of a clip, from its first to its last."""
    return np.linspace(0, frames - 1, CLIP_FRAMES).round().astype(np.int64)


def whole_views(footage: Mapping[str, Sequence[Pixels]]) -> list[View]:
    """The whole of every picture, and CLIP_FRAMES whole frames of every clip, one after the other."""
    views = []
    for kind, all_pixels in footage.items():
        for item, pixels in enumerate(all_pixels):
            frames = spread_frames(len(pixels)) if len(pixels) > 1 else [0]
            views += [View(kind, item, int(frame)) for frame in frames]
    return views


def part_views(footage: Mapping[str, Sequence[Pixels]], *, seed: int, least: float = 0.2) -> list[View]:
    """A random part of every picture, and of two frames of every clip."""
    rng = np.random.default_rng(seed)
    views = []
    for kind, all_pixels in footage.items():
        for item, pixels in enumerate(all_pixels):
            for _ in range(2 if len(pixels) > 1 else 1):
                box = random_box(pixels.shape[1:3], rng, least=least)
                views.append(View(kind, item, int(rng.integers(len(pixels))), box))
    return views


def make_views(
    folder: Path, views: Sequence[View], footage: Mapping[str, Sequence[Pixels]], teacher: Any, *, seed: int
) -> None:
    """Show `views` to the teacher and keep what it says below `folder`; a broken run goes on where it was.

    The axes are found once, by the first set that is made, and kept beside the sets.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.pt"
    views = torch.load(state, weights_only=False)["views"] if state.exists() else list(views)
    first = torch.load(state, weights_only=False)["count"] if state.exists() else 0

    def shown(chosen: Sequence[View]) -> Pixels:
        return np.concatenate(
            [cut(footage[v.kind][v.item][v.frame : v.frame + 1], v.box, size=VIEW) for v in chosen]
        )

    axes_path = folder.parent / "axes.pt"
    if not axes_path.exists():
        order = np.random.default_rng(seed).permutation(len(views))[:AXES_FROM]
        save_atomically(find_axes(teacher_maps(teacher, shown([views[i] for i in order]))), axes_path)
    mean, axes = torch.load(axes_path)
    kept = open_set(folder, views, mode="r+" if first else "w+")
    for start in range(first, len(views), CHUNK):
        rows = slice(start, min(start + CHUNK, len(views)))
        kept.pixels[rows] = shown(views[rows])
        maps = teacher_maps(teacher, kept.pixels[rows]).float()
        kept.pooled[rows] = maps.mean((1, 2)).half().numpy()
        kept.maps[rows] = ((maps - mean) @ axes).half().numpy()
        save_atomically({"views": views, "count": rows.stop}, state)
        log.info("views: %s, %d of %d", folder.name, rows.stop, len(views))


def find_axes(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and axes [C, AXES] of the teacher's pooled features, from its maps [N, 7, 7, C].

    The principal axes, each divided by the root of its deviation: half-way between the variance that noise has too
    and the axes that tell classes apart. Pooled features along them have a mean square of one.
    """
    means = maps.float().mean((1, 2))
    mean, axes = principal_axes(means, keep=AXES)
    axes = axes / ((means - mean) @ axes).std(0).clamp(min=1e-6).sqrt()
    return mean, axes / ((means - mean) @ axes).pow(2).mean().sqrt()


def open_set(folder: Path, views: list[View], *, mode: str = "r") -> ViewSet:
    """The set's arrays, as they lie in `folder`."""
    n = len(views)

    def array(name: str, dtype: Any, *shape: int) -> Any:
        return np.memmap(folder / name, dtype, mode, shape=(n, *shape))  # type: ignore[call-overload]

    return ViewSet(
        views,
        array("pixels", np.uint8, VIEW, VIEW, 3),
        array("maps", np.float16, 7, 7, AXES),
        array("pooled", np.float16, CHANNELS),
    )


def read_set(folder: Path) -> ViewSet:
    """What `make_views` has made of a set so far. Raises FileNotFoundError if there is none."""
    state = torch.load(folder / "state.pt", weights_only=False)
    whole, count = open_set(folder, state["views"]), state["count"]
    return ViewSet(whole.views[:count], whole.pixels[:count], whole.maps[:count], whole.pooled[:count])
