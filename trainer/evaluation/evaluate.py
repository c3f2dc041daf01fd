"""Accuracy of a model on labelled clips by a published protocol; every clip is predicted as by `vtag predict`."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vtag.engine.backends.batch_size import batch_size
from vtag.engine.backends.protocol import Backend
from vtag.engine.predict import compute_logits, softmax
from vtag.engine.swin.config import NONE_OF_THESE, ModelSpec
from vtag.engine.video.decode.messages import ClipReady, DecodeFailed, ProtocolRequest
from vtag.engine.video.decode.pool import DecodePool
from vtag.engine.video.read.sampling import PROTOCOL_CLIPS, PublishedProtocol
from vtag.trainer.data.dataset import Dataset, DatasetError, LabelledClip, label_from_name

_MEMORY_BYTES = 256 << 20  # of decoded clips in shared memory at a time
_TEST_CROPS = 3
_TOP = 5  # labels of a clip that count for the top-5 accuracy


@dataclass(frozen=True)
class EvaluationProgress:
    """Clips that an evaluation has finished, out of `total`, and how many of them were right."""

    done: int
    total: int
    right: int


@dataclass(frozen=True)
class ClipFailed:
    """A clip that could not be read; it counts in no figure."""

    path: Path
    error: str


@dataclass(frozen=True)
class LabelResult:
    """Predictions for the clips of one label of the data."""

    clips: int
    right: int
    known_as: str | None  # the model's name of the label; None if it does not have it
    predictions: Mapping[str, int]  # the model's label -> number of clips


@dataclass(frozen=True)
class Evaluation:
    """Accuracies between 0 and 1 over the clips that could be read."""

    top1: float
    top5: float
    mean_class_accuracy: float  # every label of the data counts the same
    clips: int
    failures: tuple[ClipFailed, ...]
    labels: Mapping[str, LabelResult]


def label_indices(dataset: Dataset, spec: ModelSpec) -> dict[str, int | None]:
    """The index of the model's label for each label of the data; None if the model lacks it.

    Underscores count as spaces. Case is ignored if no label matches exactly. A label that was merged into another
    (`merged_from`) counts as that one. The numbers of a list are the model's indices.
    """
    names: dict[str, int] = {}
    for index, label in enumerate(spec.labels):
        for name in (label, *spec.merged_from.get(label, ())):
            names.setdefault(label_from_name(name), index)
    folded = {name.casefold(): index for name, index in reversed(names.items())}
    numbers = {clip.label: clip.index for clip in dataset.clips if clip.index is not None}
    indices: dict[str, int | None] = {}
    for label in dataset.labels:
        number = numbers.get(label)
        if number is not None and number >= len(spec.labels):
            number = None
        indices[label] = names.get(label, folded.get(label.casefold(), number))
    return indices


def evaluate(
    dataset: Dataset, backend: Backend, *, protocol: PublishedProtocol = "clip", among_classes: bool = False
) -> Iterator[EvaluationProgress | ClipFailed | Evaluation]:
    """Predict every clip by `protocol` (see `engine.predict`); yields the progress, then the Evaluation.

    With `among_classes`, only the data's labels compete. The label `none of these` is never predicted, and clips of a
    folder of that name are left out. Raises DatasetError if there are no labelled clips or none can be read.
    """
    clips = [clip for clip in dataset.clips if clip.label.casefold() != NONE_OF_THESE]
    if not clips:
        raise DatasetError("there are no labelled clips to compare with")
    indices = label_indices(dataset, backend.spec)
    candidates = _candidates(backend.spec, indices, among_classes)
    answers: dict[int, list[int]] = {}  # number of a clip -> indices of labels, best first
    failures: dict[int, ClipFailed] = {}
    right = 0
    for number, result in _predict_clips(clips, backend, protocol):
        if isinstance(result, str):
            failures[number] = ClipFailed(clips[number].path, result)
            yield failures[number]
            continue
        answers[number] = _best_labels(result, candidates)
        right += answers[number][:1] == [indices[clips[number].label]]
        yield EvaluationProgress(len(answers), len(clips), right)
    if not answers:
        raise DatasetError("none of the clips could be read")
    yield _sum_up(clips, answers, [failures[n] for n in sorted(failures)], indices, backend.spec)


def _candidates(spec: ModelSpec, indices: Mapping[str, int | None], among_classes: bool) -> NDArray[np.int64]:
    """The indices of the labels that may be predicted."""
    allowed = {i for i in indices.values() if i is not None} if among_classes else range(len(spec.labels))
    return np.array([i for i in sorted(allowed) if spec.labels[i] != NONE_OF_THESE], np.int64)


def _best_labels(logits: NDArray[np.float32], candidates: NDArray[np.int64]) -> list[int]:
    """The best labels of a clip by the mean probability over its views, best first; `logits` are [views, K]."""
    if not len(candidates):
        return []
    scores = softmax(logits[:, candidates]).mean(axis=0)
    return [int(i) for i in candidates[np.argsort(-scores, kind="stable")[:_TOP]]]


def _predict_clips(
    clips: Sequence[LabelledClip], backend: Backend, protocol: PublishedProtocol
) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """Yields the number of each clip and the logits [views, K] of its views, or its error, in any order."""
    spec, batch_views = backend.spec, batch_size(backend.device, "predict")
    views = PROTOCOL_CLIPS[protocol] * (_TEST_CROPS if protocol == "test" else 1)
    clip_bytes = views * spec.frames * spec.crop * spec.crop * 3
    workers = os.cpu_count() or 1
    memory_bytes = max(_MEMORY_BYTES, (1 + -(-batch_views // views)) * clip_bytes)
    queue: list[ClipReady] = []
    with DecodePool(workers, memory_bytes) as pool:
        for number, clip in enumerate(clips):
            request = ProtocolRequest(clip.path, protocol, spec.frames, spec.short_side, spec.crop)
            pool.submit(number, request)
        for event in pool:
            if isinstance(event, DecodeFailed):
                yield event.job_id, event.reason
            elif isinstance(event, ClipReady):
                queue.append(event)
            if len(queue) * views >= batch_views or pool.unfinished_count == 0:
                yield from _run_clips(queue, backend)
                queue.clear()
        yield from _run_clips(queue, backend)


def _run_clips(queue: Sequence[ClipReady], backend: Backend) -> Iterator[tuple[int, NDArray[np.float32]]]:
    if not queue:
        return
    numbers = [clip.job_id for clip in queue]
    logits = compute_logits(np.concatenate([clip.pixels for clip in queue]), backend)
    for clip in queue:
        clip.release()
    yield from zip(numbers, np.split(logits, len(numbers)), strict=True)


def _sum_up(
    clips: Sequence[LabelledClip],
    answers: Mapping[int, Sequence[int]],
    failures: Sequence[ClipFailed],
    indices: Mapping[str, int | None],
    spec: ModelSpec,
) -> Evaluation:
    predictions: dict[str, Counter[str]] = {}
    right: Counter[str] = Counter()
    in_top5 = 0
    for number, best in sorted(answers.items()):
        label = clips[number].label
        prediction = spec.labels[best[0]] if best else "nothing"
        predictions.setdefault(label, Counter())[prediction] += 1
        right[label] += best[:1] == [indices[label]]
        in_top5 += indices[label] in best
    labels = {
        label: LabelResult(
            count.total(),
            right[label],
            None if (index := indices[label]) is None else spec.labels[index],
            dict(count.most_common()),
        )
        for label, count in sorted(predictions.items())
    }
    return Evaluation(
        top1=right.total() / len(answers),
        top5=in_top5 / len(answers),
        mean_class_accuracy=float(np.mean([row.right / row.clips for row in labels.values()])),
        clips=len(answers),
        failures=tuple(failures),
        labels=labels,
    )
