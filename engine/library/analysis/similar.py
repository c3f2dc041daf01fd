"""Find more like this: moments ranked by the cosine between features, exact, over every window that was looked at."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import OBSERVATIONS_FILE, open_observations, open_reader
from vtag.engine.library.search.moments import locate_content
from vtag.engine.library.store.feature_cache import CachedFeatures, cached_features, normalised

DEFAULT_LIMIT = 20
_CHUNK = 1024  # windows whose features are converted at once, so that they stay in the processor's cache
_HALF_BIAS = np.float32(2.0**112)  # between the exponents of float16 and float32
_HALF_BITS = np.int32(
    -0x70002000
)  # 0x8fffe000: a float16's sign, exponent and fraction where float32 has them
_GOES_ON = 0.9  # of a moment's best similarity: windows beside it that have it are the same moment
_GAP_MS = 1000  # between windows of one moment
_FLAT = 1e-6


class SimilarMoment(NamedTuple):
    """A stretch of a video that looks like what was asked; `score` is the cosine of its best window."""

    content_id: int
    path: bytes
    label: str | None  # of the best moment that the library knows there
    start_ms: int
    end_ms: int
    score: float
    present: bool


class SimilarityQuery(NamedTuple):
    """What is looked for: `features` float32 [Q, D], of length 1, and where it is itself, which is not found."""

    features: NDArray[np.float32]
    backbone_hash: str
    content_key: str = ""
    start_ms: int = 0
    end_ms: int = 0


def query_from_content(
    library: Path, content_id: int, at_ms: int | None, backbone_hash: str | None = None
) -> SimilarityQuery | None:
    """What was seen at `at_ms` of a content (None: all of it together); None where nothing was seen of it.

    By the backbone that is told, else the library's.
    """
    with closing(open_reader(library)) as reader:
        key = reader.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()[0]
        backbone = backbone_hash or library_backbone_hash(reader)
    with closing(open_observations(library.parent / OBSERVATIONS_FILE)) as observations:
        row = observations.execute(
            "SELECT views, dim, windows, features FROM observations WHERE content_key = ? AND backbone_hash = ? "
            "ORDER BY window_count DESC, id LIMIT 1",
            (key, backbone),
        ).fetchone()
    if row is None or backbone is None:
        return None
    windows = np.frombuffer(row[2], "<i8").reshape(-1, 2)
    features = np.frombuffer(row[3], "<f2").reshape(-1, row[0], row[1])
    if at_ms is None:
        return SimilarityQuery(
            prototype(features), backbone, key, int(windows[0, 0]), int(windows[:, 1].max())
        )
    # the window in whose middle it is, as nearly as there is one
    chosen = int(np.abs(windows.mean(axis=1) - at_ms).argmin())
    return SimilarityQuery(normalised(features[chosen]), backbone, key, *windows[chosen].tolist())


def prototype(features: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """What windows [W, V, D] have in common: their mean direction, float32 [1, D]."""
    return normalised(normalised(features).mean(axis=(0, 1), dtype=np.float64)[None].astype(np.float32))


def library_backbone_hash(reader: sqlite3.Connection) -> str | None:
    """The hash of the backbone of the library's model."""
    row = reader.execute(
        "SELECT m.backbone_hash FROM settings s JOIN models m ON m.id = CAST(s.value AS INTEGER) "
        "WHERE s.key = 'model'"
    ).fetchone()
    return str(row[0]) if row else None


def find_similar(
    library: Path, like: SimilarityQuery, *, limit: int = DEFAULT_LIMIT, min_score: float = 0.0
) -> list[SimilarMoment]:
    """Moments that look like `like`, most similar first.

    Every window is compared. Windows side by side that are nearly as similar as the best of them are one moment.
    Reads 2 x D bytes a window from the disk (1.5 GB for a million windows of 768 dimensions) and holds 28 bytes a
    window in memory. Raises LibraryError where nothing was seen with that backbone.
    """
    with (
        closing(open_reader(library)) as reader,
        closing(open_observations(library.parent / OBSERVATIONS_FILE)) as observations,
    ):
        found = cached_features(library, observations, like.backbone_hash)
        if not found:
            raise LibraryError("nothing was seen with this model: `vtag scan --model` looks at the videos")
        streams = [_best_first(block, _scores(block, like), like) for block in found]
        return _shown(reader, _merged(streams), limit, min_score)


class _Span(NamedTuple):
    score: float
    content_key: str
    start_ms: int
    end_ms: int


def _scores(block: CachedFeatures, like: SimilarityQuery) -> NDArray[np.float32]:
    """The highest cosine of each window's views with any of the asked, float32 [W]; -2 where it does not count."""
    scores = np.full(len(block.rows), -2, np.float32)
    count, views, dim = block.features.shape
    if like.features.shape[1] != dim:
        return scores
    # A float16's bits, moved into a float32's place, are its value times 2^-112, for which the other side makes up:
    # exact for all of them, and five times as fast as NumPy's conversion.
    asked = like.features * _HALF_BIAS
    wide = np.empty((_CHUNK * views, dim), np.int32)
    for at in range(0, count, _CHUNK):
        part = block.features[at : at + _CHUNK].reshape(-1, dim)
        bits = wide[: len(part)]
        np.copyto(bits, part.view("<i2"))
        bits <<= 13
        bits &= _HALF_BITS
        # one core, and no BLAS: starting its threads for each chunk costs many times what they do
        cosines = [np.einsum("wd,d->w", bits.view(np.float32), feature) for feature in asked]
        scores[at : at + _CHUNK] = np.max(cosines, axis=0).reshape(-1, views).max(axis=1)
    scores[~block.live] = -2
    itself = {stamp for stamp, key in block.contents.items() if key == like.content_key}
    if itself:
        rows = block.rows
        mine = np.isin(rows["stamp"], np.fromiter(itself, np.int64))
        scores[mine & (rows["start_ms"] < like.end_ms) & (rows["end_ms"] > like.start_ms)] = -2
    return scores


def _best_first(block: CachedFeatures, scores: NDArray[np.float32], like: SimilarityQuery) -> Iterator[_Span]:
    """Moments of a block by their best window; each window is in one."""
    rows = block.rows
    taken = scores < -1.5
    size, done = 1024, 0
    while done < len(scores):
        size = min(size, len(scores))
        order = np.argpartition(-scores, size - 1)[:size]
        order = order[np.lexsort((order, -scores[order]))]
        for at in order[done:].tolist():
            if taken[at]:
                continue
            first, last = _extent(rows, scores, taken, at)
            taken[first : last + 1] = True
            end = int(rows["end_ms"][first : last + 1].max())
            key = block.contents[int(rows["stamp"][at])]
            yield _Span(float(scores[at]), key, int(rows["start_ms"][first]), end)
        done, size = size, 8 * size


def _extent(
    rows: NDArray[np.void], scores: NDArray[np.float32], taken: NDArray[np.bool_], at: int
) -> tuple[int, int]:
    """The first and the last window of the moment around the window `at`."""
    least = scores[at] * _GOES_ON if scores[at] > 0 else scores[at]

    def joins(new: int, old: int) -> bool:
        early, late = min(new, old), max(new, old)
        return bool(
            not taken[new]
            and rows["stamp"][new] == rows["stamp"][old]
            and scores[new] >= least - _FLAT
            and rows["start_ms"][late] - rows["end_ms"][early] <= _GAP_MS
        )

    first = last = at
    while first > 0 and joins(first - 1, first):
        first -= 1
    while last + 1 < len(rows) and joins(last + 1, last):
        last += 1
    return first, last


def _merged(streams: list[Iterator[_Span]]) -> Iterator[_Span]:
    return heapq.merge(*streams, key=lambda span: (-span.score, span.content_key, span.start_ms))


def _shown(
    reader: sqlite3.Connection, spans: Iterator[_Span], limit: int, min_score: float
) -> list[SimilarMoment]:
    """The first `limit` that lie in a known file and overlap none before them (another sampling saw the same)."""
    found: list[SimilarMoment] = []
    before: dict[str, list[_Span]] = {}
    for span in spans:
        if len(found) >= limit or span.score < min_score:
            break
        known = before.setdefault(span.content_key, [])
        row = reader.execute("SELECT id FROM contents WHERE key = ?", (span.content_key,)).fetchone()
        place = locate_content(reader, row[0]) if row else None
        if place is None or any(s.start_ms < span.end_ms and span.start_ms < s.end_ms for s in known):
            continue
        known.append(span)
        label = _label(reader, row[0], span)
        found.append(SimilarMoment(row[0], place[0], label, span.start_ms, span.end_ms, span.score, place[1]))
    return found


def _label(reader: sqlite3.Connection, content_id: int, span: _Span) -> str | None:
    row = reader.execute(
        "SELECT l.name FROM segments s JOIN labels l ON l.id = s.label_id WHERE s.content_id = ? AND s.start_ms < ? "
        "AND s.end_ms > ? AND s.verdict IS NOT 'rejected' ORDER BY s.score DESC, s.id LIMIT 1",
        (content_id, span.end_ms, span.start_ms),
    ).fetchone()
    return row[0] if row else None
