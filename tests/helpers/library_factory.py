"""Fills libraries without a scan: random heads, and random features for files of random bytes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files, heads, observations
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.discover import discover

LABELS = ("archery", "riding a bike", "yoga", "none of these")
MADE_BY = observations.Provenance("torch", "cpu", "fp32")
SAMPLING = "sampling"


def add_model(library: LibraryWriter, *, seed: int = 0, backbone: str = "backbone", name: str = "m") -> int:
    rng = np.random.default_rng(seed)
    return heads.save_model(
        library,
        name=name,
        source=name,
        backbone_hash=backbone,
        head_hash=f"head{seed}",
        spec={"labels": list(LABELS)},
        weight=rng.normal(size=(4, 6)).astype(np.float32),
        bias=np.zeros(4, np.float32),
    )


def add_video(
    library: LibraryWriter, path: Path, *, seed: int = 0, windows: int = 8, is_scanned: bool = True
) -> int:
    """Add a file of random bytes as a scan does, with random features for its windows if `is_scanned`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(seed).bytes(3000))
    key = files.content_key(os.fsencode(path))
    content_id = files.save_content(library, key, {"duration_ms": windows * 1000})
    file = discover([os.fsencode(path)]).files[0]
    files.save_file(library, Volumes().volume_of(file.path), file, content_id)
    if is_scanned:
        spans = np.array([(i * 1000, i * 1000 + 1000) for i in range(windows)])
        features = 3 * np.random.default_rng(seed).normal(size=(windows, 1, 6)).astype(np.float32)
        observations.add(library, key, "backbone", SAMPLING, spans, features, MADE_BY)
    return content_id


def fill_library(library: LibraryWriter, folder: Path, videos: int, *, threshold: float = 0.4) -> int:
    """A model, and videos `0.mp4`, `1.mp4` … of 8 s with moments of its labels; returns the model's id."""
    model_id = add_model(library)
    for i in range(videos):
        add_video(library, folder / f"{i}.mp4", seed=i)
    heads.set_model_threshold(library, model_id, threshold)
    list(derive.retag(library, model_id))
    return model_id
