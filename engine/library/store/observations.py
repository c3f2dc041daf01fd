"""What was seen: for a content, a backbone and a sampling, the pooled feature of every window looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import Library, now

_FLOAT16_MOST = 65504.0
_MOST_BYTES = 900 * 2**20  # SQLite's own limit for a value is 1,000,000,000 bytes


@dataclass(frozen=True)
class Observation:
    """`windows` int64 [W, 2] (start_ms, end_ms), sorted; `features` float16 [W, V, D] (V views a window)."""

    windows: NDArray[np.int64]
    features: NDArray[np.float16]


@dataclass(frozen=True)
class Provenance:
    """What computed an observation: recorded, and never a reason to look again."""

    backend: str
    device: str
    precision: str


def observed_keys(library: Library, backbone_hash: str, sampling: str) -> set[str]:
    """Content keys that were seen with a backbone and a sampling; answered from an index."""
    rows = library.observations.execute(
        "SELECT content_key FROM observations WHERE backbone_hash = ? AND sampling = ?",
        (backbone_hash, sampling),
    )
    return {row[0] for row in rows}


def densest_samplings(library: Library, backbone_hash: str) -> dict[str, str]:
    """Content keys to the sampling with the most windows, of all that a backbone saw, fewest windows first."""
    rows = library.observations.execute(
        "SELECT content_key, sampling FROM observations WHERE backbone_hash = ? ORDER BY window_count, id",
        (backbone_hash,),
    )
    return dict(rows.fetchall())


def densest_of_any_backbone(library: Library) -> dict[str, tuple[str, str]]:
    """Content keys to the backbone and sampling with the most windows, fewest windows first."""
    rows = library.observations.execute(
        "SELECT content_key, backbone_hash, sampling FROM observations ORDER BY window_count, id"
    )
    return {key: (backbone_hash, sampling) for key, backbone_hash, sampling in rows}


def densest(library: Library, content_key: str, backbone_hash: str) -> Observation | None:
    """What a backbone saw of a content, by the sampling with the most windows; None if it saw nothing."""
    row = library.observations.execute(
        "SELECT sampling FROM observations WHERE content_key = ? AND backbone_hash = ? "
        "ORDER BY window_count DESC, id DESC LIMIT 1",
        (content_key, backbone_hash),
    ).fetchone()
    return get(library, content_key, backbone_hash, row[0]) if row else None


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


def window_starts(library: Library, content_key: str, backbone_hash: str, sampling: str) -> frozenset[int]:
    """Where the windows begin (ms) that were seen of a content."""
    row = library.observations.execute(
        "SELECT windows FROM observations WHERE backbone_hash = ? AND sampling = ? AND content_key = ?",
        (backbone_hash, sampling, content_key),
    ).fetchone()
    return frozenset(np.frombuffer(row[0], "<i8")[::2].tolist()) if row else frozenset()


def add(
    library: Library,
    content_key: str,
    backbone_hash: str,
    sampling: str,
    windows: NDArray[np.int64],
    features: NDArray[np.float32],
    made_by: Provenance,
    *,
    replace: bool = False,
) -> Observation:
    """Keep what was seen: `windows` [W, 2] and `features` [W, V, D]; returns all that is known now.

    A window that is there already is not overwritten, unless `replace` throws away what was there. Raises
    LibraryError where features are no numbers: what is kept is believed for years.
    """
    if not np.isfinite(halves := np.clip(features, -_FLOAT16_MOST, _FLOAT16_MOST).astype(np.float16)).all():
        raise LibraryError(
            "the model gave features that are no numbers: try another precision, or another model"
        )
    library.observations.execute("BEGIN IMMEDIATE")  # two processes may look at the same content
    try:
        known = None if replace else get(library, content_key, backbone_hash, sampling)
        seen = _merged(known, windows, halves)
        _put(library, content_key, backbone_hash, sampling, seen, made_by)
    except BaseException:
        library.observations.rollback()
        raise
    library.observations.commit()
    return seen


def copy(library: Library, content_key: str, to_key: str) -> None:
    """What was seen of one content was seen of another that shows the same, with every backbone and sampling."""
    library.observations.execute("BEGIN IMMEDIATE")
    library.observations.execute(
        "INSERT OR IGNORE INTO observations (content_key, backbone_hash, sampling, views, dim, window_count, "
        "windows, features, backend, device, precision, made_at) SELECT ?, backbone_hash, sampling, views, dim, "
        "window_count, windows, features, backend, device, precision, made_at FROM observations "
        "WHERE content_key = ?",
        (to_key, content_key),
    )
    library.observations.commit()


def _merged(
    known: Observation | None, windows: NDArray[np.int64], features: NDArray[np.float16]
) -> Observation:
    """By start; of windows that start together the one that was there first."""
    if known is not None:
        windows = np.concatenate([known.windows, windows])
        features = np.concatenate([known.features, features])
    _, first = np.unique(windows[:, 0], return_index=True)
    return Observation(np.ascontiguousarray(windows[first]), np.ascontiguousarray(features[first]))


def _put(
    library: Library,
    content_key: str,
    backbone_hash: str,
    sampling: str,
    seen: Observation,
    made_by: Provenance,
) -> None:
    blob_bytes = seen.features.nbytes
    if blob_bytes > _MOST_BYTES:
        raise LibraryError(
            f"{len(seen.windows)} windows of one video take {blob_bytes >> 20} MB, more than the library holds: "
            "scan it with a longer --stride"
        )
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
