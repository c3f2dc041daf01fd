"""Writes a small random model and generated videos: `python -m helpers.small_model FOLDER`, run in tests/."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vtag.engine.checkpoints.load import Checkpoint, save_model_folder
from vtag.engine.swin.config import ModelSpec, SwinSizes

LONG_SCAN_OPTIONS = ("--stride", "0.1")
LABELS = ("archery", "riding a bike", "yoga")


def make_model(folder: Path, *, seed: int = 0, labels: tuple[str, ...] = LABELS) -> Path:
    """A tiny Video Swin with random weights as a model folder; its clips have 8 frames of 32 pixels."""
    import torch

    from vtag.engine.swin.architecture import VideoSwin

    sizes = SwinSizes(
        embed_dim=8, depths=(1, 1), num_heads=(1, 2), num_classes=len(labels), window_size=(2, 4, 4)
    )
    torch.manual_seed(seed)
    network = VideoSwin(sizes)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = {name: np.asarray(t.detach().numpy(), np.float32) for name, t in network.state_dict().items()}
    spec = ModelSpec(name=folder.name, sizes=sizes, labels=labels, frames=8, rate=8.0, short_side=40, crop=32)
    save_model_folder(Checkpoint(spec, tensors), folder)
    return folder


def make_long_videos(folder: Path, count: int = 4) -> None:
    """Videos whose scan takes a minute with `LONG_SCAN_OPTIONS`, so that a test can interrupt it.

    There are ten windows in a second of footage. One frame a second is quick to encode and decode.
    """
    from helpers.footage import make_video

    for number in range(count):
        make_video(folder / f"long{number}.mp4", seconds=400, fps=1, width=64, height=48, seed=number)


def main(folder: Path) -> None:
    """`videos/sample.mp4`, `model/` and `labels.txt` below `folder`."""
    from helpers.footage import make_video

    (folder / "videos").mkdir(parents=True)
    make_video(folder / "videos" / "sample.mp4", seconds=6)
    make_model(folder / "model")
    (folder / "labels.txt").write_text(" OR ".join(f'"{label}"' for label in LABELS) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
