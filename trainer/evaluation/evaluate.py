"""How often a model is right on labelled clips by a published protocol: of every clip what `vtag predict` says."""

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

_MEMORY_BYTES = 256 << 20  # decoded clips in shared memory at one time
_TEST_CROPS = 3
_TOP = 5


@dataclass(frozen=True)
class EvaluationProgress:
    """How far an evaluation has come: clips that were looked at, of how many, and how many of them were right."""

    done: int
    total: int
    right: int


@dataclass(frozen=True)
class ClipFailed:
    """One clip that could not be read; it is in no figure."""

    path: Path
    error: str


@dataclass(frozen=True)
class LabelResult:
    """One label of the data: its clips, how many were right, and what they were taken for."""

    clips: int
    right: int
    known: bool  # whether the model has the label
    said: Mapping[str, int]  # the model's label -> clips


@dataclass(frozen=True)
class Evaluation:
    """Shares between 0 and 1, over the clips that could be read."""

    top1: float
    top5: float
    mean_class_accuracy: float  # every label of the data counts the same
    clips: int
    failed: tuple[ClipFailed, ...]
    labels: Mapping[str, LabelResult]


def label_indices(dataset: Dataset, spec: ModelSpec) -> dict[str, int | None]:
    """For each label of the data the index of the model's label that means it; None where the model has none.

    Spaces and underscores are equal, and case where nothing fits exactly; a label that was merged into another
    (`merged_from`) is that one; the numbers of a list are the model's indices.
    """
    names: dict[str, int] = {}
    for index, label in enumerate(spec.labels):
        for name in (label, *spec.merged_from.get(label, ())):
            names.setdefault(label_from_name(name), index)
    folded = {name.casefold(): index for name, index in reversed(names.items())}
    numbers = {clip.label: clip.index for clip in dataset.clips if clip.index is not None}
    found: dict[str, int | None] = {}
    for label in dataset.labels:
        number = numbers.get(label)
        if number is not None and number >= len(spec.labels):
            number = None
        found[label] = names.get(label, folded.get(label.casefold(), number))
    return found


def evaluate(
    dataset: Dataset, backend: Backend, *, protocol: PublishedProtocol = "clip", among_classes: bool = False
) -> Iterator[EvaluationProgress | ClipFailed | Evaluation]:
    """Look at every clip by `protocol` (see `engine.predict`) and compare; ends with the Evaluation.

    With `among_classes` the probabilities are shared by the data's labels alone. `none of these` is never an answer,
    and clips of a folder of that name are not asked about. Raises DatasetError where there is nothing to compare.
    """
    clips = [clip for clip in dataset.clips if clip.label.casefold() != NONE_OF_THESE]
    if not clips:
        raise DatasetError("there are no labelled clips to compare with")
    known = label_indices(dataset, backend.spec)
    choices = _choices(backend.spec, known, among_classes)
    answers: dict[int, list[int]] = {}  # clip -> the model's labels, best first
    failed: dict[int, ClipFailed] = {}
    right = 0
    for number, result in _looks(clips, backend, protocol):
        if isinstance(result, str):
            failed[number] = ClipFailed(clips[number].path, result)
            yield failed[number]
            continue
        answers[number] = _best(result, choices)
        right += answers[number][:1] == [known[clips[number].label]]
        yield EvaluationProgress(len(answers), len(clips), right)
    if not answers:
        raise DatasetError("none of the clips could be read")
    yield _sum_up(clips, answers, [failed[n] for n in sorted(failed)], known, backend.spec)


def _choices(spec: ModelSpec, known: Mapping[str, int | None], among: bool) -> NDArray[np.int64]:
    """The indices of the labels that may be answered."""
    wanted = {index for index in known.values() if index is not None} if among else range(len(spec.labels))
    return np.array([i for i in sorted(wanted) if spec.labels[i] != NONE_OF_THESE], np.int64)


def _best(logits: NDArray[np.float32], choices: NDArray[np.int64]) -> list[int]:
    """The best labels of a clip with `logits` [views, K], best first: probabilities are averaged over the views."""
    if not len(choices):
        return []
    scores = softmax(logits[:, choices]).mean(axis=0)
    return [int(i) for i in choices[np.argsort(-scores, kind="stable")[:_TOP]]]


def _looks(
    clips: Sequence[LabelledClip], backend: Backend, protocol: PublishedProtocol
) -> Iterator[tuple[int, NDArray[np.float32] | str]]:
    """For each clip its number and its views' logits, or what is wrong with it, as they come."""
    spec, enough = backend.spec, batch_size(backend.device, "predict")
    views = PROTOCOL_CLIPS[protocol] * (_TEST_CROPS if protocol == "test" else 1)
    one = views * spec.frames * spec.crop * spec.crop * 3
    workers = os.cpu_count() or 1
    room = max(_MEMORY_BYTES, (1 + -(-enough // views)) * one)
    queue: list[ClipReady] = []
    with DecodePool(workers, room) as pool:
        for number, clip in enumerate(clips):
            request = ProtocolRequest(clip.path, protocol, spec.frames, spec.short_side, spec.crop)
            pool.submit(number, request)
        for event in pool:
            if isinstance(event, DecodeFailed):
                yield event.job_id, event.reason
            elif isinstance(event, ClipReady):
                queue.append(event)
            if len(queue) * views >= enough or pool.unfinished == 0:
                yield from _see(queue, backend)
                queue.clear()
        yield from _see(queue, backend)


def _see(queue: Sequence[ClipReady], backend: Backend) -> Iterator[tuple[int, NDArray[np.float32]]]:
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
    failed: Sequence[ClipFailed],
    known: Mapping[str, int | None],
    spec: ModelSpec,
) -> Evaluation:
    said: dict[str, Counter[str]] = {}
    first: Counter[str] = Counter()
    among_five = 0
    for number, best in sorted(answers.items()):
        label = clips[number].label
        own = said.setdefault(label, Counter())
        own[spec.labels[best[0]] if best else "nothing"] += 1
        first[label] += best[:1] == [known[label]]
        among_five += known[label] in best
    labels = {
        label: LabelResult(count.total(), first[label], known[label] is not None, dict(count.most_common()))
        for label, count in sorted(said.items())
    }
    return Evaluation(
        top1=first.total() / len(answers),
        top5=among_five / len(answers),
        mean_class_accuracy=float(np.mean([row.right / row.clips for row in labels.values()])),
        clips=len(answers),
        failed=tuple(failed),
        labels=labels,
    )
