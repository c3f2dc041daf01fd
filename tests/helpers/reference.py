"""References for the model: the inputs of the golden files, and torchvision's own module if it is installed."""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from helpers.formula import formula
from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD, SwinSizes
from vtag.engine.swin.weight_names import TORCHVISION


def golden_input(name: str, manifest: Mapping[str, Any], stored: Mapping[str, Any]) -> NDArray[np.uint8]:
    """An input of the golden files by its name, uint8 [N, 3, T, H, W]."""
    recipe = manifest["inputs"][name]
    if recipe["kind"] == "stored":
        return np.asarray(stored[name])
    if recipe["kind"] == "recipe":
        return formula(recipe["shape"])
    generator = np.random.Generator(np.random.PCG64(recipe["seed"]))
    return generator.integers(0, 256, size=recipe["shape"], dtype=np.uint8)


def normalised(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Network input float32 [N, 3, T, H, W] of such pixels."""
    mean = np.array(IMAGENET_MEAN, np.float32)[:, None, None, None]
    return (pixels.astype(np.float32) - mean) / np.array(IMAGENET_STD, np.float32)[:, None, None, None]


def torchvision_swin(sizes: SwinSizes) -> torch.nn.Module:
    """torchvision's SwinTransformer3d of these sizes, in eval mode; skips the test without torchvision."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:  # its compiled operators do not fit this torch; the model needs none of them
        sys.modules["torchvision._meta_registrations"] = types.ModuleType("torchvision._meta_registrations")
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    return SwinTransformer3d(
        patch_size=list(sizes.patch_size),
        embed_dim=sizes.embed_dim,
        depths=list(sizes.depths),
        num_heads=list(sizes.num_heads),
        window_size=list(sizes.window_size),
        mlp_ratio=sizes.mlp_ratio,
        num_classes=sizes.num_classes,
        norm_layer=lambda dim: torch.nn.LayerNorm(dim, eps=1e-5),
    ).eval()


def random_tensors(sizes: SwinSizes, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Random weights by vtag's names, none near zero or one, so that no error stays hidden."""
    from vtag.engine.swin.weight_names import parameter_shapes

    random = np.random.default_rng(seed)
    return {
        name: (random.normal(0, 0.4, shape) + ("norm" in name) * 0.7).astype(np.float32)
        for name, shape in parameter_shapes(sizes).items()
    }


def torchvision_state(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, torch.Tensor]:
    """The same weights by torchvision's names."""
    return {TORCHVISION.to_file(name): torch.from_numpy(array.copy()) for name, array in tensors.items()}


@st.composite
def any_sizes(draw: st.DrawFn) -> SwinSizes:
    """Random sizes of small models."""
    stages = draw(st.integers(1, 3))
    heads = tuple(draw(st.sampled_from([1, 2, 4])) for _ in range(stages))
    return SwinSizes(
        embed_dim=4 * draw(st.integers(1, 3)),
        depths=tuple(draw(st.integers(1, 3)) for _ in range(stages)),
        num_heads=heads,
        num_classes=draw(st.integers(1, 4)),
        window_size=draw(st.tuples(*[st.integers(1, 5)] * 3)),
        patch_size=draw(st.tuples(*[st.integers(1, 4)] * 3)),
        mlp_ratio=draw(st.sampled_from([1.0, 1.5, 4.0])),
    )
