"""Features of single windows, which are decoded and run through a backbone now."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.backends.factory import open_backend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.trainer.data.clip_source import ClipRequest, ClipSource, LabelledVideo
from vtag.trainer.data.features import Features, empty_features

OwnedWindow = tuple[LabelledVideo, int]  # a window, and the number of the clip or video that it belongs to


@dataclass(frozen=True)
class WindowsDone:
    """Number of windows that are embedded, out of `total`."""

    done: int
    total: int


def embed_windows(
    windows: Sequence[OwnedWindow], model: Checkpoint, device: str
) -> Generator[WindowsDone, None, Features]:
    """Decode `windows`, each with a `start_ms`, and run the model's backbone on them; returns their features.

    Windows that cannot be read are left out.
    """
    if not windows:
        return empty_features(model.spec.sizes.feature_dim)
    backend = open_backend(model, device=device)
    sampling = scan_sampling(model.spec, ScanOptions())
    clips_at_once = batch_size(backend.device, "predict")
    values: list[NDArray[np.float32]] = []
    numbers: list[int] = []  # of the readable windows
    with ClipSource([video for video, _ in windows], sampling, cache_bytes=0) as source:
        clips = enumerate(source.read([ClipRequest(n, 0) for n in range(len(windows))]))
        while batch := list(islice(clips, clips_at_once)):
            readable = [(n, pixels) for n, pixels in batch if pixels is not None]
            if readable:
                values.append(backend.run(np.stack([pixels for _, pixels in readable])).features)
                numbers += [n for n, _ in readable]
            yield WindowsDone(batch[-1][0] + 1, len(windows))
    if not values:
        return empty_features(model.spec.sizes.feature_dim)
    starts = np.array([windows[n][0].start_ms or 0 for n in numbers], np.int64)
    owner = np.array([windows[n][1] for n in numbers], np.int64)
    return Features(np.concatenate(values), owner, np.stack([starts, starts + sampling.window_ms], 1))
