"""Previews a head: the moments that it would find in all observed videos. Writes nothing to the library."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.formats.safetensors_files import read_safetensors
from vtag.engine.checkpoints.model_folder import read_spec
from vtag.engine.checkpoints.safe_open import open_regular
from vtag.engine.library.analysis.segments import Hysteresis, find_segments, label_thresholds, probabilities
from vtag.engine.library.database import Library
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.store import observations


class PreviewMoment(NamedTuple):
    """A range of a video and the score of the label there; `is_sure` if it reaches the label's threshold."""

    content_id: int
    display: str
    start_ms: int
    end_ms: int
    score: float
    is_sure: bool


class PreviewRow(NamedTuple):
    """What a model would find of one label in one video."""

    display: str
    label: str
    moment_count: int
    best_score: float


class _ObservedVideo(NamedTuple):
    content_id: int
    display: str
    end_ms: int
    observation: observations.Observation


def preview_model(library: Library, model: Checkpoint) -> list[PreviewRow]:
    """One row for each video and label with moments that the model would find, the highest score first."""
    spec = model.spec
    thresholds = label_thresholds(spec.labels, spec.label_thresholds, spec.threshold)
    rows: list[PreviewRow] = []
    for video in _observed_videos(library, spec.backbone_hash):
        windows, features = video.observation.windows, video.observation.features
        scores = probabilities(features, model.tensors["head.weight"], model.tensors["head.bias"])
        segments = find_segments(windows, scores, thresholds, video.end_ms, Hysteresis())
        for label in sorted({segment.label for segment in segments}):
            label_scores = [segment.score for segment in segments if segment.label == label]
            rows.append(PreviewRow(video.display, spec.labels[label], len(label_scores), max(label_scores)))
    return sorted(rows, key=lambda row: (-row.best_score, row.display))


def preview_label(library: Library, folder: Path, label: str, limit: int) -> list[PreviewMoment]:
    """At most `limit` moments that the head in a model's `folder` would find of one label, the best first.

    A video without such a moment gives its best window instead; these come after all moments. Reads one video's
    features at a time. Raises ModelError if the folder holds no sound head, ValueError if the head lacks the label.
    """
    spec, file = read_spec(folder)
    with open_regular(file) as (handle, size):
        tensors = read_safetensors(handle, size)
        weight, bias = (np.asarray(tensors[f"head.{name}"].read(), np.float32) for name in ("weight", "bias"))
    index = spec.labels.index(label)
    thresholds = label_thresholds(spec.labels, spec.label_thresholds, spec.threshold)[[index]]
    moments = (
        moment
        for video in _observed_videos(library, spec.backbone_hash)
        for moment in _label_moments(
            video, probabilities(video.observation.features, weight, bias)[:, [index]], thresholds
        )
    )
    return heapq.nlargest(limit, moments, key=lambda moment: (moment.is_sure, moment.score))


def _label_moments(
    video: _ObservedVideo, scores: NDArray[np.float64], thresholds: NDArray[np.float64]
) -> Iterator[PreviewMoment]:
    """A video's moments of the one label that `scores` [W, 1] are of, or else its best window."""
    windows = video.observation.windows
    segments = find_segments(windows, scores, thresholds, video.end_ms, Hysteresis())
    for segment in segments:
        yield PreviewMoment(
            video.content_id, video.display, segment.start_ms, segment.end_ms, segment.score, True
        )
    if not segments:
        best = int(scores[:, 0].argmax())
        start, end = map(int, windows[best])
        score = float(scores[best, 0])
        yield PreviewMoment(video.content_id, video.display, start, min(end, video.end_ms), score, False)


def _observed_videos(library: Library, backbone_hash: str) -> Iterator[_ObservedVideo]:
    """Each video that has a file and an observation of this backbone, in its sampling with the most windows."""
    videos = _videos_with_files(library)
    for key, sampling in observations.densest_samplings(library, backbone_hash).items():
        observation = observations.get(library, key, backbone_hash, sampling)
        if observation is not None and key in videos and len(observation.windows):
            yield _ObservedVideo(*videos[key], observation)


def _videos_with_files(library: Library) -> Mapping[str, tuple[int, str, int]]:
    """Content keys to id, display path and end in milliseconds, of the contents that have a file."""
    rows = library.connection.execute(
        "SELECT c.key, c.id, f.display, coalesce(c.duration_ms, ?) FROM contents c "
        "JOIN files f ON f.content_id = c.id ORDER BY f.state, f.id DESC",
        (END_OF_TIME_MS,),
    )
    return {key: (content_id, display, end_ms) for key, content_id, display, end_ms in rows}
