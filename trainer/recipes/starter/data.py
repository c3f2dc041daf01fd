"""The pixels and labels the starter is made from: clips and stills decoded once, split by source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]

SHORT_SIDE = 144  # pixels: the clips and stills are stored at this size
MOST_FRAMES = 150  # 4 s at up to 37 frames a second
MAX_ASPECT = 2.0  # longer pictures are cut at their ends, so that one wide still cannot fill the cache

# What the network takes for its twin as often as for itself, and whose common name a person can still use.
MERGED = {"sit_or_stand": ("sit", "stand"), "walk_or_run": ("walk", "run")}
TRAIN_ONLY = ("ut-", "weizmann-")  # sources of one or two places: nothing is measured on them
# Labels that came later, with the sources to hold back of each: drawn apart, so that the draw among the first 24
# labels stays as it was and numbers of older models compare.
LATER_LABELS = {"push_up": 8, "hugging": 0, "shaking_hands": 0}
HELD_SOURCES = 2  # of each of the first labels
HELD_PICTURES = 8  # the pictures of every eighth source of a folder are never taught


@dataclass(frozen=True)
class Item:
    """One clip or still: where it lies, its folder's name, and the video it was cut from."""

    path: Path
    label: str
    source: str


def merged_labels(labels: Sequence[str]) -> tuple[list[str], list[int]]:
    """The labels that are shipped, sorted, and for each of `labels` the index of what it became."""
    became = {part: name for name, parts in MERGED.items() if set(parts) <= set(labels) for part in parts}
    shipped = sorted({became.get(label, label) for label in labels})
    return shipped, [shipped.index(became.get(label, label)) for label in labels]


def list_items(folder: Path, pattern: str) -> list[Item]:
    """The files `<label>/<source>__<n>` (or `<label>/<name>`) below `folder`, in a fixed order."""
    return [Item(path, path.parent.name, path.stem.split("__")[0]) for path in sorted(folder.glob(pattern))]


def split_by_source(items: Sequence[Item], *, per_label: int, seed: int) -> set[str]:
    """The sources to hold back: `per_label` of each label, drawn with `seed`; never half a source."""
    rng = np.random.default_rng(seed)
    held: set[str] = set()
    for label in sorted({item.label for item in items}):
        sources = sorted({item.source for item in items if item.label == label})
        missing = per_label - sum(source in held for source in sources)
        free = [source for source in sources if source not in held]
        held.update(free[i] for i in rng.permutation(len(free))[: max(missing, 0)])
    return held


def held_sources(items: Sequence[Item], *, seed: int) -> set[str]:
    """The sources of `items` that nothing is taught from: what the recipe is measured on."""
    free = [item for item in items if not item.source.startswith(TRAIN_ONLY)]
    held = split_by_source(
        [item for item in free if item.label not in LATER_LABELS], per_label=HELD_SOURCES, seed=seed
    )
    for label, count in LATER_LABELS.items():
        held |= split_by_source([item for item in free if item.label == label], per_label=count, seed=seed)
    return held


def held_pictures(items: Sequence[Item]) -> npt.NDArray[np.bool_]:
    """Which pictures are never taught: those of every HELD_PICTURES-th source of each folder.

    The start and the end of an exercise are of one source; other pictures have one each.
    """
    seen: dict[str, dict[str, int]] = {}
    held = []
    for item in items:
        sources = seen.setdefault(item.label, {})
        held.append(sources.setdefault(item.source, len(sources)) % HELD_PICTURES == 0)
    return np.array(held)


def decode(path: Path, *, most: int) -> Pixels:
    """The first `most` frames of a video or still as RGB, short side SHORT_SIDE: uint8 [T, H, W, 3]."""
    frames = []
    import av  # noqa: PLC0415 - a machine that trains from packed pictures has none

    with av.open(str(path), metadata_errors="replace") as container:
        container.streams.video[0].thread_type = "AUTO"
        for frame in container.decode(video=0):
            scale = SHORT_SIDE / min(frame.width, frame.height)
            width, height = round(frame.width * scale), round(frame.height * scale)
            picture = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="BICUBIC")
            frames.append(_bounded(np.asarray(picture, np.uint8)))
            if len(frames) >= most:
                break
    return np.stack(frames)


def _bounded(picture: Pixels) -> Pixels:
    """The middle of `picture` [H, W, 3], no side longer than MAX_ASPECT short sides."""
    most = int(SHORT_SIDE * MAX_ASPECT)
    top, left = (max(0, (size - most) // 2) for size in picture.shape[:2])
    return picture[top : top + most, left : left + most]


def clip_starts(frames: int, *, length: int, clips: int, step: int = 2) -> list[int]:
    """First frames of `clips` test clips of `length` frames, every `step`-th, as PaddleVideo's sampler."""
    span = length * step
    if frames < span:
        return [0] * clips
    gap = (frames - span + 1) / clips
    return [int(i * gap + gap / 2) for i in range(clips)]


def frame_indices(start: int, frames: int, *, length: int, step: float = 2) -> list[int]:
    """The frames of a clip, every `step`-th; past the end they start over."""
    return [int(start + i * step) % frames for i in range(length)]
