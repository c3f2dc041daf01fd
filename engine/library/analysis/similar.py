"""Finds similar moments: ranks all observed windows by the cosine between features. Exact, without an index."""

from __future__ import annotations

import heapq
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import LibraryError
from vtag.engine.library.certainty import MARGIN_SQL, library_min_margin
from vtag.engine.library.database import observations_path, open_observations, open_reader
from vtag.engine.library.search.copies import locate_content
from vtag.engine.library.search.rows import drop_duplicates
from vtag.engine.library.store.feature_cache import CachedFeatures, cached_features, normalised
from vtag.engine.library.store.observations import densest

DEFAULT_LIMIT = 20
_CHUNK = 1024  # windows whose features are converted at once: they fit the processor's cache
_HALF_BIAS = np.float32(2.0**112)  # between the exponents of float16 and float32
_HALF_BITS = np.int32(-0x70002000)  # 0x8fffe000: sign, exponent and fraction of a float16 within a float32
_EXCLUDED = np.float32(-2)  # the score of a window that cannot be found; below every cosine
_EXTEND_RATIO = (
    0.9  # a moment extends to neighbouring windows with at least this share of its best similarity
)
_MAX_GAP_MS = 1000  # between windows of one moment
_ROUNDING = 1e-6  # allowed error of a cosine in float32
_FIRST_BATCH = 1024  # windows that are sorted first; each further batch is 8 times as large


class SimilarMoment(NamedTuple):
    """A range of a video that is similar to the query; `score` is the cosine of its best window."""

    content_id: int
    path: bytes
    label: str | None  # of the best moment of the library in this range, a sure one if there is any
    start_ms: int
    end_ms: int
    score: float
    present: bool
    is_label_sure: bool = True


class SimilarityQuery(NamedTuple):
    """Features float32 [Q, D] of length 1 to compare with, and their own range, which is not to be found."""

    features: NDArray[np.float32]
    backbone_hash: str
    content_key: str = ""
    start_ms: int = 0
    end_ms: int = 0


def query_from_content(
    library: Path, content_id: int, at_ms: int | None, backbone_hash: str | None = None
) -> SimilarityQuery | None:
    """A query for what a content shows at `at_ms` (None: for all of it); None without an observation.

    Uses the observation of `backbone_hash`, by default of the library's backbone.
    """
    with closing(open_reader(library)) as reader:
        key = reader.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()[0]
        backbone = backbone_hash or library_backbone_hash(reader)
    with closing(open_observations(observations_path(library))) as observations:
        observation = densest(observations, key, backbone) if backbone else None
    if observation is None or backbone is None:
        return None
    windows, features = observation.windows, observation.features
    if at_ms is None:
        start_ms, end_ms = int(windows[0, 0]), int(windows[:, 1].max())
        return SimilarityQuery(prototype(features), backbone, key, start_ms, end_ms)
    nearest = int(np.abs(windows.mean(axis=1) - at_ms).argmin())  # by the middle of the windows
    return SimilarityQuery(normalised(features[nearest]), backbone, key, *windows[nearest].tolist())


def prototype(features: NDArray[np.float16] | NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean direction of the features of windows [W, V, D]: float32 [1, D]."""
    return normalised(normalised(features).mean(axis=(0, 1), dtype=np.float64)[None].astype(np.float32))


def library_backbone_hash(reader: sqlite3.Connection) -> str | None:
    """The hash of the backbone of the library's model."""
    row = reader.execute(
        "SELECT m.backbone_hash FROM settings s JOIN models m ON m.id = CAST(s.value AS INTEGER) "
        "WHERE s.key = 'model'"
    ).fetchone()
    return str(row[0]) if row else None


def find_similar(
    library: Path,
    query: SimilarityQuery,
    *,
    limit: int = DEFAULT_LIMIT,
    min_score: float = 0.0,
    per_video: int | None = None,
) -> list[SimilarMoment]:
    """Moments similar to `query`, most similar first; at most `per_video` of each video.

    Compares every window. A moment extends over neighbouring windows that are nearly as similar as its best one.
    Reads 2 x D bytes a window from the disk (1.5 GB for a million windows of 768 dimensions) and holds 28 bytes a
    window in memory. Raises LibraryError if there are no observations of the query's backbone.
    """
    with (
        closing(open_reader(library)) as reader,
        closing(open_observations(observations_path(library))) as observations,
    ):
        tables = cached_features(library, observations, query.backbone_hash)
        if not tables:
            raise LibraryError(
                "no video was scanned with this model yet: `vtag scan PATHS --model NAME` does it"
            )
        streams = [_best_first(table, _scores(table, query)) for table in tables]
        spans = heapq.merge(*streams, key=lambda span: (-span.score, span.content_key, span.start_ms))
        return _locate_spans(reader, spans, limit, min_score, per_video)


class _Span(NamedTuple):
    score: float
    content_key: str
    start_ms: int
    end_ms: int


def _scores(table: CachedFeatures, query: SimilarityQuery) -> NDArray[np.float32]:
    """The highest cosine between any view of a window and any feature of the query, float32 [W]; or _EXCLUDED."""
    scores = np.full(len(table.rows), _EXCLUDED, np.float32)
    count, views, dim = table.features.shape
    if query.features.shape[1] != dim:
        return scores
    # A float16's bits, shifted into the place of a float32's, are its value times 2^-112. The query's features are
    # scaled by 2^112 to compensate. This is exact, and five times as fast as NumPy's conversion.
    scaled = query.features * _HALF_BIAS
    buffer = np.empty((_CHUNK * views, dim), np.int32)
    for start in range(0, count, _CHUNK):
        chunk = table.features[start : start + _CHUNK].reshape(-1, dim)
        bits = buffer[: len(chunk)]
        np.copyto(bits, chunk.view("<i2"))
        bits <<= 13
        bits &= _HALF_BITS
        # einsum uses one core: BLAS would take longer to start its threads for a chunk than to compute it
        cosines = [np.einsum("wd,d->w", bits.view(np.float32), feature) for feature in scaled]
        scores[start : start + _CHUNK] = np.max(cosines, axis=0).reshape(-1, views).max(axis=1)
    scores[~table.live] = _EXCLUDED
    own_stamps = {stamp for stamp, key in table.contents.items() if key == query.content_key}
    if own_stamps:
        rows = table.rows
        is_own = np.isin(rows["stamp"], np.fromiter(own_stamps, np.int64))
        overlaps = (rows["start_ms"] < query.end_ms) & (rows["end_ms"] > query.start_ms)
        scores[is_own & overlaps] = _EXCLUDED
    return scores


def _best_first(table: CachedFeatures, scores: NDArray[np.float32]) -> Iterator[_Span]:
    """Moments of a table by the score of their best window; each window belongs to one moment."""
    rows = table.rows
    used = scores <= _EXCLUDED
    size, sorted_count = _FIRST_BATCH, 0
    while sorted_count < len(scores):
        size = min(size, len(scores))
        order = np.argpartition(-scores, size - 1)[:size]
        order = order[np.lexsort((order, -scores[order]))]
        for best in order[sorted_count:].tolist():
            if used[best]:
                continue
            first, last = _extent(rows, scores, used, best)
            used[first : last + 1] = True
            end_ms = int(rows["end_ms"][first : last + 1].max())
            key = table.contents[int(rows["stamp"][best])]
            yield _Span(float(scores[best]), key, int(rows["start_ms"][first]), end_ms)
        sorted_count, size = size, 8 * size


def _extent(
    rows: NDArray[np.void], scores: NDArray[np.float32], used: NDArray[np.bool_], best: int
) -> tuple[int, int]:
    """The first and the last window of the moment around the window `best`."""
    min_score = scores[best] * _EXTEND_RATIO if scores[best] > 0 else scores[best]

    def extends(new: int, neighbour: int) -> bool:
        early, late = min(new, neighbour), max(new, neighbour)
        return bool(
            not used[new]
            and rows["stamp"][new] == rows["stamp"][neighbour]
            and scores[new] >= min_score - _ROUNDING
            and rows["start_ms"][late] - rows["end_ms"][early] <= _MAX_GAP_MS
        )

    first = last = best
    while first > 0 and extends(first - 1, first):
        first -= 1
    while last + 1 < len(rows) and extends(last + 1, last):
        last += 1
    return first, last


def _locate_spans(
    reader: sqlite3.Connection, spans: Iterator[_Span], limit: int, min_score: float, per_video: int | None
) -> list[SimilarMoment]:
    """The first `limit` spans of videos with a known file, without overlaps (another sampling of the same video)."""
    moments: list[SimilarMoment] = []
    number_by_key: Counter[str] = Counter()
    for span in drop_duplicates(spans, key=lambda span: span.content_key):
        if len(moments) >= limit or span.score < min_score:
            break
        number_by_key[span.content_key] += 1
        if per_video is not None and number_by_key[span.content_key] > per_video:
            continue
        row = reader.execute("SELECT id FROM contents WHERE key = ?", (span.content_key,)).fetchone()
        location = locate_content(reader, row[0]) if row else None
        if location is None:
            continue
        path, is_present = location
        label, is_sure = _best_label(reader, row[0], span)
        range_ms = span.start_ms, span.end_ms
        moments.append(SimilarMoment(row[0], path, label, *range_ms, span.score, is_present, is_sure))
    return moments


def _best_label(reader: sqlite3.Connection, content_id: int, span: _Span) -> tuple[str | None, bool]:
    """The label of the best moment in a range, and whether that moment is sure."""
    row = reader.execute(
        f"SELECT l.name, {MARGIN_SQL} FROM segments s JOIN labels l ON l.id = s.label_id "
        "WHERE s.content_id = ? AND s.start_ms < ? AND s.end_ms > ? AND s.verdict IS NOT 'rejected' "
        f"ORDER BY {MARGIN_SQL} >= ? DESC, s.score DESC, s.id LIMIT 1",
        (content_id, span.end_ms, span.start_ms, library_min_margin(reader)),
    ).fetchone()
    return (row[0], row[1] >= library_min_margin(reader)) if row else (None, False)
