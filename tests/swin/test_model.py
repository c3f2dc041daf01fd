"""The model equals the references: on the golden files, and on sizes nobody published against torchvision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reference import (
    any_sizes,
    formula,
    golden_input,
    normalised,
    random_tensors,
    torchvision_state,
    torchvision_swin,
)
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.swin.architecture import DropPath, VideoSwin
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import parameter_shapes

DATA = Path(__file__).parents[1] / "data" / "golden"
BOUND = 1e-5  # float32's rounding; a wrong eps of LayerNorm changes a logit by 2e-5
SMALL = SwinSizes(8, (2, 1), (2, 4), 3, (2, 3, 2), (2, 2, 2))
MODELS = [
    "torchvision_mini.pth",
    "torchvision_w255.pth",
    "torchvision_w255_legacy.pth",
    "official_mini.pth",
    "paddle_mini.pdparams",
    "paddle_w255_p2.pdparams",
]


def module(path: Path) -> VideoSwin:
    checkpoint = load_checkpoint(path)
    return VideoSwin(checkpoint.spec.sizes).load_arrays(checkpoint.tensors).eval()


def clips(pixels: np.ndarray) -> torch.Tensor:
    """uint8 [N, 3, T, H, W] -> normalised [N, T, H, W, 3], the module's input."""
    return torch.from_numpy(normalised(pixels)).permute(0, 2, 3, 4, 1)


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[Path, dict[str, Any]]:
    folder = shared / "golden"
    return folder, json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("file", MODELS)
def test_logits_and_features_equal_the_references(file: str, golden: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = golden
    entry = next(m for m in manifest["models"].values() if file in m["file"].split(", "))
    answers, stored = np.load(folder / entry["golden"]), np.load(folder / "inputs.npz")
    model = module(folder / file)
    compared = 0
    for name in manifest["inputs"]:
        with torch.inference_mode():
            features = model.forward_features(clips(golden_input(name, manifest, stored)))
            logits = model.head(features)
        assert np.abs(logits.numpy() - answers[f"logits.{name}"]).max() <= BOUND, name
        assert np.abs(features.numpy() - answers[f"feature.{name}"]).max() <= BOUND, name
        compared += 1
    assert compared == 9


@pytest.mark.parametrize("file", ["torchvision_mini.pth", "official_mini.pth", "paddle_mini.pdparams"])
def test_every_stage_equals_the_references(file: str, golden: tuple[Path, dict[str, Any]]) -> None:
    folder, manifest = golden
    answers = np.load(folder / f"golden_{file.partition('.')[0]}.npz")
    model = module(folder / file)
    outputs: list[torch.Tensor] = []
    for part in (model.patch_embed, *(stage.blocks[-1] for stage in model.stages)):
        part.register_forward_hook(lambda _, __, out: outputs.append(out))
    with torch.inference_mode():
        model(clips(golden_input("a_8x56x56", manifest, np.load(folder / "inputs.npz"))))
    for i, out in enumerate(outputs):
        expected = answers[f"stage{i}" if f"stage{i}" in answers else f"stage{i}.a_8x56x56"]
        assert out.shape == expected.shape
        assert np.abs(out.numpy() - expected).max() <= 2 * BOUND, f"stage {i}"
    assert len(outputs) == 5


def test_logits_equal_torchvisions_on_a_window_with_three_different_sides() -> None:
    """`small_swin.pth` and its logits were made with torchvision 0.28."""
    model, answers = module(DATA / "small_swin.pth"), np.load(DATA / "small_swin_logits.npz")
    assert model.sizes == SwinSizes(4, (2, 2), (1, 2), 5, (4, 3, 2), (2, 3, 4), 2.5)
    for shape in answers:
        with torch.inference_mode():
            logits = model(clips(formula([int(n) for n in shape.split("x")])))
        assert np.abs(logits.numpy() - answers[shape]).max() <= BOUND, shape


@settings(max_examples=60, deadline=None)
@given(any_sizes(), st.tuples(st.integers(1, 2), *[st.integers(1, 23)] * 3), st.integers(0, 1000))
def test_any_sizes_and_clips_equal_torchvision(sizes: SwinSizes, shape: tuple[int, ...], seed: int) -> None:
    assume(sum(sizes.depths) > 1)  # torchvision divides by the number of blocks less one
    tensors = random_tensors(sizes, seed)
    reference = torchvision_swin(sizes)
    state = reference.state_dict()
    state.update(torchvision_state(tensors))
    reference.load_state_dict(state)
    b, t, h, w = shape
    x = torch.from_numpy(np.random.default_rng(seed).normal(size=(b, 3, t, h, w)))
    with torch.inference_mode():
        expected = reference.double()(x)
        actual = VideoSwin(sizes).load_arrays(tensors).double().eval()(x.permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)


def test_published_sizes_have_the_published_number_of_parameters() -> None:
    for embed, depth, heads, count in (
        (96, 6, 3, 28_158_070),
        (96, 18, 3, 49_816_678),
        (128, 18, 4, 88_048_984),
    ):
        sizes = SwinSizes(embed, (2, 2, depth, 2), tuple(heads << i for i in range(4)), 400)
        assert sizes.parameter_count == count
        assert sum(int(np.prod(shape)) for shape in parameter_shapes(sizes).values()) == count


@settings(max_examples=40, deadline=None)
@given(any_sizes())
def test_names_and_shapes_are_the_modules(sizes: SwinSizes) -> None:
    with torch.device("meta"):
        state = VideoSwin(sizes).state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == parameter_shapes(sizes)
    assert sum(tensor.numel() for tensor in state.values()) == sizes.parameter_count


def test_a_clip_of_a_batch_answers_as_it_does_alone() -> None:
    model = VideoSwin(SMALL).load_arrays(random_tensors(SMALL)).eval()
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(3, 5, 13, 11, 3)).astype(np.float32))
    with torch.inference_mode():
        together, alone = model(x), torch.cat([model(clip[None]) for clip in x])
    torch.testing.assert_close(together, alone, rtol=0, atol=BOUND)


def test_training_after_inference_on_the_same_sizes_works() -> None:
    """Tables that inference cached also work in training."""
    model = VideoSwin(SMALL)  # no drop path: a dropped block has no gradient
    x = torch.randn(2, 4, 12, 12, 3)
    with torch.inference_mode():
        model.eval()(x)
    model.train()(x).square().sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert without == []


def test_a_gradient_is_the_slope() -> None:
    sizes = SwinSizes(2, (2,), (1,), 2, (2, 2, 2), (1, 1, 1))
    torch.manual_seed(0)
    model = VideoSwin(sizes).load_arrays(random_tensors(sizes)).double()
    table = model.stages[0].blocks[1].attn.relative_position_bias_table
    x = torch.randn(1, 3, 3, 3, 3, dtype=torch.float64)
    model(x)[0, 0].backward()
    row = int(table.grad.abs().argmax())
    step = 1e-4
    with torch.no_grad():
        table[row] += step
        above = model(x)[0, 0]
        table[row] -= 2 * step
        below = model(x)[0, 0]
    assert float((above - below) / (2 * step)) == pytest.approx(float(table.grad[row]), rel=1e-3)


def test_drop_path_rises_to_its_rate_and_keeps_the_mean() -> None:
    model = VideoSwin(SwinSizes(4, (2, 2), (1, 1), 2, (2, 2, 2)), drop_path=0.3)
    rates = [block.drop_path.rate for stage in model.stages for block in stage.blocks]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])
    torch.manual_seed(0)
    dropped = DropPath(0.3).train()(torch.ones(20_000, 1, 1))
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert torch.equal(DropPath(0.3).eval()(dropped), dropped)


def test_biases_norms_and_position_tables_take_no_weight_decay() -> None:
    model = VideoSwin(SMALL)
    spared = model.no_weight_decay()
    decayed = {name for name, _ in model.named_parameters()} - spared
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    assert "stages.0.blocks.0.attn.relative_position_bias_table" in spared
    assert {"head.weight", "patch_embed.proj.weight", "stages.0.downsample.reduction.weight"} <= decayed


def test_arrays_go_in_and_come_out_unchanged() -> None:
    tensors = random_tensors(SMALL)
    actual = VideoSwin(SMALL).load_arrays(tensors).arrays()
    assert actual.keys() == tensors.keys()
    assert all(np.array_equal(actual[name], tensors[name]) for name in tensors)


def test_tables_are_made_once_and_only_those_of_the_last_sizes_are_kept() -> None:
    model = VideoSwin(SMALL).eval()
    cache = model.stages[0].tables._tables
    with torch.inference_mode():
        model(torch.zeros(1, 8, 12, 12, 3))
        table_ids = {key: id(table) for key, table in cache.items()}
        model(torch.zeros(1, 8, 12, 12, 3))
        assert {key: id(table) for key, table in cache.items()} == table_ids
        for width in range(20, 160, 2):
            model(torch.zeros(1, 8, 12, width, 3))
    assert table_ids and not set(table_ids) & {key for key in cache if len(key) == 4}
    assert len(cache) <= 24
    assert model.stages[0].tables is model.stages[1].tables


def test_a_model_for_inference_is_the_model_with_its_weights() -> None:
    tensors = random_tensors(SMALL)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5, 13, 11, 3)).astype(np.float32))
    with torch.inference_mode():
        actual, expected = (
            VideoSwin.from_arrays(SMALL, tensors)(x),
            VideoSwin(SMALL).load_arrays(tensors).eval()(x),
        )
    assert torch.equal(actual, expected)
