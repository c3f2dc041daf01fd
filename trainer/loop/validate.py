"""Loss and accuracy of a network while it trains: one clip from the middle of every validation video."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from torch.nn import functional as F

from vtag.trainer.data.clip_source import ClipRequest, ClipSource, Pixels
from vtag.trainer.loop.distributed import DistributedContext
from vtag.trainer.loop.network import Network

Validator = Callable[[Network], tuple[float, float]]  # loss, accuracy


def make_validator(
    source: ClipSource,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    device: torch.device,
    bf16: bool = False,
    clips_at_once: int = 4,
    distributed: DistributedContext = DistributedContext(),
) -> Validator:
    """A function that measures a network on all items of `source`; every process of `distributed` does a part.

    Items that cannot be read do not count.
    """
    items = range(distributed.rank, len(source.items), distributed.world_size)
    requests = [ClipRequest(item, source.positions // 2) for item in items]
    means, stds = (torch.tensor(v, dtype=torch.float32, device=device) for v in (mean, std))

    @torch.inference_mode()
    def score(network: Network, clips: Sequence[Pixels], labels: Sequence[int]) -> tuple[float, int]:
        """The sum of the losses of `clips`, and how many of them are right."""
        pixels = torch.from_numpy(np.stack(clips)).to(device).float()
        truth = torch.tensor(labels, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = network((pixels - means) / stds)
        loss = F.cross_entropy(logits, truth, reduction="sum")
        return float(loss), int((logits.argmax(1) == truth).sum())

    def validate(network: Network) -> tuple[float, float]:
        network.eval()
        loss = right = count = 0.0
        labels = (source.items[request.item].label for request in requests)
        readable = (
            (clip, label)
            for clip, label in zip(source.read(requests), labels, strict=True)
            if clip is not None
        )
        while batch := list(islice(readable, clips_at_once)):
            batch_loss, batch_right = score(
                network, [clip for clip, _ in batch], [label for _, label in batch]
            )
            loss, right, count = loss + batch_loss, right + batch_right, count + len(batch)
        network.train()
        loss, right, count = distributed.all_reduce_sum((loss, right, count), device)
        return loss / max(count, 1), right / max(count, 1)

    return validate
