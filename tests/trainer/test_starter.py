"""The starter's recipe: its data never crosses the split, its clips are the protocol's, its states survive."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.footage import disc_frame, make_video
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.swin.config import NONE_OF_THESE, SwinSizes
from vtag.trainer.recipes.starter import finish, fusion, gelu, pipeline, stage_one, states
from vtag.trainer.recipes.starter.__main__ import main
from vtag.trainer.recipes.starter.action_head import merge_head
from vtag.trainer.recipes.starter.clips import barred, camera_move, lit_rows, test_views, training_clip
from vtag.trainer.recipes.starter.data import (
    Item,
    clip_starts,
    frame_indices,
    held_pictures,
    held_sources,
    merged_labels,
    split_by_source,
)
from vtag.trainer.recipes.starter.fusion import mirror, motion_features, opinions
from vtag.trainer.recipes.starter.labels import all_labels
from vtag.trainer.recipes.starter.measure import average_precision, held_numbers
from vtag.trainer.recipes.starter.optim import LONGEST_STEP_S, Clock, Trainee, learning_rate, save_atomically
from vtag.trainer.recipes.starter.pose import FRAME_VALUES, LANDMARKS, Region, region_around, warp
from vtag.trainer.recipes.starter.scan_windows import scan_windows
from vtag.trainer.recipes.starter.store import PixelStore, write_store
from vtag.trainer.recipes.starter.student import Student
from vtag.trainer.recipes.starter.teacher import fuse_norms
from vtag.trainer.recipes.starter.tune import fit_head, mix, over_time

test_views.__test__ = False  # a function of the recipe, not a test

SMALL = SwinSizes(embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=3, patch_size=(2, 8, 8))


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), min_size=1, max_size=40),
    st.integers(0, 5),
)
def test_a_source_is_wholly_held_back_or_not_at_all(pairs: list[tuple[str, int]], seed: int) -> None:
    items = [Item(Path(f"{label}/{n}__0.mp4"), label, str(n)) for label, n in pairs]
    held = split_by_source(items, per_label=2, seed=seed)
    for label in {item.label for item in items}:
        sources = {item.source for item in items if item.label == label}
        assert len(sources & held) >= min(2, len(sources))
    assert held <= {item.source for item in items}
    assert held == split_by_source(items, per_label=2, seed=seed)


def test_labels_are_merged_only_where_all_their_parts_are_there() -> None:
    assert merged_labels(["jump", "sit", "stand"]) == (["jump", "sit_or_stand"], [0, 1, 1])
    assert merged_labels(["run", "sit"]) == (["run", "sit"], [0, 1])


def test_clips_start_where_the_reference_sampler_starts_them(shared: Path) -> None:
    table = json.loads((shared / "golden" / "paddle_example.json").read_text())["sampler_table"]
    for row in (r for r in table if r["clips"] == 4):
        assert clip_starts(row["frames"], length=32, clips=4) == row["first"], row["frames"]


def test_clips_of_the_reference_example_start_at_8_25_42_59() -> None:
    assert clip_starts(131, length=32, clips=4) == [8, 25, 42, 59]  # what PaddleVideo takes of its example
    assert clip_starts(63, length=32, clips=4) == [0, 0, 0, 0]


def test_indices_past_the_end_start_over() -> None:
    assert frame_indices(0, 5, length=8) == [0, 2, 4, 1, 3, 0, 2, 4]


@given(st.integers(1, 60), st.integers(20, 60), st.integers(20, 60), st.integers(0, 99))
def test_every_clip_has_the_network_s_shape_whatever_the_video_s(t: int, h: int, w: int, seed: int) -> None:
    footage = np.random.default_rng(seed).integers(0, 255, (t, h, w, 3), dtype=np.uint8)
    rng = np.random.default_rng(seed)
    assert training_clip(footage, rng, size=16).shape == (8, 16, 16, 3)
    assert camera_move(footage[:1], rng, size=16).shape == (8, 16, 16, 3)
    assert test_views(footage, size=16).shape == (12, 8, 16, 16, 3)


def test_time_is_never_turned_back() -> None:
    footage = np.arange(40, dtype=np.uint8).reshape(40, 1, 1, 1).repeat(20, 1).repeat(20, 2).repeat(3, 3)
    for seed in range(50):
        clip = training_clip(footage, np.random.default_rng(seed), size=16)
        assert (np.diff(clip[:, 8, 8, 0].astype(int)) >= 0).all()  # no black bar reaches the middle


def test_black_bars_are_cut_away_and_a_dark_scene_is_not() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(60, 255, (12, 50, 40, 3), dtype=np.uint8)
    behind = np.full((12, 70, 40, 3), 12, np.uint8)
    behind[:, 9:59] = scene
    assert lit_rows(behind) == slice(9, 59)
    assert lit_rows(scene) == slice(0, 50)
    assert lit_rows(behind // 8) == slice(0, 70)
    masked = [barred(scene[:8, :40], np.random.default_rng(seed)) for seed in range(20)]
    assert all(
        (clip == 0).any() and np.array_equal(clip[:, 8:32, 8:32], scene[:8, 8:32, 8:32]) for clip in masked
    )


def test_a_pause_is_not_training() -> None:
    clock = Clock(1000.0)
    clock._last -= 500.0
    assert clock.tick() < (LONGEST_STEP_S + 1) / 1000


def test_a_broken_run_goes_on_with_the_same_weights(tmp_path: Path) -> None:
    def steps(trainee: Trainee, first: int, last: int) -> None:
        for i in range(first, last):
            clips = torch.randn(2, 2, 112, 112, 3, generator=torch.Generator().manual_seed(i))
            trainee.step(trainee.model(clips.bfloat16()).logits.float().pow(2).sum(), 1e-2)

    def new() -> Trainee:
        torch.manual_seed(0)
        return Trainee(Student(SMALL), ema_decay=0.9)

    whole, first, second = new(), new(), new()
    steps(whole, 0, 4)
    steps(first, 0, 2)
    save_atomically(first.state(), tmp_path / "state.pt")
    second.load(torch.load(tmp_path / "state.pt", weights_only=False))
    steps(second, 2, 4)
    for name, weight in whole.master.items():
        assert torch.equal(weight, second.master[name]), name
        assert whole.ema is not None and second.ema is not None
        assert torch.equal(whole.ema[name], second.ema[name]), name


def test_a_head_learns_what_a_line_can_tell_apart() -> None:
    labels = torch.arange(90) % 3
    features = torch.eye(3)[labels] + 0.1 * torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    weight, bias = fit_head(features, labels, 3)
    assert ((features @ weight.T + bias).argmax(1) == labels).all()


def test_the_learning_rate_rises_and_falls() -> None:
    assert learning_rate(1.0, 0.0) < 0.1 < learning_rate(1.0, 0.04)
    assert learning_rate(1.0, 1.0) == pytest.approx(0.01)


def test_numbers_of_held_back_clips_count_merged_labels_as_one() -> None:
    shares = np.array([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6], [0.2, 0.6, 0.2]], np.float32)
    numbers = held_numbers(shares, np.array([0, 1, 1]), ["jump", "sit", "stand"])
    assert numbers.top1 == pytest.approx(2 / 3) and numbers.merged_top1 == 1
    assert numbers.mean_precision == pytest.approx(11 / 12)  # the first clip is as much a sit as the second
    assert numbers.top5 == numbers.merged_precision == 1


def test_average_precision_is_the_mean_at_the_right_ranks() -> None:
    assert average_precision(np.array([4, 3, 2, 1.0]), np.array([True, False, True, False])) == pytest.approx(
        5 / 6
    )


def test_a_merged_class_gets_the_shares_of_its_parts() -> None:
    features, weight, bias = torch.randn(5, 4), torch.randn(3, 4), torch.randn(3)
    weight[1], bias[1] = weight[0], bias[0]  # twins
    shares = torch.softmax(features @ weight.T + bias, -1)
    merged, offset = merge_head(weight, bias, torch.tensor([0, 0, 1]))
    got = torch.softmax(features @ merged.T + offset, -1)
    assert torch.allclose(got, torch.stack([shares[:, 0] + shares[:, 1], shares[:, 2]], 1), atol=1e-6)


def test_the_windows_of_a_scan_reach_the_end() -> None:
    footage = np.zeros((81, 20, 30, 3), np.uint8)
    footage[-1] = 255
    windows = scan_windows(footage)
    assert windows.shape == (3, 8, 112, 112, 3)
    assert windows[-1, -1].min() == 255


@given(st.integers(0, 1000))
def test_mixed_clips_show_what_their_parts_show(seed: int) -> None:
    targets = torch.eye(4)
    clips = targets[:, None, None, None, :].expand(-1, 2, 16, 16, -1).contiguous()  # channel k shows class k
    mixed, shares = mix(clips, targets, torch.Generator().manual_seed(seed))
    assert torch.allclose(mixed.mean((1, 2, 3)), shares, atol=1e-5)


def no_trees(motion: object, mirrored: object, labels: object, classes: int, *rest: object) -> torch.Tensor:
    """Stands for scikit-learn, which is no dependency: knows nothing of any clip."""
    asked = np.asarray(rest[1])
    return torch.full((int(asked.sum()), classes), 1 / classes)


def test_opinions_come_from_clips_of_other_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion, "_trees", no_trees)
    labels = torch.arange(40) % 2
    sources = [f"s{i // 4}" for i in range(40)]
    own = torch.zeros(40, 4, 10)
    own[torch.arange(40), :, torch.arange(40) // 4] = 5.0  # tells the sources apart and nothing else
    unseen = torch.arange(40) >= 36
    motion = np.zeros((40, 3), np.float32)
    said = opinions(own, motion, motion, labels, sources, 2, unseen=unseen).both
    assert torch.allclose(said, torch.full((40, 2), 0.5), atol=0.1)
    telling = torch.eye(2)[labels][:, None].expand(-1, 4, -1)
    said = opinions(telling, motion, motion, labels, sources, 2, unseen=unseen).both
    assert (said.argmax(1) == labels).all()


def body(x: float) -> np.ndarray:
    """Frames of a person at `x` whose right hand (a landmark of an even number) goes up."""
    rng = np.random.default_rng(0)
    frames = np.zeros((8, FRAME_VALUES), np.float32)
    points = frames[:, : 4 * LANDMARKS].reshape(8, LANDMARKS, 4)
    points[..., :2] = rng.uniform(0, 20, (LANDMARKS, 2)) + np.array([x, 40])
    points[:, 16, 1] -= np.arange(8) * 5
    points[..., 2:] = 1
    frames[:, 4 * LANDMARKS] = 0.9
    return frames


def test_motion_is_that_of_the_body_wherever_it_is() -> None:
    here, there = (motion_features(body(x), (200, 200)) for x in (20.0, 120.0))
    assert np.isclose(here, there, atol=1e-3).mean() > 0.97  # all but where in the picture it is
    assert np.allclose(mirror(mirror(body(20.0), 200), 200), body(20.0), atol=1e-4)
    assert not np.allclose(motion_features(mirror(body(20.0), 200), (200, 200)), here)
    nobody = motion_features(np.zeros((8, FRAME_VALUES), np.float32), (200, 200))
    assert nobody.shape == here.shape and np.isfinite(nobody).all()


def test_a_region_stands_a_person_upright() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    picture[48:53, 80:90] = 255  # the head of a person who lies, to the right of the hips
    region = region_around(np.array([50.0, 50.0], np.float32), np.array([90.0, 50.0], np.float32))
    upright = warp(picture, region, 100)[..., 0]
    rows, columns = np.nonzero(upright > 0.5)
    assert rows.max() < 30 and abs(columns.mean() - 49.5) < 3
    origin, sides = Region(50, 50, 100, 0.0).corners()
    assert np.allclose(origin, 0) and np.allclose(sides, 100 * np.eye(2))


def test_folded_norms_answer_as_the_norms_did() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU())
    pictures = torch.randn(8, 3, 9, 9)
    network(pictures)
    network.eval()
    wanted = network(pictures)
    fuse_norms(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(network(pictures), wanted, atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="the quick GELU is compiled")
def test_the_quick_gelu_is_gelu() -> None:
    x = torch.linspace(-6, 6, 999)
    quick, exact = x.bfloat16().requires_grad_(), x.bfloat16().float().requires_grad_()
    gelu.gelu(quick).sum().backward()
    torch.nn.functional.gelu(exact).sum().backward()
    wanted = torch.nn.functional.gelu(exact)
    assert torch.allclose(gelu.gelu(quick).float(), wanted, rtol=1e-2, atol=1e-4)
    assert quick.grad is not None and exact.grad is not None
    assert torch.allclose(quick.grad.float(), exact.grad, rtol=1e-2, atol=1e-3)


def test_stored_pixels_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    items = [Item(Path(f"a/{n}__0.mp4"), "a", str(n)) for n in range(3)]
    footage = [rng.integers(0, 255, (n + 1, 5, 4 + n, 3), dtype=np.uint8) for n in range(3)]
    write_store(tmp_path / "some.pixels", items, footage)
    store = PixelStore(tmp_path / "some.pixels")
    assert store.items == items and len(store) == 3
    assert all(np.array_equal(kept, pixels) for kept, pixels in zip(store, footage, strict=True))


def test_what_came_later_does_not_change_what_is_held_back() -> None:
    first = [
        Item(Path(f"{label}/{n}__0.mp4"), label, f"{label}{n}") for label in ("run", "walk") for n in range(9)
    ]
    later = [Item(Path(f"push_up/{n}__0.mp4"), "push_up", f"p{n}") for n in range(20)]
    places = [Item(Path("walk/ut-1__0.mp4"), "walk", "ut-1"), Item(Path("hugging/a__0.mp4"), "hugging", "a")]
    held = held_sources([*first, *later, *places], seed=0)
    assert held_sources(first, seed=0) == {source for source in held if source[0] != "p"}
    assert len([source for source in held if source[0] == "p"]) == 8


def test_every_eighth_picture_of_a_folder_is_held_back() -> None:
    items = [Item(Path(f"{label}/{n}.jpg"), label, str(n)) for label in "ab" for n in range(10)]
    assert np.flatnonzero(held_pictures(items)).tolist() == [0, 8, 10, 18]
    pairs = [Item(Path(f"exercises/{n}__{k}.jpg"), "exercises", str(n)) for n in range(10) for k in (0, 1)]
    assert np.flatnonzero(held_pictures(pairs)).tolist() == [0, 1, 16, 17]  # never one of two


def test_pictures_teach_labels_of_clips_or_of_their_own() -> None:
    assert all_labels(["wave", "shoot_gun"], ["wave", "shooting", "cooking"]) == [
        "shoot_gun",
        "wave",
        "cooking",
    ]


def test_features_over_time_tell_a_change_from_its_reverse() -> None:
    frames = torch.rand(3, 8, 5)
    there, back = over_time(frames), over_time(frames.flip(1))
    assert there.shape == (3, 15)
    assert torch.allclose(there[:, :10], back[:, :10], atol=1e-6)
    assert torch.allclose(there[:, 10:], -back[:, 10:], atol=1e-6)


class Eye(torch.nn.Module):
    """Stands for the teacher, which is no dependency: a network of one layer that nobody taught anything."""

    def __init__(self) -> None:
        super().__init__()
        self.look = torch.nn.Conv2d(3, 1280, 32, 32, dtype=torch.bfloat16)

    def extract_features(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.look(pictures)


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """A folder as the recipe wants it: clips of two actions from four videos each, pictures, and other footage."""
    for label in ("hitting_baseball", "wave"):
        for n in range(12):
            clip = tmp_path / "train" / label / f"{label}{n % 4}__{n}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            make_video(clip, seconds=1, width=64, height=48, seed=n % 4 + (label == "wave"))
    (tmp_path / "clips").mkdir()
    (tmp_path / "negatives" / "street").mkdir(parents=True)
    for name in (
        "clips/wave__1.mp4",
        "clips/plant__2.mp4",
        "negatives/street/a__0.mp4",
        "negatives/street/b__0.mp4",
    ):
        make_video(tmp_path / name, seconds=2, width=64, height=48)
    folders = ["stills/baseball", "stills/wave", "stills/cooking", "people", "scenes", "exercises"]
    for folder in folders:
        for n in range(10):
            path = tmp_path / folder / (f"{n // 2}__{n % 2}.jpg" if folder == "exercises" else f"{n}.jpg")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(disc_frame(n, 64, 48, seed=n)).save(path)
    joints = np.ones((10, 14, 3), np.float16)
    np.savez(tmp_path / "people" / "joints.npz", names=np.array([str(n) for n in range(10)]), joints=joints)
    return tmp_path


@pytest.mark.slow
def test_one_command_makes_a_model_and_goes_on_where_it_was_broken(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sizes(classes: int) -> SwinSizes:
        return SwinSizes(
            embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 2), num_classes=classes, patch_size=(2, 8, 8)
        )

    monkeypatch.setattr(pipeline, "load_teacher", lambda device: Eye().eval())
    monkeypatch.setattr(fusion, "_trees", no_trees)
    monkeypatch.setattr(shutil, "which", lambda name: None)  # nothing is compiled
    for module in (stage_one, states, pipeline, finish):
        monkeypatch.setattr(module, "student_sizes", sizes)
    work, out = material / "work", material / "starter"
    work.mkdir()
    for kind, clips in (("train", 24), ("negatives", 2)):  # the teacher of motion is no dependency either
        np.save(work / f"pose-{kind}.npy", np.zeros((clips, 8, FRAME_VALUES), np.float32))
    command = [
        "--shared",
        str(material),
        "--work",
        str(work),
        "--out",
        str(out),
        "--device",
        "cpu",
        "--threads",
        "1",
    ]
    for stage in ("name", "imitate", "look", "tune"):
        command += [f"--{stage}-minutes", "0.02"]
    main(["views", "name", "imitate", "pack", *command])
    lent = material / "lent"  # a machine that has the packed file alone
    lent.mkdir()
    shutil.copy(work / "stage1.zip", lent)
    there = [*command, "--shared", str(lent), "--work", str(lent), "--imitate-minutes", "0.01"]
    main(["unpack", "views", "imitate", *there])
    same, packed = (torch.load(folder / "imitate.pt", weights_only=False) for folder in (work, lent))
    shapes = [{n: p.shape for n, p in state["trainee"]["master"].items()} for state in (same, packed)]
    assert shapes[0] == shapes[1] and packed["count"] > 0
    first = torch.load(work / "imitate.pt", weights_only=False)
    main(command)
    again = torch.load(work / "imitate.pt", weights_only=False)
    assert again["spent_s"] >= first["spent_s"] >= 1.2 and again["count"] >= first["count"] > 0
    main(["tune", "release", "--tuned", *command])
    tuned = load_checkpoint(out)
    main(["release", *command])
    made = load_checkpoint(out)
    assert made.spec.backbone_hash != tuned.spec.backbone_hash
    assert set(made.spec.labels) - {"cooking"} == {"hitting baseball", "wave", NONE_OF_THESE}
    assert set(made.spec.label_thresholds) == set(made.spec.labels) - {NONE_OF_THESE}
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers["held_back"]["sources"] == 4 and numbers["held_back"]["clips"] == 12
    assert numbers["other_footage"]["videos"] == 2
    assert numbers["other_footage"]["videos_of_known_actions"] == 1
    assert set(numbers["pictures"]) == {"cooking", "hitting baseball"}
    (out / "README.md").write_text("the card")
    weights = (out / "model.safetensors").read_bytes()
    main(["sure", *command])
    assert (out / "model.safetensors").read_bytes() == weights and (
        out / "README.md"
    ).read_text() == "the card"
    assert json.loads((out / "numbers.json").read_text())["pictures"] == numbers["pictures"]
