"""Previews a head: the moments that it would find in all observed videos. Writes nothing to the library."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.analysis.segments import Hysteresis, find_segments, label_thresholds, probabilities
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.store import observations
from vtag.engine.library.store.file_paths import displays_by_content


class PreviewRow(NamedTuple):
    """What a model would find of one label in one video."""

    display: str
    label: str
    moment_count: int
    best_score: float


class ObservedVideo(NamedTuple):
    """A video that has a file, and its observation with the most windows."""

    content_id: int
    display: str
    end_ms: int
    observation: observations.Observation


def preview_model(library: LibraryWriter, model: Checkpoint) -> list[PreviewRow]:
    """One row for each video and label with moments that the model would find, the highest score first."""
    spec = model.spec
    thresholds = label_thresholds(spec.labels, spec.label_thresholds, spec.threshold)
    rows: list[PreviewRow] = []
    for video in observed_videos(library, spec.backbone_hash):
        windows, features = video.observation.windows, video.observation.features
        scores = probabilities(features, model.tensors["head.weight"], model.tensors["head.bias"])
        segments = find_segments(windows, scores, thresholds, video.end_ms, Hysteresis())
        for label in sorted({segment.label for segment in segments}):
            label_scores = [segment.score for segment in segments if segment.label == label]
            rows.append(PreviewRow(video.display, spec.labels[label], len(label_scores), max(label_scores)))
    return sorted(rows, key=lambda row: (-row.best_score, row.display))


def observed_videos(library: LibraryWriter, backbone_hash: str) -> Iterator[ObservedVideo]:
    """Each video that has a file and an observation of this backbone, in its sampling with the most windows."""
    videos = _videos_with_files(library)
    for key, sampling in observations.densest_samplings(library, backbone_hash).items():
        observation = observations.get(library, key, backbone_hash, sampling)
        if observation is not None and key in videos and len(observation.windows):
            yield ObservedVideo(*videos[key], observation)


def _videos_with_files(library: LibraryWriter) -> Mapping[str, tuple[int, str, int]]:
    """Content keys to id, display path and end in milliseconds, of the contents that have a file."""
    displays = displays_by_content(library.connection)
    rows = library.connection.execute(
        "SELECT key, id, coalesce(duration_ms, ?) FROM contents", (END_OF_TIME_MS,)
    )
    return {
        key: (content, displays[content][0], end_ms) for key, content, end_ms in rows if content in displays
    }
