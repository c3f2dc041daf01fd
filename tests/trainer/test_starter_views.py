"""Stage 1 of the starter's recipe: views and their parts, what a batch shows, and the student."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.swin.config import SwinSizes
from vtag.trainer.recipes.starter.data import Item
from vtag.trainer.recipes.starter.imitate import (
    JOINTS,
    OF_FILE,
    Views,
    batches,
    blur,
    count_earlier,
    cut_parts,
    joint_places,
    make_batch,
    paste,
    random_parts,
    shake,
)
from vtag.trainer.recipes.starter.material import Footage, view_name
from vtag.trainer.recipes.starter.pack import some_frames, squeeze, unsqueeze
from vtag.trainer.recipes.starter.pipeline import average
from vtag.trainer.recipes.starter.store import PixelStore, write_store
from vtag.trainer.recipes.starter.student import Student, part_moments, plain_attention
from vtag.trainer.recipes.starter.views import Joined, View, cut, random_box

SMALL = SwinSizes(embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=3, patch_size=(2, 8, 8))


def test_a_part_of_a_view_and_of_its_map_is_the_same_part() -> None:
    across = torch.linspace(-1, 1, 112)  # a slope of another direction in each view
    slopes = torch.randn(2, 6, 1, 1, generator=torch.Generator().manual_seed(0))
    views = (slopes[0] * across + slopes[1] * across[:, None])[..., None]
    maps = torch.nn.functional.avg_pool2d(views.permute(0, 3, 1, 2), 16).permute(0, 2, 3, 1)
    parts = random_parts(6, torch.Generator().manual_seed(0))
    cut, of_map = cut_parts(views, parts, 112), cut_parts(maps, parts, 7)
    seen = torch.nn.functional.avg_pool2d(cut.permute(0, 3, 1, 2), 16).permute(0, 2, 3, 1)
    assert torch.corrcoef(torch.stack([seen.flatten(), of_map.flatten()]))[0, 1] > 0.98
    whole = torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    assert torch.allclose(cut_parts(views[:1], whole, 112), views[:1].flip(2), atol=1e-5)


@given(st.integers(0, 1000))
def test_a_part_of_another_view_brings_its_part_of_the_map(seed: int) -> None:
    maps = torch.rand(5, 2, 7, 7, 3, generator=torch.Generator().manual_seed(seed))
    pixels = maps.repeat_interleave(16, 2).repeat_interleave(16, 3)
    before = maps.clone()
    whole = paste(pixels, maps, torch.Generator().manual_seed(seed))
    assert torch.equal(pixels, maps.repeat_interleave(16, 2).repeat_interleave(16, 3))
    same = (maps == before).all(-1).float().mean((1, 2, 3))
    assert (same >= 24 / 49 - 1e-6).all()  # most of each stays
    assert (same[whole] == 1).all()


def test_joints_stay_where_they_are_when_a_view_is_cut() -> None:
    joints = torch.tensor([[[0.25, 0.5], [0.9, 0.9], [float("nan"), 0.5]]])
    whole = torch.tensor([[[1.0, 0, 0], [0, 1, 0]]])
    places = joint_places(joints, whole, cells=2)[0]
    assert torch.allclose(places[0], torch.tensor([0.5, 0, 0.5, 0]))  # left, between above and below
    assert torch.allclose(places[1], torch.tensor([0.0, 0, 0, 1])) and places[2].sum() == 0
    left = torch.tensor([[[-0.5, 0, -0.5], [0, 1, 0]]])  # the left half in a mirror
    cut_places = joint_places(joints, left, cells=2)[0]
    assert torch.allclose(cut_places[0], torch.full((4,), 0.25)) and cut_places[1].sum() == 0


def test_joined_arrays_read_as_one() -> None:
    parts = [np.arange(6).reshape(3, 2), np.arange(6, 14).reshape(4, 2)]
    rows = np.array([6, 0, 3, 3, 2])
    assert len(Joined(parts)) == 7 and np.array_equal(Joined(parts)[rows], np.concatenate(parts)[rows])


@given(st.integers(2, 90), st.integers(2, 90), st.integers(0, 99))
def test_a_random_part_lies_in_its_picture(height: int, width: int, seed: int) -> None:
    top, left, h, w = random_box((height, width), np.random.default_rng(seed), least=0.2)
    assert 0 <= top <= top + h <= 1 + 1e-6 and 0 <= left <= left + w <= 1 + 1e-6
    assert cut(np.zeros((2, height, width, 3), np.uint8), (top, left, h, w), size=16).shape == (2, 16, 16, 3)


def test_the_student_answers_as_the_network_that_is_saved() -> None:
    student = Student(SMALL).eval()
    clips = torch.randn(2, 4, 112, 112, 3)
    seen = student(clips)
    assert torch.allclose(seen.logits, student.swin(clips), atol=1e-5)
    assert seen.middle.shape == (2, 2, 7, 7, 16)


def test_plain_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 4, 2, 7, 8).unbind()
    bias = torch.randn(1, 2, 7, 7)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, bias)
    assert torch.allclose(plain_attention(q, k, v, bias), wanted, atol=1e-5)


def test_a_clip_is_seen_as_the_mean_of_its_moments() -> None:
    torch.manual_seed(0)
    student = Student(SMALL).eval()
    clips = torch.randn(2, 8, 112, 112, 3)
    moments = clips.unflatten(1, (4, 2)).flatten(0, 1)
    with torch.no_grad():
        one = student(moments).features.unflatten(0, (2, 4)).mean(1)
        before = student(clips).features
        part_moments(student.swin)
        assert torch.allclose(student(clips).features, one, atol=1e-4)
        assert not torch.allclose(before, one, atol=1e-4)
        assert torch.allclose(student(moments).features.unflatten(0, (2, 4)).mean(1), one, atol=1e-4)


def some_views(files: list[int]) -> Views:
    """Views of noise, each labelled with its file."""
    rng = np.random.default_rng(0)
    count = len(files)
    return Views(
        pixels=Joined([rng.integers(0, 255, (count, 28, 28, 3), dtype=np.uint8)]),
        maps=Joined([rng.normal(size=(count, 7, 7, 256)).astype(np.float16)]),
        map_scale=1.0,
        change_scale=1.0,
        labels=torch.tensor(files),
        follow=torch.arange(count),
        joints=torch.full((count, JOINTS, 2), float("nan")),
        files=torch.tensor(files),
    )


def test_a_pass_shows_few_views_of_a_clip_and_every_picture() -> None:
    files = [0] * 20 + [1] * 7 + list(range(2, 40))
    views = some_views(files)
    shown = batches(
        views,
        torch.arange(len(files)),
        4,
        torch.Generator().manual_seed(0),
        crop=28,
        device=torch.device("cpu"),
    )
    seen = torch.cat([next(shown).labels for _ in range((38 + 2 * OF_FILE) // 4)])
    assert torch.bincount(seen).tolist() == [OF_FILE, OF_FILE] + [1] * 38
    assert count_earlier(torch.tensor([3, 1, 3, 3, 1, 2])).tolist() == [0, 0, 1, 2, 1, 0]


def test_a_moving_camera_films_some_pictures_and_moves_their_maps() -> None:
    batch = make_batch(
        some_views(list(range(64))),
        torch.arange(64),
        torch.Generator().manual_seed(0),
        crop=28,
        device=torch.device("cpu"),
    )
    still = (batch.clips[:, 0] == batch.clips[:, 1]).flatten(1).all(1)
    assert 16 < int(still.sum()) < 48 and not batch.moves.any()


def test_some_views_are_blurred_and_stay_where_they_are() -> None:
    generator = torch.Generator().manual_seed(0)
    sharp = torch.rand(20, 2, 56, 56, 3, generator=generator)
    seen = sharp.clone()
    blur(seen, generator)
    same = (seen == sharp).flatten(1).all(1)
    assert int(same.sum()) == 14
    assert torch.allclose(seen.mean((1, 2, 3)), sharp.mean((1, 2, 3)), atol=0.02)
    assert (seen[~same].std() < 0.8 * sharp[~same].std()).all()


def test_a_packed_clip_comes_back_smaller() -> None:
    slope = np.linspace(0, 250, 144).astype(np.uint8)
    clip = np.stack([np.full((144, 200, 3), n, np.uint8) for n in range(0, 90, 10)])
    clip[..., 0] = slope[:, None]
    frames = some_frames(clip)
    back = unsqueeze(squeeze(frames), len(frames))
    assert back.shape == (2, 96, 133, 3)
    assert np.abs(back[..., 1].mean((1, 2)) - [30, 50]).max() < 6
    assert np.corrcoef(back[0, :, 60, 0], np.linspace(0, 250, 96))[0, 1] > 0.99
    assert some_frames(clip[:1]).shape == (1, 144, 200, 3)


@given(st.integers(0, 1000))
def test_a_moving_camera_stays_in_the_picture(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    before = random_parts(9, generator)
    after = shake(before, generator)
    size = [part[:, :, :2].diagonal(dim1=-2, dim2=-1) for part in (before, after)]
    assert torch.equal(size[0].sign(), size[1].sign())
    assert (after[:, :, 2].abs() + size[1].abs() <= 1 + 1e-5).all()
    assert (before - after).abs().max() <= 0.25


def test_a_clip_has_another_name_than_a_photograph_of_it(tmp_path: Path) -> None:
    folders = {"train": ["wave"], "stills": ["wave", "cooking", "applauding"], "people": ["people"]}
    stores = {}
    for kind, labels in folders.items():
        items = [Item(Path(f"{label}/{n}.jpg"), label, str(n)) for n, label in enumerate(labels)]
        write_store(tmp_path / f"{kind}.pixels", items, [np.zeros((1, 4, 4, 3), np.uint8)] * len(items))
        stores[kind] = PixelStore(tmp_path / f"{kind}.pixels")
    footage = Footage(stores, {}, ["wave", "cooking"])
    names = {kind: [view_name(footage, View(kind, n)) for n in range(len(folders[kind]))] for kind in folders}
    assert names == {"train": ["wave"], "stills": ["wave picture", "cooking", "clapping"], "people": [None]}


def test_the_mean_of_students_keeps_the_head_of_the_one_it_becomes() -> None:
    torch.manual_seed(0)
    last, named = (Student(SMALL).eval().requires_grad_(False) for _ in range(2))
    head = last.swin.head.weight.clone()
    wanted = torch.lerp(last.swin.norm.weight, named.swin.norm.weight.fill_(3), 0.25)
    average(last, [(copy.deepcopy(last), 0.6), (named, 0.2)])  # the shares of two of three parts
    assert torch.equal(last.swin.head.weight, head) and torch.allclose(last.swin.norm.weight, wanted)
    clips = torch.randn(1, 8, 112, 112, 3)
    with torch.no_grad():
        moments = last(clips.unflatten(1, (4, 2)).flatten(0, 1)).features
        assert torch.allclose(last(clips).features, moments.mean(0, keepdim=True), atol=1e-4)
