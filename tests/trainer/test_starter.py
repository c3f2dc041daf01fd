"""The starter's recipe: its data never crosses the split, its clips are the protocol's, its states survive."""

from __future__ import annotations

import json
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
from vtag.trainer.recipes.starter import finish, pipeline, views
from vtag.trainer.recipes.starter.__main__ import main
from vtag.trainer.recipes.starter.clips import barred, camera_move, test_views, training_clip, without_bars
from vtag.trainer.recipes.starter.data import Item, clip_starts, frame_indices, merged_labels, split_by_source
from vtag.trainer.recipes.starter.head import merge_head, said_with_hindsight, strangers, thresholds
from vtag.trainer.recipes.starter.imitate import cut_parts, patch, random_parts
from vtag.trainer.recipes.starter.optim import LONGEST_STEP_S, Clock, Trainee, learning_rate, save_atomically
from vtag.trainer.recipes.starter.release import scan_windows, top1
from vtag.trainer.recipes.starter.student import Student, plain_attention
from vtag.trainer.recipes.starter.tune import fit_head, mix, over_time, soft_labels

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
    assert np.array_equal(without_bars(behind), scene)
    assert np.array_equal(without_bars(scene), scene)
    assert without_bars(behind // 8).shape == behind.shape
    masked = [barred(scene[:8, :40], np.random.default_rng(seed)) for seed in range(20)]
    assert all(
        (clip == 0).any() and np.array_equal(clip[:, 8:32, 8:32], scene[:8, 8:32, 8:32]) for clip in masked
    )


def test_a_pause_is_not_training() -> None:
    clock = Clock(1000.0)
    clock._last -= 500.0
    assert clock.tick() < (LONGEST_STEP_S + 1) / 1000


def test_the_student_answers_as_the_network_that_is_saved() -> None:
    student = Student(SMALL).eval()
    clips = torch.randn(2, 4, 112, 112, 3)
    seen = student(clips)
    assert torch.allclose(seen.logits, student.swin(clips), atol=1e-5)
    assert seen.middle.shape == (2, 2, 7, 7, 16)


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


def test_accuracy_counts_what_was_asked_for_alone() -> None:
    logits = torch.tensor([[[2.0, 1, 9]], [[0.0, 1, 9]], [[3.0, 1, 0]]])  # the third class is not asked for
    assert top1(logits, torch.tensor([0, 1, 1]), 2) == pytest.approx(2 / 3)


def test_a_head_that_lacks_an_action_shares_among_the_others() -> None:
    logits = torch.tensor([[3.0, 1, 1, 0], [0.0, 9, 0, 0]])
    seen = strangers(logits, np.array([0, 2]))
    assert np.isnan(seen).tolist() == [[True, False, False], [False, False, True]]
    assert seen[0, 1] == pytest.approx(np.e / (2 * np.e + 1))
    assert seen[1, 1] > 0.99


def test_a_merged_class_gets_the_shares_of_its_parts() -> None:
    features, weight, bias = torch.randn(5, 4), torch.randn(3, 4), torch.randn(3)
    weight[1], bias[1] = weight[0], bias[0]  # twins
    shares = torch.softmax(features @ weight.T + bias, -1)
    merged, offset = merge_head(weight, bias, torch.tensor([0, 0, 1]))
    got = torch.softmax(features @ merged.T + offset, -1)
    assert torch.allclose(got, torch.stack([shares[:, 0] + shares[:, 1], shares[:, 2]], 1), atol=1e-6)


def test_hindsight_says_what_is_above_every_wrong_clip() -> None:
    shares = torch.tensor([[0.9, 0.1, 0.0], [0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.1, 0.2, 0.7]])
    # without their own action they say: (-, 1, 0), (-, 0.6, 0.4), (0.5, -, 0.5), (0.33, 0.67, -)
    assert said_with_hindsight(shares, np.array([0, 0, 1, 2])) == pytest.approx(2 / 4)


def test_louder_wrong_windows_raise_the_threshold_of_their_action_alone() -> None:
    rng = np.random.default_rng(0)
    wrong = rng.beta(1, 20, (2000, 2)).astype(np.float32)
    quiet = thresholds(wrong, ["run", "walk"])
    louder = thresholds(np.stack([wrong[:, 0], wrong[:, 1] ** 0.5], 1), ["run", "walk"])
    assert louder["run"] == quiet["run"] and louder["walk"] > quiet["walk"]
    assert set(quiet) == {"run", "walk"} and NONE_OF_THESE not in quiet


def test_the_windows_of_a_scan_reach_the_end() -> None:
    footage = np.zeros((81, 20, 30, 3), np.uint8)
    footage[-1] = 255
    windows = scan_windows(footage)
    assert windows.shape == (3, 8, 112, 112, 3)
    assert windows[-1, -1].min() == 255


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
    maps = torch.rand(5, 7, 7, 3, generator=torch.Generator().manual_seed(seed))
    pixels = maps.repeat_interleave(16, 1).repeat_interleave(16, 2)
    before = maps.clone()
    patch(pixels, maps, torch.Generator().manual_seed(seed))
    assert torch.equal(pixels, maps.repeat_interleave(16, 1).repeat_interleave(16, 2))
    assert ((maps == before).all(-1).float().mean((1, 2)) >= 24 / 49 - 1e-6).all()  # most of each stays


@given(st.integers(0, 1000))
def test_mixed_clips_show_what_their_parts_show(seed: int) -> None:
    targets = torch.eye(4)
    clips = targets[:, None, None, None, :].expand(-1, 2, 16, 16, -1).contiguous()  # channel k shows class k
    mixed, shares = mix(clips, targets, torch.Generator().manual_seed(seed))
    assert torch.allclose(mixed.mean((1, 2, 3)), shares, atol=1e-5)


def test_soft_labels_come_from_probes_that_did_not_see_the_source() -> None:
    labels = torch.arange(40) % 2
    sources = [f"s{i // 4}" for i in range(40)]
    own = torch.zeros(40, 10)
    own[torch.arange(40), torch.arange(40) // 4] = 5.0  # tells the sources apart and nothing else
    shares = soft_labels(own, labels, sources, 2)
    assert torch.allclose(shares, torch.full((40, 2), 0.5), atol=0.05)
    telling = torch.eye(2)[labels]
    assert (soft_labels(telling, labels, sources, 2).argmax(1) == labels).all()


def test_features_over_time_tell_a_change_from_its_reverse() -> None:
    frames = torch.rand(3, 8, 5)
    there, back = over_time(frames), over_time(frames.flip(1))
    assert there.shape == (3, 15)
    assert torch.allclose(there[:, :10], back[:, :10], atol=1e-6)
    assert torch.allclose(there[:, 10:], -back[:, 10:], atol=1e-6)


def test_plain_attention_is_attention() -> None:
    q, k, v = torch.randn(3, 4, 2, 7, 8).unbind()
    bias = torch.randn(1, 2, 7, 7)
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, bias)
    assert torch.allclose(plain_attention(q, k, v, bias), wanted, atol=1e-5)


class Eye(torch.nn.Module):
    """Stands for the teacher, which is no dependency: a network of one layer that nobody taught anything."""

    def __init__(self) -> None:
        super().__init__()
        self.look = torch.nn.Conv2d(3, 1280, 32, 32, dtype=torch.bfloat16)

    def extract_features(self, pictures: torch.Tensor) -> torch.Tensor:
        return self.look(pictures)


@pytest.fixture
def material(tmp_path: Path) -> Path:
    """A folder as the recipe wants it: clips of two actions from four videos each, stills, and other footage."""
    for label in ("hitting_baseball", "wave"):
        for n in range(12):
            clip = tmp_path / "train" / label / f"{label}{n % 4}__{n}.mp4"
            clip.parent.mkdir(parents=True, exist_ok=True)
            make_video(clip, seconds=1, width=64, height=48, seed=n % 4 + (label == "wave"))
    for label in ("baseball", "wave", "cooking"):
        for n in range(8):
            still = tmp_path / "stills" / label / f"{n}.jpg"
            still.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(disc_frame(n, 64, 48, seed=n)).save(still)
    (tmp_path / "clips").mkdir()
    for name in ("wave__1.mp4", "plant__2.mp4"):
        make_video(tmp_path / "clips" / name, seconds=2, width=64, height=48)
    return tmp_path


def test_one_command_makes_a_model_and_goes_on_where_it_was_broken(
    material: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = SwinSizes(embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 2), num_classes=3, patch_size=(2, 8, 8))
    monkeypatch.setattr(views, "load_teacher", lambda device: Eye().eval())
    for module in (pipeline, finish):
        monkeypatch.setattr(module, "student_sizes", lambda classes: sizes)
    work, out = material / "work", material / "starter"
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
    command += ["--imitate-minutes", "0.02", "--tune-minutes", "0.02"]
    main(["views", "imitate", *command])
    first = torch.load(work / "imitate.pt", weights_only=False)
    main(command)
    again = torch.load(work / "imitate.pt", weights_only=False)
    assert again["spent_s"] >= first["spent_s"] >= 1.2 and again["count"] >= first["count"] > 0
    made = load_checkpoint(out)
    assert made.spec.labels == ("hitting baseball", "wave", NONE_OF_THESE)
    assert set(made.spec.label_thresholds) == {"hitting baseball", "wave"}
    numbers = json.loads((out / "numbers.json").read_text())
    assert numbers["held_back"]["sources"] == 4 and numbers["held_back"]["clips"] == 12
    assert numbers["other_footage"]["videos"] == 2
    assert numbers["other_footage"]["videos_of_known_actions"] == 1
