"""An image Swin becomes the start of a video model, as in the official repository."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.image_swin import image_state, save_checkpoint
from helpers.reference import formula, golden_input, normalised

from vtag.engine.checkpoints.inflate import Backbone, inflate
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import ModelError
from vtag.engine.swin.architecture import VideoSwin
from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import parameter_shapes

GOLDEN = [("image_mini", (8, 7, 7)), ("image_w5_mini", (4, 7, 6))]
DATA = Path(__file__).parents[1] / "data" / "golden"


def moments(tensor: np.ndarray) -> list[float]:
    flat = tensor.astype(np.float64).ravel()
    return [flat.sum(), (flat**2).sum(), (flat * np.cos(np.arange(flat.size))).sum()]


def network(backbone: Backbone) -> VideoSwin:
    sizes = backbone.with_classes(2)
    head = {
        "head.weight": np.zeros((2, sizes.feature_dim), np.float32),
        "head.bias": np.zeros(2, np.float32),
    }
    return VideoSwin(sizes).load_arrays({**backbone.tensors, **head}).eval()


def as_ours(name: str) -> str:
    return name.removeprefix("backbone.").replace("layers.", "stages.")


@pytest.mark.parametrize(("name", "window"), GOLDEN)
def test_every_inflated_tensor_is_the_references(
    name: str, window: tuple[int, int, int], shared: Path
) -> None:
    golden = np.load(shared / "golden" / f"golden_{name}.npz")
    tensors = inflate(shared / "golden" / f"{name}.pth", window_size=window).tensors
    golden_names = [key.partition(".")[2] for key in golden if key.startswith("moments.")]
    compared = {as_ours(key) for key in golden_names if as_ours(key) in tensors}
    assert compared == set(tensors)
    for key in golden_names:
        if as_ours(key) in tensors:
            actual = moments(tensors[as_ours(key)])
            np.testing.assert_allclose(actual, golden[f"moments.{key}"], rtol=1e-5, atol=1e-5, err_msg=key)
    for key in golden:
        if key.startswith("tensor.") and as_ours(key.partition(".")[2]) in tensors:
            np.testing.assert_allclose(tensors[as_ours(key.partition(".")[2])], golden[key], atol=1e-6)


@pytest.mark.parametrize(("name", "window"), GOLDEN)
def test_the_features_of_the_inflated_backbone_are_the_references(
    name: str, window: tuple[int, int, int], shared: Path
) -> None:
    folder = shared / "golden"
    golden, manifest = (
        np.load(folder / f"golden_{name}.npz"),
        json.loads((folder / "manifest.json").read_text()),
    )
    stored = np.load(folder / "inputs.npz")
    model = network(inflate(folder / f"{name}.pth", window_size=window))
    inputs = [key.partition(".")[2] for key in golden if key.startswith("feature.")]
    assert inputs
    for key in inputs:
        x = torch.from_numpy(normalised(golden_input(key, manifest, stored))).permute(0, 2, 3, 4, 1)
        with torch.inference_mode():
            actual = model.forward_features(x).numpy()
        assert np.abs(actual - golden[f"feature.{key}"]).max() <= 1e-5, key


@pytest.mark.parametrize("window", [(4, 3, 3), (2, 5, 4)])
def test_torch_and_paddle_files_inflate_to_the_same(tmp_path: Path, window: tuple[int, int, int]) -> None:
    state = image_state()
    turned = {n: a.T if a.ndim == 2 and n.endswith(".weight") else a for n, a in state.items()}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(turned, protocol=4))
    a = inflate(save_checkpoint(tmp_path / "x.pth", state), window_size=window)
    b = inflate(tmp_path / "x.pdparams", window_size=window)
    assert a.sizes == b.sizes == SwinSizes(4, (1, 1), (1, 2), 1, window, (2, 4, 4))
    assert set(a.tensors) == {n for n in parameter_shapes(a.sizes) if not n.startswith("head.")}
    assert all(np.array_equal(a.tensors[name], b.tensors[name]) for name in a.tensors)
    rows, heads = a.sizes.bias_rows, 2
    table = a.tensors["stages.1.blocks.0.attn.relative_position_bias_table"]
    assert table.shape == (rows, heads)
    by_time = table.reshape(2 * window[0] - 1, -1, heads)
    assert (by_time == by_time[0]).all()
    if window[1:] == (3, 3):
        assert np.array_equal(by_time[0], state["layers.1.blocks.0.attn.relative_position_bias_table"])


def test_a_picture_that_stands_still_gives_every_frame_the_pictures_tokens(tmp_path: Path) -> None:
    model = network(inflate(save_checkpoint(tmp_path / "x.pth", image_state()), window_size=(2, 3, 3)))
    clip = np.repeat(normalised(formula((1, 3, 1, 16, 20))), 4, axis=2)
    with torch.inference_mode():
        tokens = model.patch_embed(torch.from_numpy(clip).permute(0, 2, 3, 4, 1))
        flat = torch.nn.functional.conv2d(
            torch.from_numpy(clip[:, :, 0]),
            torch.from_numpy(image_state()["patch_embed.proj.weight"]),
            torch.from_numpy(image_state()["patch_embed.proj.bias"]),
            stride=4,
        )
        still = model.patch_embed.norm(flat.permute(0, 2, 3, 1))
    torch.testing.assert_close(tokens, still[:, None].expand_as(tokens), rtol=1e-4, atol=1e-4)


def test_an_image_swin_is_no_model_to_tag_with(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="an image Swin, which can start a training"):
        load_checkpoint(save_checkpoint(tmp_path / "x.pth", image_state()))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers.1.blocks.0.mlp.fc1.bias": None}, "lacks the tensor 'layers.1.blocks.0.mlp.fc1.bias'"),
        ({"norm.bias": np.ones(5, np.float32)}, "'norm.bias' is 5"),
        ({"patch_embed.proj.weight": np.ones((4, 3, 8, 8), np.float32)}, "patches are 8x8, not 4x4"),
        (
            {"layers.0.blocks.0.attn.relative_position_bias_table": np.ones((24, 1), np.float32)},
            "24 rows, which is no square window's",
        ),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        inflate(save_checkpoint(tmp_path / "x.pth", image_state(**changes)), window_size=(2, 3, 3))


def test_a_video_model_is_not_inflated() -> None:
    with pytest.raises(ModelError, match="not an image Swin"):
        inflate(DATA / "control_ok.pth")
