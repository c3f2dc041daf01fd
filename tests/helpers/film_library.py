"""A library of films whose scenes are known, filled without a model: features follow the scenes."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from helpers.footage import make_video
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files, heads, observations
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.content_facts import video_columns
from vtag.engine.scan.discover import discover
from vtag.engine.video.read.probe import probe

WINDOW_MS, STRIDE_MS = 2000, 500
_MADE_BY = observations.Provenance("torch", "cpu", "fp32")


class Film(NamedTuple):
    """Scenes one after the other (label, seconds), and when it was recorded."""

    parts: Sequence[tuple[str, float]]
    recorded: str = "2024-06-30T09:12:00Z"

    @property
    def seconds(self) -> float:
        """The length of all scenes."""
        return sum(seconds for _, seconds in self.parts)


def make_film_library(
    folder: Path,
    films: Mapping[str, Film],
    labels: Sequence[str],
    make_file: Callable[[Path, Film, int], object] | None = None,
) -> Path:
    """The home of a library of `films` by their file names; `make_file(path, film, seed)` makes each file."""
    make_file = make_file or _make_small_file
    home, clips = folder / "home", folder / "Videos"
    with LibraryWriter.open(home / "library.db") as library:
        head = _add_model(library, labels)
        for seed, (name, film) in enumerate(films.items()):
            path = clips / name
            path.parent.mkdir(parents=True, exist_ok=True)
            make_file(path, film, seed)
            _add_film(library, head, path, film, seed)
        files.add_roots(library, [os.fsencode(clips)])
    return home


def _make_small_file(path: Path, film: Film, seed: int) -> None:
    make_video(path, seconds=film.seconds, fps=4, width=64, height=48, seed=seed)


def _add_model(library: LibraryWriter, labels: Sequence[str]) -> heads.Head:
    """A model whose features are the shares of the labels in a window."""
    model = heads.save_model(
        library,
        name="swin3d-t",
        source="swin3d-t",
        backbone_hash="drawn",
        head_hash="drawn",
        spec={"labels": list(labels)},
        weight=5 * np.eye(len(labels), dtype=np.float32),
        bias=np.zeros(len(labels), np.float32),
    )
    heads.use_model(library, model)
    return heads.load_head(library, model)


def _add_film(library: LibraryWriter, head: heads.Head, path: Path, film: Film, seed: int) -> None:
    file_path = os.fsencode(path)
    info = probe(file_path)
    facts = {**video_columns(info), "recorded_at": info.recorded_at or film.recorded}
    key = files.content_key(file_path)
    content = files.save_content(library, key, facts)
    file = discover([file_path]).files[0]
    files.save_file(library, Volumes().volume_of(file.path), file, content)
    windows, features = make_features(film.parts, info.duration_ms, head.labels, seed)
    observations.add(library, key, "drawn", "drawn", windows, features, _MADE_BY)
    derive.derive_segments(library, content, head, derive.derivation_rules(library, head), "drawn")


def make_features(
    parts: Sequence[tuple[str, float]], duration_ms: int, labels: Sequence[str], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows [W, 2] in ms and features [W, 1, K]: the share of each scene in a window, plus noise."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, max(1, duration_ms - WINDOW_MS + 1), STRIDE_MS)
    windows = np.stack([starts, starts + WINDOW_MS], axis=1)
    shares = 0.12 * rng.random((len(windows), 1, len(labels)))
    start_s = 0.0
    for name, seconds in parts:
        overlap = np.minimum(windows[:, 1], 1000 * (start_s + seconds)) - np.maximum(
            windows[:, 0], 1000 * start_s
        )
        confidence = rng.uniform(0.55, 1.0, len(windows))
        shares[:, 0, list(labels).index(name)] += np.clip(overlap / WINDOW_MS, 0, 1) * confidence
        start_s += seconds
    return windows, shares.astype(np.float32)
