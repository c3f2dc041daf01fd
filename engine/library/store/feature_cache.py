"""A cache of normalised features in files that can be mapped into memory; it can be deleted without loss.

For each backbone and number of views there are two files: `*.f16` has float16 [W, V, D], each feature of length 1,
and `*.rows` has the observation and the range of each window. Rows are written after their features, so features
without a row belong to an interrupted update.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.paths import LIBRARY_FILE, make_private_dir
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path

_ROW = np.dtype([("stamp", "<i8"), ("start_ms", "<i8"), ("end_ms", "<i8")])
_CHUNK = 4096  # windows that are normalised at once
_MAX_DEAD_SHARE = 0.25  # of rows whose observation is gone; above it, the files are rebuilt
_LOCK_TIMEOUT_S = 600.0


class StampedObservation(NamedTuple):
    """An observation in observations.db; its `stamp` changes whenever it is computed again."""

    id: int
    stamp: int
    content_key: str
    windows: int


class CachedFeatures(NamedTuple):
    """The cached features of a backbone and a number of views.

    `features` float16 [W, V, D] are mapped, not read. `rows` [W] have stamp, start_ms and end_ms. `live` bool [W] is
    false if the observation is gone. `contents` are the content keys by stamp.
    """

    features: NDArray[np.float16]
    rows: NDArray[np.void]
    live: NDArray[np.bool_]
    contents: dict[int, str]


def cache_folder(library: Path) -> Path:
    """The folder of the cache of a library; libraries in one folder have features of their own."""
    return (
        library.parent / "cache" / ("similar" if library.name == LIBRARY_FILE else f"similar-{library.name}")
    )


def delete_cache(library: Path) -> None:
    """Delete the cache, so that forgotten videos leave no features in it."""
    shutil.rmtree(cache_folder(library), ignore_errors=True)


def cached_features(library: Path, reader: sqlite3.Connection, backbone_hash: str) -> list[CachedFeatures]:
    """All features of a backbone, up to date. Raises LibraryError if the cache cannot be written."""
    folder = cache_folder(library)
    shapes = sorted(_observations_by_shape(reader, backbone_hash).items())
    try:
        make_private_dir(folder.parent)
        make_private_dir(folder)
        with lock_file(folder / "lock", wait_s=_LOCK_TIMEOUT_S):
            return [
                _features_of_shape(folder, reader, backbone_hash, views, dim, by_stamp)
                for (views, dim), by_stamp in shapes
            ]
    except LockHeldError as error:
        raise LibraryError(f"{display_path(folder)} is in use by {error.holder}: try again") from error
    except OSError as error:
        raise LibraryError(f"{display_path(folder)} cannot be written: {error.strerror or error}") from error


def _features_of_shape(
    folder: Path,
    reader: sqlite3.Connection,
    backbone_hash: str,
    views: int,
    dim: int,
    by_stamp: dict[int, StampedObservation],
) -> CachedFeatures:
    """The cached features of one shape, after adding what is missing in the files."""
    name = f"{hashlib.sha256(backbone_hash.encode()).hexdigest()[:16]}-{views}x{dim}"
    features, rows = folder / f"{name}.f16", folder / f"{name}.rows"
    cached_stamps = _check_files(features, rows, by_stamp, 2 * views * dim)
    _append(
        features, rows, reader, [o for o in by_stamp.values() if o.stamp not in cached_stamps], views, dim
    )
    table = np.fromfile(rows, _ROW) if rows.exists() else np.empty(0, _ROW)
    stamps, counts = _runs(table)
    live = np.repeat([stamp in by_stamp for stamp in stamps.tolist()], counts).astype(bool)
    shape = (len(table), views, dim)
    mapped = np.memmap(features, "<f2", "r", shape=shape) if len(table) else np.empty(shape, np.float16)
    return CachedFeatures(mapped, table, live, {o.stamp: o.content_key for o in by_stamp.values()})


def _runs(table: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The stamp of each run of equal stamps in a table of rows, and the length of the run."""
    stamps = np.ascontiguousarray(table["stamp"])
    first = np.flatnonzero(np.diff(stamps, prepend=stamps[:1] - 1)) if len(stamps) else np.empty(0, np.int64)
    return stamps[first], np.diff(first, append=len(stamps))


def _observations_by_shape(
    reader: sqlite3.Connection, backbone_hash: str
) -> dict[tuple[int, int], dict[int, StampedObservation]]:
    """The observations of a backbone: by views and dimensions, then by stamp."""
    # no column that is stored after the features: to reach it, SQLite would read them
    rows = reader.execute(
        "SELECT views, dim, id, content_key, sampling, window_count FROM observations WHERE backbone_hash = ?",
        (backbone_hash,),
    )
    by_shape: dict[tuple[int, int], dict[int, StampedObservation]] = {}
    for views, dim, row_id, key, sampling, windows in rows:
        text = f"{row_id} {key} {windows} {sampling}"
        digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
        stamp = int.from_bytes(digest, "little", signed=True)
        by_shape.setdefault((views, dim), {})[stamp] = StampedObservation(row_id, stamp, key, windows)
    return by_shape


def _check_files(
    features: Path, rows: Path, by_stamp: dict[int, StampedObservation], row_bytes: int
) -> set[int]:
    """The stamps in the files. Cuts off features without rows, and deletes files that are damaged or mostly dead."""
    try:
        row_count = rows.stat().st_size // _ROW.itemsize
        table = np.fromfile(rows, _ROW, row_count)
        stamps, counts = _runs(table)
        cached_counts = dict(zip(stamps.tolist(), counts.tolist(), strict=True))
        dead = sum(count for stamp, count in cached_counts.items() if stamp not in by_stamp)
        is_sound = (
            rows.stat().st_size == row_count * _ROW.itemsize
            and features.stat().st_size >= row_count * row_bytes
            and len(cached_counts) == len(stamps)  # an observation's windows lie together
            and dead <= _MAX_DEAD_SHARE * row_count
            and all(
                by_stamp[stamp].windows == count
                for stamp, count in cached_counts.items()
                if stamp in by_stamp
            )
        )
    except FileNotFoundError:
        is_sound, cached_counts, row_count = False, {}, 0
    if not is_sound:
        features.unlink(missing_ok=True)
        rows.unlink(missing_ok=True)
        return set()
    if features.stat().st_size > row_count * row_bytes:
        with open(features, "r+b") as file:
            file.truncate(row_count * row_bytes)
    return set(cached_counts)


def _append(
    features: Path,
    rows: Path,
    reader: sqlite3.Connection,
    missing: list[StampedObservation],
    views: int,
    dim: int,
) -> None:
    """Add the features and the rows of observations that are not in the files."""
    if not missing:
        return
    with _appending(features) as file, _appending(rows) as index:
        for observation in missing:
            row = reader.execute(
                "SELECT windows, features FROM observations WHERE id = ?", (observation.id,)
            ).fetchone()
            if row is None:  # replaced meanwhile: the next update adds the new one
                continue
            windows = np.frombuffer(row[0], "<i8").reshape(-1, 2)
            values = np.frombuffer(row[1], "<f2").reshape(-1, views, dim)
            for start in range(0, len(values), _CHUNK):
                file.write(normalised(values[start : start + _CHUNK]).astype("<f2").tobytes())
            table = np.empty(len(windows), _ROW)
            table["stamp"] = observation.stamp
            table["start_ms"], table["end_ms"] = windows.T
            index.write(table.tobytes())
            if file.tell() % (2 * views * dim) or len(values) != len(windows):
                raise OSError("an observation whose windows and features differ in number")


def normalised(features: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Features [..., D] as float32 of length 1; a feature of zeros stays so."""
    values = features.astype(np.float32)
    length = np.sqrt(np.einsum("...d,...d->...", values, values, dtype=np.float64))[..., None]
    return np.asarray(values / np.maximum(length, 1e-12), np.float32)


@contextlib.contextmanager
def _appending(path: Path) -> Iterator[BinaryIO]:
    flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0)
    with open(os.open(path, flags, 0o600), "ab") as file:
        yield file
