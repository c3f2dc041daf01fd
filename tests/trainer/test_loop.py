"""The training loop: what it learns, that it resumes to the bit wherever it was left, its schedule, its order."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.footage import make_video
from helpers.small_model import make_model
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.errors import ModelError
from vtag.engine.models.registry import load_model
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling
from vtag.trainer.data.augment import (
    Augmentation,
    ClipTransform,
    apply_transform,
    draw_transform,
    mention_sides,
    mix_clips,
)
from vtag.trainer.data.clip_source import ClipRequest, ClipSource, LabelledVideo
from vtag.trainer.data.sampler import epoch_order, items_of_rank
from vtag.trainer.loop.distributed import DistributedContext
from vtag.trainer.loop.loop import EpochDone, LoopSettings, StepDone, Training, TrainingDone
from vtag.trainer.loop.network import Network, build_network, parameter_groups
from vtag.trainer.loop.schedule import learning_rate
from vtag.trainer.loop.state_paths import STATE_FILE
from vtag.trainer.loop.validate import make_validator

CPU = torch.device("cpu")
SAMPLING = Sampling.create(8, 8.0, view="full", short_side=40, crop=32)
SETTINGS = LoopSettings(
    epochs=3,
    batch_size=4,
    clips_at_once=2,
    lr=5e-3,
    backbone_lr_scale=1.0,
    warmup_epochs=0.5,
    augmentation=Augmentation(colour=0.2, mixup=0.2),
)


def moving(rightwards: bool, seed: int):  # type: ignore[no-untyped-def]
    """A bright bar that goes one way: no still frame tells which."""
    first = int(np.random.default_rng(seed).integers(64))

    def draw_frame(i: int) -> np.ndarray:
        picture = np.full((48, 64, 3), 30, np.uint8)
        column = (first + (3 * i if rightwards else -3 * i)) % 64
        picture[:, column : column + 8] = 220
        return picture

    return draw_frame


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("loop")
    make_model(folder / "model", seed=3)
    for n in range(8):
        make_video(folder / f"{n}.mp4", seconds=1.5, fps=8, width=64, height=48, draw=moving(bool(n % 2), n))
    return folder


def make_network(folder: Path, **kwargs: object) -> Network:
    base = load_model(folder / "model")
    rng = np.random.default_rng(0)
    dim = base.spec.sizes.feature_dim
    weight = rng.normal(scale=0.02, size=(2, dim)).astype(np.float32)
    return build_network(base, weight, np.zeros(2, np.float32), drop_path=0.2, head_dropout=0.1, **kwargs)  # type: ignore[arg-type]


def items_of(folder: Path) -> list[LabelledVideo]:
    return [LabelledVideo(folder / f"{n}.mp4", n % 2) for n in range(8)]


@pytest.fixture(scope="module")
def source(material: Path) -> Iterator[ClipSource]:
    with ClipSource(items_of(material), SAMPLING, cache_bytes=64 << 20, workers=1) as clip_source:
        yield clip_source


def make_training(
    material: Path,
    source: ClipSource,
    state: Path,
    settings: LoopSettings = SETTINGS,
    network: Network | None = None,
    **kwargs: object,
) -> Training:
    spec = load_model(material / "model").spec
    return Training(
        network or make_network(material),
        source,
        settings,
        folder=state,
        fingerprint="f",
        size=spec.crop,
        mean=spec.mean,
        std=spec.std,
        device=CPU,
        **kwargs,  # type: ignore[arg-type]
    )


def weights(training: Training) -> dict[str, torch.Tensor]:
    return {n: t.clone() for n, t in training._network.swin.state_dict().items()}


@pytest.mark.parametrize("leave_after", [1, 5, 7, 12])
def test_left_anywhere_and_resumed_it_ends_the_same_to_the_bit(
    material: Path, source: ClipSource, tmp_path: Path, leave_after: int
) -> None:
    uninterrupted = make_training(
        material, source, tmp_path / "whole", validate=make_validate(source, material)
    )
    *events, end = uninterrupted.run()
    assert isinstance(end, TrainingDone)
    part = make_training(material, source, tmp_path / "part", validate=make_validate(source, material))
    run = part.run()
    for _ in range(leave_after):
        next(run)
    run.close()  # type: ignore[attr-defined]
    again = make_training(material, source, tmp_path / "part", validate=make_validate(source, material))
    assert again.resume()
    *_, resumed = again.run()
    assert resumed == end
    assert all(torch.equal(t, weights(uninterrupted)[n]) for n, t in weights(again).items())
    assert sum(isinstance(e, EpochDone) for e in events) == 3
    assert len([e for e in events if isinstance(e, StepDone)]) == 3 * 2 * 2  # epochs, steps, parts


def make_validate(source: ClipSource, material: Path):  # type: ignore[no-untyped-def]
    """On the same clips, which is enough for what is asked here; the sizes of a full view need no crop of 32."""
    spec = load_model(material / "model").spec
    return make_validator(source, mean=spec.mean, std=spec.std, device=CPU)


def test_a_state_is_of_one_training_and_damage_is_said(
    material: Path, source: ClipSource, tmp_path: Path
) -> None:
    run = make_training(material, source, tmp_path).run()
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert {f.name for f in tmp_path.iterdir()} == {STATE_FILE}
    other_training = make_training(material, source, tmp_path)
    other_training._fingerprint = "g"
    with pytest.raises(ModelError, match="other clips or other settings"):
        other_training.resume()
    data = (tmp_path / STATE_FILE).read_bytes()
    (tmp_path / STATE_FILE).write_bytes(data[: len(data) // 2])
    with pytest.raises(ModelError, match="damaged"):
        make_training(material, source, tmp_path).resume()
    assert not make_training(material, source, tmp_path / "nothing").resume()


def test_accumulation_equals_the_larger_batch(material: Path, source: ClipSource, tmp_path: Path) -> None:
    """To float32's rounding, where nothing is dropped at random."""
    plain = replace(SETTINGS, epochs=1, augmentation=Augmentation())
    results = []
    for at_once in (1, 4):
        settings = replace(plain, clips_at_once=at_once)
        training = make_training(material, source, tmp_path, settings, make_plain(material))
        *_, end = training.run()
        results.append((end, weights(training)))
    assert results[0][0].history[0].loss == pytest.approx(results[1][0].history[0].loss, rel=1e-5)
    for name, tensor in results[0][1].items():
        assert torch.allclose(tensor, results[1][1][name], atol=2e-4), name


def make_plain(material: Path) -> Network:
    base = load_model(material / "model")
    weight = np.random.default_rng(0).normal(scale=0.02, size=(2, base.spec.sizes.feature_dim))
    return build_network(base, weight.astype(np.float32), np.zeros(2, np.float32), drop_path=0.0)


def test_recomputing_changes_nothing(material: Path) -> None:
    clips = torch.randn(2, 8, 32, 32, 3)
    gradients = []
    for recompute in (False, True):
        network = make_network(material, recompute=recompute).train()
        torch.manual_seed(1)
        network(clips).sum().backward()
        gradients.append([p.grad for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))  # type: ignore[arg-type]


def test_only_the_chosen_part_learns(material: Path) -> None:
    network = make_network(material, part=1)
    learning = {name for name, p in network.swin.named_parameters() if p.requires_grad}
    assert learning and all(name.startswith(("stages.1.", "norm", "head")) for name in learning)
    groups = parameter_groups(network, backbone_lr_scale=0.1, weight_decay=0.05)
    assert {(g["scale"], g["weight_decay"]) for g in groups} == {(0.1, 0.05), (0.1, 0), (1.0, 0.05), (1.0, 0)}
    assert sum(len(g["params"]) for g in groups) == len(learning)
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    for name, p in network.swin.named_parameters():
        if p.requires_grad and ("table" in name or "norm" in name or name.endswith("bias")):
            assert id(p) not in decayed


def test_what_cannot_be_read_costs_itself_alone(material: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    items = [*items_of(material)[:3], LabelledVideo(tmp_path / "broken.mp4", 1)]
    with ClipSource(items, SAMPLING, cache_bytes=0, workers=1) as source:
        *_, end = make_training(material, source, tmp_path, replace(SETTINGS, epochs=2)).run()
    assert isinstance(end, TrainingDone) and math.isfinite(end.history[-1].loss)
    assert set(source.errors) == {3}


def test_a_source_gives_what_the_reader_gives_in_the_order_asked(material: Path) -> None:
    file = material / "0.mp4"
    items = [LabelledVideo(file, 0), LabelledVideo(material / "1.mp4", 0, start_ms=400)]
    requests = [ClipRequest(1, 0), ClipRequest(0, 0), ClipRequest(0, 3), ClipRequest(1, 2), ClipRequest(0, 0)]
    for cache in (0, 32 << 20):
        with ClipSource(items, SAMPLING, cache_bytes=cache, workers=2) as source:
            read = list(source.read(requests))
        every = replace(SAMPLING, stride_ms=125)
        clips = {clip.start_ms: clip.pixels[0] for clip in read_clips(file, every)}
        assert np.array_equal(read[1], clips[0])
        assert any(np.array_equal(read[2], pixels) for pixels in clips.values())
        second_clips = {
            c.start_ms: c.pixels[0] for c in read_clips(items[1].path, replace(SAMPLING, stride_ms=400))
        }
        assert np.array_equal(read[0], second_clips[400]) and np.array_equal(read[3], second_clips[400])
        assert np.array_equal(read[4], read[1])


# --- pure functions -----------------------------------------------------------------------------------------------


def test_the_rate_of_every_step_is_the_published_one() -> None:
    """By hand from mmcv's formulas: 10 steps, 4 of warm-up from a tenth, peak 1."""
    rates = [learning_rate(step, 10, peak=1.0, warmup=4, ratio=0.1) for step in range(10)]
    cosines = [1.0, 0.975528, 0.904508, 0.793893, 0.654508, 0.5, 0.345492, 0.206107, 0.095492, 0.024472]
    factors = [0.1, 0.325, 0.55, 0.775, 1, 1, 1, 1, 1, 1]
    assert rates == pytest.approx([c * f for c, f in zip(cosines, factors, strict=True)], abs=1e-6)
    assert learning_rate(10, 10, peak=1.0, floor=0.25) == pytest.approx(0.25)


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=40),
    st.integers(1, 9),
    st.integers(0, 5),
    st.integers(1, 3),
)
def test_an_epoch_shows_every_clip_once_and_the_ranks_share_it(
    labels: list[int], batch: int, epoch: int, world: int
) -> None:
    order = epoch_order(labels, seed=1, epoch=epoch, batch_size=batch * world)
    assert order.shape == (-(-len(labels) // (batch * world)), batch * world)
    assert Counter(order.flatten()[: len(labels)].tolist()) == Counter(range(len(labels)))
    for items in order:
        parts = [items_of_rank(items, rank, world) for rank in range(world)]
        assert {len(p) for p in parts} == {batch}
        assert sorted(np.concatenate(parts).tolist()) == sorted(items.tolist())
    again = epoch_order(labels, seed=1, epoch=epoch, batch_size=batch * world)
    assert np.array_equal(order, again)


@given(st.lists(st.integers(0, 2), min_size=3, max_size=60), st.integers(0, 9))
def test_balanced_classes_come_equally_often(labels: list[int], epoch: int) -> None:
    present = sorted(set(labels))
    order = epoch_order(labels, seed=0, epoch=epoch, batch_size=1, shares=(1.0, 1.0, 1.0)).flatten()
    counts = Counter(labels[i] for i in order)
    assert len(order) == len(labels)
    assert max(counts.values()) - min(counts.get(k, 0) for k in present) <= 1
    item_counts = Counter(order.tolist())
    for k in present:
        times = [item_counts.get(i, 0) for i, label in enumerate(labels) if label == k]
        assert max(times) - min(times) <= 1


@given(st.integers(0, 1000), st.integers(8, 60), st.integers(8, 60))
def test_a_crop_lies_in_the_picture(seed: int, height: int, width: int) -> None:
    change = draw_transform(np.random.default_rng(seed), height, width, Augmentation(area=(0.1, 1.0)))
    assert 0 <= change.top <= change.top + change.height <= height
    assert 0 <= change.left <= change.left + change.width <= width
    assert change.height > 0 and change.width > 0
    assert change == draw_transform(np.random.default_rng(seed), height, width, Augmentation(area=(0.1, 1.0)))


def test_all_frames_of_a_clip_change_alike() -> None:
    frame = torch.randint(0, 256, (1, 20, 30, 3), dtype=torch.uint8)
    clip = frame.repeat(4, 1, 1, 1)
    change = ClipTransform(2, 4, 16, 16, True, 1.1, 0.9, 1.2)
    out = apply_transform(clip, change, 16)
    assert out.shape == (4, 16, 16, 3) and all(torch.equal(out[0], f) for f in out)
    plain = apply_transform(clip, ClipTransform(2, 4, 16, 16, False, 1, 1, 1), 16)
    assert torch.equal(plain[0], frame[0, 2:18, 4:20].float())
    mirrored = apply_transform(clip, ClipTransform(2, 4, 16, 16, True, 1, 1, 1), 16)
    assert torch.equal(mirrored, plain.flip(2))


def test_mixed_clips_carry_mixed_targets() -> None:
    clips = torch.arange(3.0).view(3, 1, 1, 1, 1).expand(3, 2, 4, 4, 3)
    targets = torch.eye(3)
    mixed, shares = mix_clips(clips, targets, 0.8, np.random.default_rng(0))
    values = mixed[:, 0, 0, 0, 0]
    assert torch.allclose(shares.sum(1), torch.ones(3))
    assert torch.allclose(values, shares @ torch.arange(3.0))


def test_labels_that_tell_sides() -> None:
    assert mention_sides(["wave", "turn left"]) and mention_sides(["Rightwards"])
    assert not mention_sides(["bright lights", "leftover"])


def test_a_batch_that_processes_cannot_share_is_refused(material: Path, source: ClipSource) -> None:
    with pytest.raises(ValueError):
        make_training(material, source, material / "x", distributed=DistributedContext(0, 3))
