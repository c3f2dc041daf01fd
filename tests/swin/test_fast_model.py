"""The fast network equals the plain one: on any sizes, on the golden files, and in bfloat16 on real windows."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.reference import any_sizes, formula, golden_input, normalised, random_tensors
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.backends import bf16
from vtag.engine.backends.factory import open_backend
from vtag.engine.backends.torch_backend import choose_precision
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.models.registry import load_model
from vtag.engine.predict import softmax
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.fast.inference import (
    BFLOAT16_CPU,
    FLOAT32_CPU,
    PLAIN_OPERATORS,
    ComputeConfig,
    FastSwin,
)
from vtag.engine.swin.fast.layout import PADDING, group_cells, group_windows
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

DATA = Path(__file__).parents[1] / "data" / "golden"
SMALL = SwinSizes(8, (2, 2), (2, 4), 3, (2, 3, 2), (2, 2, 2))
SMALL_CHUNKS = ComputeConfig(packed=True, split=True, chunk_bytes=1 << 11)
EXP2 = ComputeConfig(split=True, exp2_attention=True, chunk_bytes=1 << 16)
MASKED_EXP2 = ComputeConfig(exp2_attention=True)
EXACT = {
    "plain": PLAIN_OPERATORS,
    "cpu": FLOAT32_CPU,
    "small chunks": SMALL_CHUNKS,
    "exp2": EXP2,
    "masked exp2": MASKED_EXP2,
}
GOLDEN = ["torchvision_mini.pth", "torchvision_w255.pth", "official_mini.pth", "paddle_w255_p2.pdparams"]
needs_bf16 = pytest.mark.skipif(not bf16.processor_has_bf16(), reason="this processor has no bf16 units")


def fast(sizes: SwinSizes, config: ComputeConfig, seed: int = 0) -> FastSwin:
    return FastSwin(VideoSwin.from_arrays(sizes, random_tensors(sizes, seed)), config)


@settings(max_examples=25, deadline=None)
@given(any_sizes(), st.tuples(st.integers(1, 2), *[st.integers(1, 23)] * 3), st.integers(0, 1000))
def test_any_sizes_and_clips_equal_the_plain_module(
    sizes: SwinSizes, shape: tuple[int, ...], seed: int
) -> None:
    clips = torch.from_numpy(np.random.default_rng(seed).normal(size=(*shape, 3)).astype(np.float32))
    with torch.inference_mode():
        expected = VideoSwin.from_arrays(sizes, random_tensors(sizes, seed))(clips)
        for name, config in EXACT.items():
            actual = fast(sizes, config, seed)(clips)
            assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max(), name


@pytest.mark.parametrize("config", ["plain", "cpu", "exp2"])
@pytest.mark.parametrize("file", GOLDEN)
def test_logits_and_features_equal_the_references(file: str, config: str, shared: Path) -> None:
    folder = shared / "golden"
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(m for m in manifest["models"].values() if file in m["file"].split(", "))
    answers, stored = np.load(folder / entry["golden"]), np.load(folder / "inputs.npz")
    checkpoint = load_checkpoint(folder / file)
    model = FastSwin(VideoSwin.from_arrays(checkpoint.spec.sizes, checkpoint.tensors), EXACT[config])
    for name in manifest["inputs"]:
        clips = torch.from_numpy(normalised(golden_input(name, manifest, stored))).permute(0, 2, 3, 4, 1)
        with torch.inference_mode():
            features = model.forward_features(clips)
        assert np.abs(model.head(features).numpy() - answers[f"logits.{name}"]).max() <= 1e-5, name
        assert np.abs(features.numpy() - answers[f"feature.{name}"]).max() <= 1e-5, name


def test_the_published_size_equals_the_plain_module() -> None:
    """A small model with the published clip, window and patch sizes, so that all kinds of borders occur."""
    sizes = SwinSizes(16, (2, 2, 2, 1), (1, 2, 2, 4), 3)
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 32, 224, 224, 3), np.uint8))
    tensors = random_tensors(sizes)
    with torch.inference_mode():
        expected = VideoSwin.from_arrays(sizes, tensors)(
            torch.from_numpy(normalised(pixels.permute(0, 4, 1, 2, 3).numpy())).permute(0, 2, 3, 4, 1)
        )
        for name in ("plain", "cpu", "exp2"):
            actual = FastSwin(VideoSwin.from_arrays(sizes, tensors), EXACT[name])(pixels)
            assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max(), name


@pytest.mark.parametrize("config", [FLOAT32_CPU, EXP2])
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_the_chunks_of_one_clip(config: ComputeConfig, threads: int) -> None:
    clips = torch.randn(1, 9, 40, 31, 3, generator=torch.Generator().manual_seed(0))
    tensors = random_tensors(SMALL)
    model = FastSwin(VideoSwin.from_arrays(SMALL, tensors), dataclasses.replace(config, threads=threads))
    chunk_counts = []
    with ThreadPoolExecutor(threads) as pool, torch.inference_mode():

        def parallel_map(work: Callable[[Any], Any], parts: Sequence[Any]) -> Iterable[Any]:
            chunk_counts.append(len(parts))
            return pool.map(torch.inference_mode()(work), parts)

        actual = model.forward_features(clips, parallel_map)
        assert torch.equal(actual, model.forward_features(clips))  # whichever thread took a chunk
        expected = VideoSwin.from_arrays(SMALL, tensors)(clips)
    assert (model.head(actual) - expected).abs().max() <= 1e-4 * expected.abs().max()
    assert all(count >= threads for count in chunk_counts[:2])


def test_scores_beyond_the_range_of_floats_are_taken_in_the_usual_way() -> None:
    """Powers of two of such scores are zero or infinite, but their softmax is finite."""
    for offset in (-300.0, 300.0):
        tensors = random_tensors(SMALL)
        for name in tensors:
            if name.endswith("bias_table"):
                tensors[name] += np.float32(offset)
        clips = torch.randn(1, 6, 13, 11, 3, generator=torch.Generator().manual_seed(0))
        with torch.inference_mode():
            expected = VideoSwin.from_arrays(SMALL, tensors)(clips)
            actual = FastSwin(VideoSwin.from_arrays(SMALL, tensors), EXP2)(clips)
        assert torch.isfinite(expected).all()
        assert (actual - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_more_sizes_than_are_kept_and_back_again() -> None:
    model, plain = fast(SMALL, FLOAT32_CPU), VideoSwin.from_arrays(SMALL, random_tensors(SMALL))
    for side in (5, 6, 7, 8, 9, 10, 5):
        clips = torch.ones(1, 3, side, side + 1, 3)
        with torch.inference_mode():
            torch.testing.assert_close(model(clips), plain(clips), rtol=1e-4, atol=1e-5)


def test_pixels_are_normalised_as_the_spec_says() -> None:
    model = FastSwin(
        VideoSwin.from_arrays(SMALL, random_tensors(SMALL)),
        FLOAT32_CPU,
        mean=(1.0, 2.0, 3.0),
        std=(4.0, 5.0, 6.0),
    )
    pixels = torch.from_numpy(formula((2, 3, 5, 9, 12))).permute(0, 2, 3, 4, 1)
    clips = (pixels.float() - torch.tensor([1.0, 2.0, 3.0])) / torch.tensor([4.0, 5.0, 6.0])
    with torch.inference_mode():
        assert torch.equal(model(pixels), model(clips))


def test_the_plain_way_can_be_exported() -> None:
    model = fast(SMALL, PLAIN_OPERATORS)
    clips = torch.randn(2, 6, 13, 11, 3)
    model(clips)  # makes the tables of this size
    program = torch.export.export(model, (clips,))
    with torch.inference_mode():
        torch.testing.assert_close(program.module()(clips), model(clips))
    names = {str(node.target) for node in program.graph.nodes}
    assert not [name for name in names if "mkldnn" in name]


small = st.tuples(*[st.integers(1, 9)] * 3)


@settings(max_examples=200, deadline=None)
@given(small, st.tuples(*[st.integers(1, 4)] * 3), st.booleans(), st.booleans())
def test_every_token_is_in_one_window_and_no_part_of_a_split_one_is_masked(
    size: tuple[int, int, int], window: tuple[int, int, int], shifted: bool, split: bool
) -> None:
    shift = (window[0] // 2, window[1] // 2, window[2] // 2) if shifted else (0, 0, 0)
    groups = group_windows(size, window, shift, split=split)
    cells = group_cells(groups)
    assert sorted(cells[cells != PADDING].tolist()) == list(range(math.prod(size)))
    for group in groups:
        tokens = group.cells.shape[1]
        assert group.rows.shape == (tokens, tokens)
        assert not (split and group.blocked is not None)
    assert len({group.key for group in groups}) == len(groups)


@needs_bf16
def test_bf16_stays_near_float32() -> None:
    clips = torch.randn(2, 6, 13, 11, 3, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = fast(SMALL, FLOAT32_CPU)(clips)
        actual = fast(SMALL, BFLOAT16_CPU)(clips)
    assert actual.dtype == torch.float32
    assert 0 < (actual - expected).abs().max() <= 0.05 * expected.abs().max()


@needs_bf16
@pytest.mark.parametrize(
    ("name", "files"), [("starter", 4), pytest.param("starter", 99, marks=pytest.mark.slow)]
)
def test_bf16_says_the_same_of_real_windows(name: str, files: int, shared: Path) -> None:
    same, furthest, windows = _compared(load_model(name), sorted((shared / "clips").glob("*__*"))[:files])
    assert windows >= 3 * files
    assert same >= 0.99
    assert furthest <= 0.02


@pytest.mark.slow  # minutes
@needs_bf16
@pytest.mark.parametrize("file", ["torchvision_mini.pth", "official_mini.pth", "paddle_mini.pdparams"])
def test_bf16_says_the_same_of_real_windows_with_the_golden_models(file: str, shared: Path) -> None:
    checkpoint = load_checkpoint(shared / "golden" / file)
    same, furthest, _ = _compared(checkpoint, sorted((shared / "clips").glob("*__*")))
    assert same >= 0.99
    assert furthest <= 0.02


def _compared(checkpoint: object, files: list[Path]) -> tuple[float, float, int]:
    """The share of windows with the same best class, the largest difference of a probability, and their number."""
    exact = open_backend(checkpoint, device="cpu", precision="fp32")
    quick = open_backend(checkpoint, device="cpu", precision="bf16")
    spec = exact.spec
    sampling = Sampling.create(spec.frames, spec.rate, short_side=spec.short_side, crop=spec.crop)
    scores = []
    for file in files:
        for clip in read_clips(os.fsencode(file), sampling):
            scores.append([softmax(backend.run(clip.pixels).logits)[0] for backend in (exact, quick)])
    both = np.array(scores)
    same = (both[:, 0].argmax(1) == both[:, 1].argmax(1)).mean()
    return float(same), float(np.abs(both[:, 0] - both[:, 1]).max()), len(both)


def test_auto_is_bf16_only_where_the_processor_has_the_units() -> None:
    chosen = choose_precision("auto", torch.device("cpu"))
    assert chosen == "fp32" or (chosen == "bf16" and bf16.processor_has_bf16())


def test_a_scan_computes_as_the_one_before_it_however_busy_the_machine_is(
    monkeypatch: pytest.MonkeyPatch, vtag_home: Path
) -> None:
    monkeypatch.setattr(bf16, "processor_has_bf16", lambda: True)
    assert bf16._measure_gain() > 0
    for gain, expected in ((2.0, "bf16"), (0.9, "fp32")):
        monkeypatch.setattr(bf16, "_measure_gain", lambda gain=gain: gain)
        assert choose_precision("auto", torch.device("cpu")) == expected
        monkeypatch.setattr(bf16, "_measure_gain", lambda: 1 / 0)  # it is not measured again
        assert choose_precision("auto", torch.device("cpu")) == expected
        (gain_file,) = (vtag_home / "cache").iterdir()
        gain_file.unlink()


def test_without_packing_the_answers_are_the_same() -> None:
    """The configuration without oneDNN's packed layers."""
    clips = torch.ones(1, 4, 12, 12, 3)
    with torch.inference_mode():
        expected = fast(SMALL, FLOAT32_CPU)(clips)
        actual = fast(SMALL, dataclasses.replace(FLOAT32_CPU, packed=False))(clips)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)
