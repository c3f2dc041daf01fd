"""Checkpoints of image Swins under the official names, with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtag.engine.swin.config import SwinSizes
from vtag.engine.swin.weight_names import parameter_shapes


def image_state(window: int = 3, **changes: Any) -> dict[str, np.ndarray]:
    """The weights of an image Swin by their official names: embed 4, depths 1-1, heads 1-2, patch 4."""
    sizes = SwinSizes(4, (1, 1), (1, 2), 6, (1, window, window), (1, 4, 4))
    random = np.random.default_rng(0)
    state = {}
    for name, shape in parameter_shapes(sizes).items():
        shape = (4, 3, 4, 4) if name == "patch_embed.proj.weight" else shape
        state[name.replace("stages.", "layers.")] = random.normal(size=shape).astype(np.float32)
    state["layers.0.blocks.0.attn.relative_position_index"] = np.zeros((window**2, window**2), np.int64)
    state["layers.0.blocks.0.attn_mask"] = np.zeros((4, window**2, window**2), np.float32)
    return {name: array for name, array in (state | changes).items() if array is not None}


def save_checkpoint(path: Path, state: dict[str, np.ndarray]) -> Path:
    torch.save({"model": {name: torch.from_numpy(array) for name, array in state.items()}}, path)
    return path
