"""Pooled features of windows, with the clip or video that each window belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Features:
    """Pooled features [N, D] of N windows; `owner` [N] has the number of the clip or video of each window."""

    values: NDArray[np.float32]
    owner: NDArray[np.int64]
    windows: NDArray[np.int64]  # [N, 2] start_ms, end_ms
    videos: tuple[str, ...] = field(default=())  # content keys by owner, if the windows are of a library

    @property
    def hours(self) -> float:
        """Total length of the windows."""
        return float((self.windows[:, 1] - self.windows[:, 0]).sum()) / 3_600_000


def empty_features(dim: int) -> Features:
    """Features of no window."""
    return Features(np.zeros((0, dim), np.float32), np.zeros(0, np.int64), np.zeros((0, 2), np.int64))


def concatenate(first: Features, second: Features) -> Features:
    """The windows of both; the owners of `second` are numbered after those of `first`."""
    owners = max(len(first.videos), int(first.owner.max(initial=-1)) + 1)
    videos = (*first.videos, *[""] * (owners - len(first.videos)), *second.videos) if second.videos else ()
    return Features(
        np.concatenate([first.values, second.values]),
        np.concatenate([first.owner, second.owner + owners]),
        np.concatenate([first.windows, second.windows]),
        videos,
    )


class FeatureCollector:
    """Collects windows of several observations."""

    def __init__(self) -> None:
        self._values: list[NDArray[np.float32]] = []
        self._owner: list[NDArray[np.int64]] = []
        self._windows: list[NDArray[np.int64]] = []

    def add(self, features: NDArray[np.float16], windows: NDArray[np.int64], owner: int) -> None:
        """Add `windows` [W, 2] of one owner; the V views of their `features` [W, V, D] are averaged."""
        self._values.append(features.astype(np.float32).mean(1))
        self._owner.append(np.full(len(windows), owner, np.int64))
        self._windows.append(windows)

    def build(self, dim: int, videos: tuple[str, ...] = ()) -> Features:
        """All added windows, with features of `dim` dimensions."""
        if not self._values:
            return empty_features(dim)
        return Features(
            np.concatenate(self._values), np.concatenate(self._owner), np.concatenate(self._windows), videos
        )
