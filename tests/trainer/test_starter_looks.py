"""What the starter's recipe learns from beside maps and names: what views look like, and what weighs how much."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from vtag.trainer.recipes.starter.data import Item
from vtag.trainer.recipes.starter.head import OTHERS, PICTURES, RELATED, even_weights
from vtag.trainer.recipes.starter.looks import OPINION, Looks
from vtag.trainer.recipes.starter.material import Footage
from vtag.trainer.recipes.starter.probes import find_looks
from vtag.trainer.recipes.starter.states import mean_weights
from vtag.trainer.recipes.starter.store import PixelStore, write_store
from vtag.trainer.recipes.starter.views import AXES, CHANNELS, View, ViewSet

CLIPS, FRAMES = 40, 2


def some_footage(folder: Path) -> Footage:
    """Clips of ten videos that show two actions in turn, the last video held back, and four pictures."""
    clips = [Item(Path(f"{'ab'[n % 2]}/s{n // 4}__{n}.mp4"), "ab"[n % 2], f"s{n // 4}") for n in range(CLIPS)]
    pictures = [Item(Path(f"scenes/{n}.jpg"), "scenes", str(n)) for n in range(4)]
    stores = {}
    for kind, items in (("train", clips), ("scenes", pictures)):
        write_store(folder / f"{kind}.pixels", items, [np.zeros((1, 4, 4, 3), np.uint8)] * len(items))
        stores[kind] = PixelStore(folder / f"{kind}.pixels")
    held = {"train": np.arange(CLIPS) >= CLIPS - 4, "scenes": np.zeros(4, bool)}
    return Footage(stores, held, ["a", "b"])


def shown(telling: np.ndarray) -> ViewSet:
    """The views of `some_footage`: each clip has FRAMES; axis `telling[clip]` of its map is high."""
    views = [View("train", n, frame) for n in range(CLIPS) for frame in range(FRAMES)]
    maps = np.zeros((len(views) + 4, 7, 7, AXES), np.float16)
    for row, view in enumerate(views):
        maps[row, :, :, telling[view.item]] = 3
    views += [View("scenes", n) for n in range(4)]
    maps[-4:-2, :, :, 0] = maps[-2:, :, :, 1] = 3
    count = len(views)
    return ViewSet(views, np.zeros((count, 4, 4, 3), np.uint8), maps, np.zeros((count, CHANNELS), np.float16))


def say(looks: Looks, views: ViewSet) -> torch.Tensor:
    """What all views look like, seen whole."""
    pooled = torch.from_numpy(views.maps.astype(np.float32)).mean((1, 2))
    every = torch.arange(len(views.views))
    return looks.shares(pooled, every, torch.ones(len(every), dtype=torch.bool))


def test_a_view_looks_like_what_clips_of_other_sources_look_like(tmp_path: Path) -> None:
    footage = some_footage(tmp_path)
    nobody = torch.zeros(CLIPS, 2)
    truth = np.arange(CLIPS) % 2
    views = shown(truth)
    said = say(find_looks(footage, [views], nobody), views)
    assert (said[:-4].argmax(1) == torch.from_numpy(truth).repeat_interleave(FRAMES)).all()
    assert said[-4:].argmax(1).tolist() == [0, 0, 1, 1]  # pictures too, whose action nobody says
    own = shown(2 + np.arange(CLIPS))  # each clip is known by its look, and its action is not
    said = say(find_looks(footage, [own], nobody), own)
    assert torch.allclose(said[:-4], torch.full((CLIPS * FRAMES, 2), 0.5), atol=0.1)


def test_what_the_teachers_think_of_a_clip_counts_where_it_is_seen_whole() -> None:
    opinions = torch.tensor([[0.9, 0.1], [0.0, 0.0]])
    looks = Looks(torch.zeros(2, dtype=torch.int64), opinions, torch.zeros(1, 2, 3), torch.zeros(1, 2))
    chosen = torch.tensor([0, 0, 1])
    said = looks.shares(torch.rand(3, 3), chosen, torch.tensor([True, False, True]))
    mixed = (1 - OPINION) * 0.5 + OPINION * opinions[0]
    assert torch.allclose(said, torch.stack([mixed, torch.full((2,), 0.5), torch.full((2,), 0.5)]))


def test_the_mean_of_networks_is_that_of_their_weights() -> None:
    mean = mean_weights([{"a": torch.ones(2)}, {"a": torch.full((2,), 4.0)}, {"a": torch.ones(2)}])
    assert torch.equal(mean["a"], torch.full((2,), 2.0))


def test_labels_weigh_the_same_and_many_clips_of_a_source_less() -> None:
    truth = np.array(
        [0, 0, 0, 0, 0, 1, 1, 1, 2, 2, 3]
    )  # six clips of two labels, then pictures and one of no label
    weights = even_weights(truth, ["s", "s", "s", "s", "t", "s"], none=3)
    sums = np.bincount(truth, weights)
    assert np.allclose(sums / sums[0], [1, 1 + RELATED * PICTURES, PICTURES, OTHERS])
    assert np.allclose(weights[:4], weights[0]) and np.isclose(weights[:4].sum(), 2 * weights[4])
    assert np.isclose(weights.sum(), 1)
