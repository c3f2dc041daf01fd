"""What a head would find in all that was seen, without writing it: its moments, and the nearest to them."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from vtag.engine.checkpoints.formats.safetensors_files import read_safetensors
from vtag.engine.checkpoints.model_folder import read_spec
from vtag.engine.checkpoints.safe_open import open_regular
from vtag.engine.library.analysis.segments import DEFAULT_THRESHOLD, Rule, probabilities, segments_of
from vtag.engine.library.database import Library
from vtag.engine.library.store import observations


class Found(NamedTuple):
    """A stretch of a video in which a head sees a label; `is_sure` where it passes the label's threshold."""

    content_id: int
    display: str
    start_ms: int
    end_ms: int
    score: float
    is_sure: bool


def would_find(library: Library, folder: Path, label: str, limit: int) -> list[Found]:
    """The best stretches for one label of the head in a model's `folder`, best first, at most `limit`.

    Every video that was seen with the head's backbone is asked, one at a time; the best window of one in which none
    passes the threshold counts, too, after those that do. Raises ModelError.
    """
    spec, file = read_spec(folder)
    with open_regular(file) as (handle, size):
        stored = read_safetensors(handle, size)
        weight, bias = (np.asarray(stored[f"head.{part}"].read(), np.float32) for part in ("weight", "bias"))
    at = spec.labels.index(label)
    threshold = spec.label_thresholds.get(label, spec.threshold or DEFAULT_THRESHOLD)
    samplings = observations.samplings(library, spec.backbone_hash)
    places = videos_with_files(library)

    def found() -> Iterator[Found]:
        for key, sampling in samplings.items():
            seen = observations.get(library, key, spec.backbone_hash, sampling)
            if seen is None or key not in places or not len(seen.windows):
                continue
            content, display, end_ms = places[key]
            scores = probabilities(seen.features, weight, bias)[:, [at]]
            sure = segments_of(seen.windows, scores, np.array([threshold]), end_ms, Rule())
            for segment in sure:
                yield Found(content, display, segment.start_ms, segment.end_ms, segment.score, True)
            if not sure:
                best = int(scores[:, 0].argmax())
                start, end = map(int, seen.windows[best])
                yield Found(content, display, start, min(end, end_ms), float(scores[best, 0]), False)

    return heapq.nlargest(limit, found(), key=lambda each: (each.is_sure, each.score))


def videos_with_files(library: Library) -> Mapping[str, tuple[int, str, int]]:
    """Content keys to id, display path and end in milliseconds, of the contents that have a file."""
    rows = library.connection.execute(
        "SELECT c.key, c.id, f.display, coalesce(c.duration_ms, 1 << 53) FROM contents c "
        "JOIN files f ON f.content_id = c.id ORDER BY f.state, f.id DESC"
    )
    return {key: (content, display, end_ms) for key, content, display, end_ms in rows}
