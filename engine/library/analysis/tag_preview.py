"""Previews a tag: the moments that a new head would find of it, where its line lies, and what a person said of them.

Writes nothing to the library. A line is moved without scoring the videos again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vtag.engine.checkpoints.formats.safetensors_files import read_safetensors
from vtag.engine.checkpoints.model_folder import read_spec
from vtag.engine.checkpoints.safe_open import open_regular
from vtag.engine.library.analysis.head_preview import observed_videos
from vtag.engine.library.analysis.segments import Hysteresis, find_segments, label_thresholds, probabilities
from vtag.engine.library.analysis.tag_line import LinePreview, preview_line
from vtag.engine.library.annotations.apply import AnnotatedRange, verdict_for_range
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.labels import library_thresholds


class ScoredVideo(NamedTuple):
    """The windows int64 [W, 2] of a video, and a tag's scores [W] in them."""

    content_id: int
    display: str
    end_ms: int
    windows: NDArray[np.int64]
    scores: NDArray[np.float64]


class Judgement(Protocol):
    """What a person said of a tag in a range of a video: added, confirmed or rejected."""

    @property
    def content(self) -> int: ...

    @property
    def start_ms(self) -> int: ...

    @property
    def end_ms(self) -> int: ...

    @property
    def verdict(self) -> str: ...


class TagScores(NamedTuple):
    """A tag's scores in all observed videos by one head.

    `preset` is the line that the head came with, `line` the one that counts: the library's own, if it was moved.
    """

    tag: str
    preset: float
    line: float
    videos: tuple[ScoredVideo, ...]


class TagMoment(NamedTuple):
    """A range of a video. `is_sure` if its score reaches the line; `verdict` is confirmed, rejected or None."""

    content_id: int
    display: str
    start_ms: int
    end_ms: int
    score: float
    is_sure: bool
    verdict: str | None


class TagPreview(NamedTuple):
    """What a tag would find with a line: the moments from the line on and below it, best first, and their number."""

    above: list[TagMoment]
    below: list[TagMoment]
    line: LinePreview


def score_tag(library: LibraryWriter, folder: Path, tag: str) -> TagScores:
    """The scores of a tag by the head in a model's `folder`, in every video that its backbone observed.

    Raises ModelError if the folder holds no sound head, ValueError if the head lacks the tag.
    """
    spec, file = read_spec(folder)
    index = spec.labels.index(tag)
    with open_regular(file) as (handle, size):
        tensors = read_safetensors(handle, size)
        weight, bias = (np.asarray(tensors[f"head.{name}"].read(), np.float32) for name in ("weight", "bias"))
    preset = float(label_thresholds(spec.labels, spec.label_thresholds, spec.threshold)[index])
    videos = tuple(
        ScoredVideo(
            video.content_id,
            video.display,
            video.end_ms,
            video.observation.windows,
            probabilities(video.observation.features, weight, bias)[:, index],
        )
        for video in observed_videos(library, spec.backbone_hash)
    )
    line = library_thresholds(library.connection).get(tag, preset)
    return TagScores(tag, preset, line, videos)


def preview_tag(
    tag: TagScores,
    line: float,
    judged: Sequence[Judgement],
    limit: int,
    *,
    held_out_scores: tuple[Sequence[float], Sequence[float]] = ((), ()),
) -> TagPreview:
    """What a tag would find with its line at `line`.

    What a person confirmed is found wherever the line is, and what was rejected is not.

    Args:
        tag: its scores.
        line: the score from which a moment is of the tag.
        judged: what a person said, in the order in which it was said.
        limit: the number of moments from the line on that are returned, and of those below it.
        held_out_scores: scores of Yes and No from heads that were not trained on them.
    """
    by_content: dict[int, list[Judgement]] = defaultdict(list)
    for judgement in judged:
        by_content[judgement.content].append(judgement)
    moments = [
        moment for video in tag.videos for moment in _moments(video, line, by_content[video.content_id])
    ]
    moments.sort(key=lambda moment: (-moment.score, moment.content_id, moment.start_ms))
    verdicts = {"confirmed": True, "rejected": False, None: None}
    windows = np.concatenate([video.scores for video in tag.videos]) if tag.videos else None
    counts = preview_line(
        line,
        [moment.score for moment in moments],
        [verdicts[moment.verdict] for moment in moments],
        held_out_scores=held_out_scores,
        windows=windows,
    )
    above = [m for m in moments if m.verdict == "confirmed" or (m.is_sure and m.verdict is None)]
    below = [m for m in moments if not m.is_sure and m.verdict is None]
    rejected = [m for m in moments if m.verdict == "rejected"]
    return TagPreview(above[:limit], [*below, *rejected][:limit], counts)


def _moments(video: ScoredVideo, line: float, judged: Sequence[Judgement]) -> Iterator[TagMoment]:
    """A video's moments from the line on, what else of it was judged, else its best window."""
    thresholds = np.array([line])
    segments = find_segments(video.windows, video.scores[:, None], thresholds, video.end_ms, Hysteresis())
    found = [(segment.start_ms, segment.end_ms, segment.score, True) for segment in segments]
    for row in judged:
        if not any(row.start_ms < end and start < row.end_ms for start, end, _, _ in found):
            found.append((row.start_ms, row.end_ms, _best_score(video, row.start_ms, row.end_ms), False))
    if not found and len(video.windows):
        best = int(video.scores.argmax())
        start, end = map(int, video.windows[best])
        found.append((start, min(end, video.end_ms), float(video.scores[best]), False))
    ranges = [AnnotatedRange(n, row.start_ms, row.end_ms, row.verdict) for n, row in enumerate(judged)]
    for start, end, score, is_sure in found:
        verdict = verdict_for_range(start, end, ranges)
        if verdict is None and any(_is_within(row, start, end) for row in judged):
            verdict = "confirmed"
        yield TagMoment(video.content_id, video.display, start, end, score, is_sure, verdict)


def _is_within(row: Judgement, start_ms: int, end_ms: int) -> bool:
    """Whether at least half of a range that shows the tag lies in another range, which may be much longer."""
    overlap = min(row.end_ms, end_ms) - max(row.start_ms, start_ms)
    return row.verdict != "rejected" and 2 * overlap >= row.end_ms - row.start_ms


def _best_score(video: ScoredVideo, start_ms: int, end_ms: int) -> float:
    """The highest score of the windows that overlap a range; 0 without any."""
    overlaps = (video.windows[:, 0] < end_ms) & (start_ms < video.windows[:, 1])
    return float(video.scores[overlaps].max(initial=0.0))
