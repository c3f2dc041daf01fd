"""The starter's recipe: its data never crosses the split, its clips are the protocol's, its states survive."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.swin.spec import NONE_OF_THESE, SwinSizes
from vtag.trainer.starter.clips import camera_move, test_views, training_clip
from vtag.trainer.starter.data import Item, clip_starts, frame_indices, split_by_source
from vtag.trainer.starter.optim import Trainee, learning_rate, save_atomically
from vtag.trainer.starter.release import LOUDEST, accuracy, found, rare_score, scan_windows, thresholds
from vtag.trainer.starter.student import Student
from vtag.trainer.starter.tune import fit_head

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
        assert (np.diff(clip[:, 0, 0, 0].astype(int)) > 0).all()


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
    got = accuracy(logits, torch.tensor([0, 1, 1]), 2, best=2)
    assert got.top1 == pytest.approx(2 / 3)
    assert got.mean_class == pytest.approx(0.75)
    assert got.confusion.tolist() == [[1, 0], [1, 1]]


@given(st.integers(0, 1000))
def test_at_its_thresholds_calibration_sees_no_wrong_moment_below_certainty(seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = [rng.dirichlet(np.ones(4), size=3).astype(np.float32) for _ in range(8)]
    truth = [int(t) for t in rng.integers(0, 4, 8)]
    labels = ["a", "b", "c", NONE_OF_THESE]
    limits = thresholds(scores, truth, labels)
    assert NONE_OF_THESE not in limits
    if max(limits.values()) < LOUDEST:
        assert found(scores, truth, [limits[label] for label in "abc"])[1] == 0


def test_the_windows_of_a_scan_reach_the_end() -> None:
    frames = np.zeros((21, 20, 30, 3), np.uint8)
    frames[-1] = 255
    windows = scan_windows(frames)
    assert windows.shape == (3, 8, 112, 112, 3)
    assert windows[-1, -1].min() == 255


def test_a_rare_score_is_as_rare_as_the_tail_says() -> None:
    odds = np.random.default_rng(0).exponential(1.0, 100_000)
    few, many = 1 / (1 + np.exp(-odds[:2000])), 1 / (1 + np.exp(-odds))
    limit = rare_score(few.astype(np.float32), windows_an_hour=100_000, false_an_hour=100)
    assert 30 < (many > limit).sum() < 300  # a hundred were asked for
