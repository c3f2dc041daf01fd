"""What was seen: for a content, a backbone and a sampling, the pooled feature of every window looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.database import Library, now

_FLOAT16_MOST = 65504.0


@dataclass(frozen=True)
class Observation:
    """`windows` int64 [W, 2] (start_ms, end_ms), sorted; `features` float16 [W, V, D] (V views a window)."""

    windows: NDArray[np.int64]
    features: NDArray[np.float16]


@dataclass(frozen=True)
class MadeBy:
    """What computed an observation: recorded, and never a reason to look again."""

    backend: str
    device: str
    precision: str


def keys_with(library: Library, backbone_hash: str, sampling: str) -> dict[str, int]:
    """Content keys that were seen with a backbone and a sampling, and how many windows of each."""
    rows = library.observations.execute(
        "SELECT content_key, window_count FROM observations WHERE backbone_hash = ? AND sampling = ?",
        (backbone_hash, sampling),
    )
    return dict(rows.fetchall())


def get(library: Library, content_key: str, backbone_hash: str, sampling: str) -> Observation | None:
    """What was seen of a content, or None."""
    row = library.observations.execute(
        "SELECT views, dim, windows, features FROM observations "
        "WHERE backbone_hash = ? AND sampling = ? AND content_key = ?",
        (backbone_hash, sampling, content_key),
    ).fetchone()
    if row is None:
        return None
    views, dim, windows, features = row
    return Observation(
        np.frombuffer(windows, "<i8").reshape(-1, 2),
        np.frombuffer(features, "<f2").reshape(-1, views, dim),
    )


def add(
    library: Library,
    content_key: str,
    backbone_hash: str,
    sampling: str,
    windows: NDArray[np.int64],
    features: NDArray[np.float32],
    made_by: MadeBy,
    *,
    replace: bool = False,
) -> Observation:
    """Keep what was seen: `windows` [W, 2] and `features` [W, V, D]; returns all that is known now.

    A window that is there already is not overwritten, unless `replace` throws away what was there.
    """
    known = None if replace else get(library, content_key, backbone_hash, sampling)
    halves = np.clip(features, -_FLOAT16_MOST, _FLOAT16_MOST).astype(np.float16)
    if known is not None:
        fresh = ~np.isin(windows[:, 0], known.windows[:, 0])
        windows = np.concatenate([known.windows, windows[fresh]])
        halves = np.concatenate([known.features, halves[fresh]])
    order = np.argsort(windows[:, 0], kind="stable")
    seen = Observation(np.ascontiguousarray(windows[order]), np.ascontiguousarray(halves[order]))
    library.observations.execute(
        "INSERT OR REPLACE INTO observations (content_key, backbone_hash, sampling, views, dim, window_count, "
        "windows, features, backend, device, precision, made_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            content_key,
            backbone_hash,
            sampling,
            *seen.features.shape[1:],
            len(seen.windows),
            seen.windows.astype("<i8").tobytes(),
            seen.features.astype("<f2").tobytes(),
            made_by.backend,
            made_by.device,
            made_by.precision,
            now(),
        ),
    )
    return seen
