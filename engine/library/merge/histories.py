"""Joins the annotations of two libraries by replaying the changes of both logs in the order of their times.

The libraries may have a part of their logs in common, as a copy and its original do. A change that one of them has
undone counts as undone. Pure functions.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from vtag.engine.library.annotations.annotation_log import Annotation, AnnotationChange, Slot


class AnnotationHistory(NamedTuple):
    """The annotations of a library, and the log of their changes, the earliest first."""

    annotations: tuple[Annotation, ...]
    changes: tuple[AnnotationChange, ...]

    def with_spelling(self, spell: Callable[[str], str]) -> AnnotationHistory:
        """The history with other spellings of its labels."""

        def each(annotations: Iterable[Annotation]) -> tuple[Annotation, ...]:
            return tuple(annotation._replace(label=spell(annotation.label)) for annotation in annotations)

        changes = (c._replace(before=each(c.before), after=each(c.after)) for c in self.changes)
        return AnnotationHistory(each(self.annotations), tuple(changes))


class AnnotationConflict(NamedTuple):
    """Two annotations that contradict each other, each made by someone who did not know the other; the later counts.

    None stands for an annotation that was removed.
    """

    own: Annotation | None
    other: Annotation | None


class MergedHistory(NamedTuple):
    """The joined annotations by their slots, the joined log, and the contradictions."""

    annotations: dict[Slot, Annotation]
    changes: list[AnnotationChange]
    conflicts: list[AnnotationConflict]


_Identity = tuple[str, str, tuple[Annotation, ...]]  # of a change: time, action, the annotations after it


class _Write(NamedTuple):
    """What happens to slots at a time: annotations are written, and other slots emptied."""

    time: str
    written: tuple[Annotation, ...]
    slots: frozenset[Slot]  # of the written annotations, too
    change: AnnotationChange | None  # None: the log does not tell


def merge_histories(own: AnnotationHistory, other: AnnotationHistory) -> MergedHistory:
    """Join two histories. Joining the result with `other` again changes nothing."""
    own_ids, other_ids = ({_identity(change) for change in h.changes} for h in (own, other))
    undone_at = _undone_times(own, other)
    own_writes = _writes(own, undone_at)
    new_writes = [
        w for w in _writes(other, undone_at) if w.change is None or _identity(w.change) not in own_ids
    ]
    state: dict[Slot, Annotation] = {}
    changes = []
    # each side keeps its order, even if its clock went back
    for write in heapq.merge(own_writes, new_writes, key=lambda write: write.time):
        previous = {slot: state[slot] for slot in write.slots if slot in state}
        change = write.change
        if change is None or undone_at.get(_identity(change)) is None:
            _apply(write, state)
        if change is not None:
            changes.append(_with_previous(change, previous, undone_at.get(_identity(change))))
    conflicts = _conflicts(_news(own, other, other_ids), _news(other, own, own_ids))
    return MergedHistory(state, changes, conflicts)


def _identity(change: AnnotationChange) -> _Identity:
    """What tells a change from all others, in whichever library it is; a merge rewrites the rest of it."""
    return change.at, change.action, change.after


def _undone_times(*histories: AnnotationHistory) -> dict[_Identity, str]:
    """When each undone change was undone first."""
    times: dict[_Identity, str] = {}
    for change in (change for history in histories for change in history.changes):
        if change.undone_at is not None:
            identity = _identity(change)
            times[identity] = min(change.undone_at, times.get(identity, change.undone_at))
    return times


def _writes(history: AnnotationHistory, undone_at: Mapping[_Identity, str]) -> list[_Write]:
    """The changes of a log as writes, with others for what the log does not explain."""
    writes = [
        _Write(c.at, c.after, frozenset(a.slot for a in (*c.before, *c.after)), c) for c in history.changes
    ]
    state: dict[Slot, Annotation] = {}
    last_time: dict[Slot, str] = {}
    for write in writes:
        if write.change is None or write.change.undone_at is None:
            _apply(write, state)
            last_time |= dict.fromkeys(write.slots, write.time)
    actual = {annotation.slot: annotation for annotation in history.annotations}
    for slot in sorted(state.keys() | actual.keys(), key=str):
        annotation = actual.get(slot)
        if annotation != state.get(slot):
            time = max(last_time.get(slot, ""), annotation.said_at if annotation else "")
            writes.append(_Write(time, (annotation,) if annotation else (), frozenset({slot}), None))
    return list(_in_order(writes))


def _in_order(writes: Iterable[_Write]) -> Iterator[_Write]:
    """The writes of a log in its order, and the others by their times among them."""
    logged = [write for write in writes if write.change is not None]
    others = sorted((write for write in writes if write.change is None), key=lambda write: write.time)
    return heapq.merge(logged, others, key=lambda write: write.time)


def _apply(write: _Write, state: dict[Slot, Annotation]) -> None:
    """Carry out a write. An annotation that is older than the one in its slot was imported, and is no news."""
    written = {annotation.slot: annotation for annotation in write.written}
    for slot in sorted(write.slots, key=str):  # the order of equally old annotations never depends on chance
        if slot not in written:
            state.pop(slot, None)
        elif slot not in state or state[slot].said_at <= written[slot].said_at:
            state[slot] = written[slot]


def _with_previous(
    change: AnnotationChange, previous: Mapping[Slot, Annotation], undone_at: str | None
) -> AnnotationChange:
    """A change as the joined log has it: undoing it brings back what was there in the joined history.

    That holds for one that is undone now, too: it can be done again.
    """
    before = [annotation for annotation in change.before if previous.get(annotation.slot) == annotation]
    before += sorted((annotation for annotation in previous.values() if annotation not in before), key=str)
    return change._replace(before=tuple(before), undone_at=undone_at)


def _news(
    history: AnnotationHistory, other: AnnotationHistory, other_ids: set[_Identity]
) -> dict[Slot, Annotation | None]:
    """What one side has in the slots that it changed without the other's knowledge; None if they are empty."""
    last: dict[Slot, AnnotationChange] = {}
    for change in history.changes:
        if change.undone_at is None:
            last |= dict.fromkeys((a.slot for a in (*change.before, *change.after)), change)
    actual = {annotation.slot: annotation for annotation in history.annotations}
    news = {slot: actual.get(slot) for slot, change in last.items() if _identity(change) not in other_ids}
    news |= {slot: actual[slot] for slot in actual.keys() - last.keys()}
    known = {annotation.slot: annotation for annotation in other.annotations}
    return {slot: annotation for slot, annotation in news.items() if annotation != known.get(slot)}


def _conflicts(
    own: Mapping[Slot, Annotation | None], other: Mapping[Slot, Annotation | None]
) -> list[AnnotationConflict]:
    """The contradictions between the news of two sides: in one slot, or in ranges that overlap."""
    conflicts = [
        AnnotationConflict(own[slot], other[slot])
        for slot in own.keys() & other.keys()
        if _is_rejected(own[slot]) != _is_rejected(other[slot])
    ]
    others: dict[tuple[str, str], list[Annotation]] = defaultdict(list)
    for annotation in filter(None, other.values()):
        others[annotation.content, annotation.label].append(annotation)
    for annotation in filter(None, own.values()):
        for rival in others[annotation.content, annotation.label]:
            if (
                rival.slot != annotation.slot
                and _is_rejected(rival) != _is_rejected(annotation)
                and _overlap(annotation, rival)
            ):
                conflicts.append(AnnotationConflict(annotation, rival))
    return sorted(conflicts, key=str)


def _is_rejected(annotation: Annotation | None) -> bool | None:
    """Whether an annotation rejects its label; None if it was removed."""
    return None if annotation is None else annotation.verdict == "rejected"


def _overlap(a: Annotation, b: Annotation) -> bool:
    return max(a.range_ms[0], b.range_ms[0]) < min(a.range_ms[1], b.range_ms[1])
