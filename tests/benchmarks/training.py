"""Training clips a second, decode included: vtag's loop beside a plain one on torchvision's own `swin3d` module.

    python tests/benchmarks/training.py FOLDER [--model t|small] [--clips 64] [--batch 8] [--device cpu] [--pairs 3]

FOLDER holds videos. Both train the same sizes on the same videos with random crops and flips, every clip once,
nothing cached: the plain loop reads with PyAV in as many DataLoader processes as there are cores. They take turns;
printed are clips a second of every turn and the median of the pairs' ratios. Without torchvision vtag runs alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from vtag.engine.scan.discover import discover
from vtag.engine.swin.config import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, SwinSizes
from vtag.engine.video.read.sampling import Sampling
from vtag.trainer.data.augment import Augmentation
from vtag.trainer.data.clip_source import ClipSource, LabelledVideo
from vtag.trainer.loop.loop import LoopSettings, StepDone, Training
from vtag.trainer.loop.network import build_network, random_checkpoint

CLASSES = 10
SIZES = {
    "t": SwinSizes(96, (2, 2, 6, 2), (3, 6, 12, 24), CLASSES),
    "small": SwinSizes(32, (1, 1, 2, 1), (1, 2, 4, 8), CLASSES),
}


def vtag_seconds(videos: list[Path], sizes: SwinSizes, a: argparse.Namespace) -> float:
    """One epoch of vtag's loop, from the first clip that is asked for."""
    labels = tuple(f"class {i}" for i in range(CLASSES))
    spec = ModelSpec("b", sizes, labels, frames=a.frames, short_side=a.crop * 8 // 7, crop=a.crop)
    base = random_checkpoint(spec, seed=0)
    device = torch.device(a.device)
    network = build_network(base, base.tensors["head.weight"], base.tensors["head.bias"], drop_path=0.1)
    items = [LabelledVideo(path, i % CLASSES) for i, path in enumerate(videos)]
    sampling = Sampling.create(a.frames, 15, view="full", short_side=spec.short_side, crop=a.crop)
    settings = LoopSettings(
        epochs=1,
        batch_size=a.batch,
        clips_at_once=a.batch,
        bf16=a.device == "cuda",
        augmentation=Augmentation(area=(0.08, 1)),
    )
    with ClipSource(items, sampling, cache_bytes=0) as source, tempfile.TemporaryDirectory() as state:
        training = Training(
            network,
            source,
            settings,
            folder=Path(state),
            fingerprint="",
            size=a.crop,
            mean=spec.mean,
            std=spec.std,
            device=device,
        )
        return _timed(lambda: (event for event in training.run() if isinstance(event, StepDone)), device)


class PlainClips(Dataset[tuple[torch.Tensor, int]]):
    """Every second frame from a random place, a random square resized, and a flip: as a tutorial reads."""

    def __init__(self, videos: list[Path], frames: int, crop: int) -> None:
        self.videos, self.frames, self.crop = videos, frames, crop

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        with av.open(str(self.videos[i])) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        rng = np.random.default_rng(i)
        first = int(rng.integers(max(1, len(pictures) - 2 * self.frames + 1)))
        chosen = [pictures[(first + 2 * k) % len(pictures)] for k in range(self.frames)]
        x = torch.from_numpy(np.stack(chosen)).permute(0, 3, 1, 2)
        side = int(min(x.shape[2:]) * rng.uniform(0.5, 1))
        top, left = (int(rng.integers(n - side + 1)) for n in x.shape[2:])
        x = F.interpolate(
            x[:, :, top : top + side, left : left + side],
            (self.crop, self.crop),
            mode="bilinear",
            antialias=True,
        )
        return (x.flip(3) if rng.random() < 0.5 else x), i % CLASSES


def plain_seconds(videos: list[Path], sizes: SwinSizes, a: argparse.Namespace) -> float:
    """One epoch of a plain loop on torchvision's module."""
    from torchvision.models.video.swin_transformer import SwinTransformer3d

    device = torch.device(a.device)
    model = SwinTransformer3d(
        patch_size=list(sizes.patch_size),
        embed_dim=sizes.embed_dim,
        depths=list(sizes.depths),
        num_heads=list(sizes.num_heads),
        window_size=list(sizes.window_size),
        stochastic_depth_prob=0.1,
        num_classes=CLASSES,
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.05)
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    loader = DataLoader(
        PlainClips(videos, a.frames, a.crop), a.batch, shuffle=True, num_workers=os.cpu_count() or 1
    )

    def steps() -> Iterator[None]:
        for clips, labels in loader:
            x = (clips.to(device).permute(0, 2, 1, 3, 4).float() - mean) / std
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = F.cross_entropy(model(x), labels.to(device), label_smoothing=0.1)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            yield

    return _timed(steps, device)


def _timed(steps: Callable[[], Iterator[object]], device: torch.device) -> float:
    began = time.perf_counter()
    for _ in steps():
        pass
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=SIZES, default="small")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--crop", type=int, default=112)
    parser.add_argument("--clips", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pairs", type=int, default=3)
    a = parser.parse_args()
    found = [Path(os.fsdecode(f.path)) for f in discover([os.fsencode(a.folder)]).files]
    videos = [found[i % len(found)] for i in range(a.clips)]
    sides: dict[str, Callable[[list[Path], SwinSizes, argparse.Namespace], float]] = {"vtag": vtag_seconds}
    try:
        # the usual wheels are built for CUDA; on another torch these names, which no Swin needs, are missing
        operators = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            if not hasattr(torch.ops.torchvision, name):
                operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision.models.video.swin_transformer  # noqa: F401

        sides["torchvision"] = plain_seconds
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"torchvision does not import ({error}): vtag alone\n")
    ratios = []
    for _ in range(a.pairs):
        speeds = {name: len(videos) / run(videos, SIZES[a.model], a) for name, run in sides.items()}
        print("  ".join(f"{name} {speed:.2f} clips/s" for name, speed in speeds.items()))
        if len(speeds) == 2:
            ratios.append(speeds["vtag"] / speeds["torchvision"])
    if ratios:
        print(f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
