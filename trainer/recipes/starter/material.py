"""The footage that the stages learn from: decoded once, split by source, with what the teacher of pictures saw."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vtag.engine.system.atomic_write import atomic_path
from vtag.trainer.recipes.starter.data import (
    MAX_ASPECT,
    MOST_FRAMES,
    decode,
    held_pictures,
    held_sources,
    list_items,
)
from vtag.trainer.recipes.starter.imitate import JOINTS, MAP_AXES, Views
from vtag.trainer.recipes.starter.labels import RELATED_PICTURES, all_labels, picture_label
from vtag.trainer.recipes.starter.looks import Looks
from vtag.trainer.recipes.starter.store import PixelStore, write_store
from vtag.trainer.recipes.starter.views import CLIP_FRAMES, Joined, View, ViewSet

log = logging.getLogger(__name__)

KINDS = {  # folder of the shared data: its files
    "train": "*/*.mp4",
    "negatives": "*/*.mp4",
    "stills": "*/*.jpg",
    "people": "*.jpg",
    "scenes": "*.jpg",
    "exercises": "*.jpg",
}
CLIP_KINDS = ("train", "negatives")
JOINTS_FILE = "joints.npy"
UNNAMED = -100  # no label: `cross_entropy` leaves it out


def decode_all(shared: Path, work: Path) -> None:
    """Decode every folder of KINDS that is not decoded yet."""
    for kind, pattern in KINDS.items():
        path = work / f"{kind}.pixels"
        if not path.with_suffix(".json").exists():
            items = list_items(shared / kind, pattern)
            log.info("decode: %s, %d files", kind, len(items))
            write_store(path, items, (decode(item.path, most=MOST_FRAMES) for item in items))


@dataclass
class Footage:
    """The decoded folders; `held` says for each file of a folder whether it may never be taught."""

    stores: dict[str, PixelStore]
    held: dict[str, npt.NDArray[np.bool_]]
    labels: list[str]  # of clips, then of pictures alone

    @property
    def clip_labels(self) -> list[str]:
        """The labels that clips show."""
        return sorted({item.label for item in self.stores["train"].items})


def open_footage(work: Path, *, seed: int) -> Footage:
    """What `decode_all` left, split: some sources of clips and some pictures of each folder are held back."""
    stores = {kind: PixelStore(work / f"{kind}.pixels") for kind in KINDS}
    sources = held_sources(stores["train"].items, seed=seed)
    held = {
        kind: np.array([item.source in sources for item in store.items])
        if kind == "train"
        else held_negatives(store)
        if kind == "negatives"
        else held_pictures(store.items)
        for kind, store in stores.items()
    }
    clips, pictures = ([item.label for item in stores[kind].items] for kind in ("train", "stills"))
    return Footage(stores, held, all_labels(clips, pictures))


def shown_label(footage: Footage, kind: str, item: int) -> str | None:
    """The label that a file of a folder shows; "" if none of them, None if nobody knows."""
    label = footage.stores[kind].items[item].label
    return label if kind == "train" else picture_label(label) if kind == "stills" else ""


def held_negatives(store: PixelStore) -> npt.NDArray[np.bool_]:
    """Every third camera of the footage that shows no action of a label."""
    sources = sorted({item.source for item in store.items})
    return np.array([sources.index(item.source) % 3 == 0 for item in store.items])


def known_joints(people: PixelStore, shared: Path, work: Path) -> npt.NDArray[np.float32]:
    """`people_joints`, looked at once: it opens every picture for its size."""
    path = work / JOINTS_FILE
    if not path.exists():
        with atomic_path(path) as part, open(part, "wb") as file:
            np.save(file, people_joints(people, shared / "people" / "joints.npz"))
    return np.asarray(np.load(path), np.float32)


def people_joints(store: PixelStore, table: Path) -> npt.NDArray[np.float32]:
    """Joints [N, JOINTS, 2] of `people`, 0 to 1 from the picture's left and top; NaN where one is not seen."""
    kept = np.load(table)
    rows = {str(name): row for row, name in enumerate(kept["names"])}
    joints = np.full((len(store), JOINTS, 2), np.nan, np.float32)
    for i, item in enumerate(store.items):
        found = kept["joints"][rows[item.path.stem]].astype(np.float32)
        size = picture_size(item.path)
        if max(size) > MAX_ASPECT * min(size):  # its ends are cut off in the store
            continue
        joints[i] = found[:, :2] / size
        joints[i][found[:, 2] == 0] = np.nan
    return joints


def picture_size(path: Path) -> tuple[int, int]:
    """Width and height of a picture."""
    import av  # noqa: PLC0415 - a machine that trains from packed pictures has none

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


def stage_one_views(
    footage: Footage,
    sets: Sequence[ViewSet],
    joints: npt.NDArray[np.float32],
    *,
    clips_named: bool = False,
    looks: Looks | None = None,
) -> tuple[Views, Tensor, Tensor, list[str]]:
    """The targets of stage 1, which views to learn from, which to watch, and the names of the views' labels.

    `joints` are those of `people`. Names are the folders', so that pictures of jump and clips of it stay apart. The
    names are the same whether clips are asked for theirs or not.
    """
    views = [view for part in sets for view in part.views]
    all_names = [view_name(footage, view) for view in views]
    names = [
        None if view.kind == "train" and not clips_named else name
        for view, name in zip(views, all_names, strict=True)
    ]
    known = sorted({name for name in all_names if name is not None})
    labels = torch.tensor([UNNAMED if name is None else known.index(name) for name in names])
    follow = torch.arange(len(views))
    for i, (view, after) in enumerate(pairwise(views)):
        if follows(footage, view, after):
            follow[i] = i + 1
    at = torch.full((len(views), JOINTS, 2), float("nan"))
    for i, view in enumerate(views):
        if view.kind == "people":
            top, left, height, width = view.box
            at[i] = torch.from_numpy((joints[view.item] - (left, top)) / (width, height))
    held = torch.tensor([bool(footage.held[view.kind][view.item]) for view in views])
    maps, pixels = Joined([part.maps for part in sets]), Joined([part.pixels for part in sets])
    some = np.sort(np.random.default_rng(0).permutation(len(views))[:2000])
    scale = float(np.sqrt((maps[some][..., :MAP_AXES].astype(np.float32) ** 2).mean()))
    moves = np.flatnonzero(follow.numpy() != np.arange(len(views)))
    moves = moves[:: max(1, len(moves) // 1000)]
    change = maps[moves + 1].astype(np.float32).mean((1, 2)) - maps[moves].astype(np.float32).mean((1, 2))
    spread = float(np.sqrt((change**2).mean()))
    files = [(view.kind, view.item) for view in views]
    number = {file: k for k, file in enumerate(dict.fromkeys(files))}
    one_file = torch.tensor([number[file] for file in files])
    kept = Views(pixels, maps, scale, spread, labels, follow, at, one_file, looks)
    return kept, torch.nonzero(~held).flatten(), torch.nonzero(held).flatten(), known


def view_name(footage: Footage, view: View) -> str | None:
    """The name that stage 1 may ask for, or None."""
    label = footage.stores[view.kind].items[view.item].label
    if view.kind == "train":
        return label
    if view.kind != "stills":
        return None
    return RELATED_PICTURES.get(label, f"{label} picture" if label in footage.clip_labels else label)


def follows(footage: Footage, view: View, after: View) -> bool:
    """Whether `after` shows a later moment of the same camera, seen whole as `view` is."""
    if view.kind != after.kind or view.box != after.box:
        return False
    if view.kind == "exercises":  # NAME__0 and NAME__1, the start and the end
        items = footage.stores["exercises"].items
        return view.item + 1 == after.item and items[view.item].source == items[after.item].source
    return view.item == after.item and view.frame < after.frame


def clip_frames(sets: ViewSet, kind: str) -> Tensor:
    """The teacher's pooled features of the whole frames of a folder's clips, [N, CLIP_FRAMES, C]."""
    rows = [i for i, view in enumerate(sets.views) if view.kind == kind]
    pooled = torch.from_numpy(sets.pooled[rows].astype(np.float32))
    return pooled.view(-1, CLIP_FRAMES, pooled.shape[1])
