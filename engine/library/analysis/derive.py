"""Derives segments from observations by a head, its thresholds and a person's annotations. Times in milliseconds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import (
    Hysteresis,
    LessSureSegment,
    find_less_sure_segments,
    find_segments,
    label_thresholds,
    margins,
    probabilities,
)
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.certainty import COUNTED_MARGIN
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.search.labels import library_thresholds
from vtag.engine.library.store import heads, observations

# Less sure segments of a content: two a window, and at least and at most so many. A row takes about 120 bytes with
# its indexes, a window's feature 1536 (Swin-T): the library grows by a sixth at most.
_LESS_SURE_PER_WINDOW = 2
_MIN_LESS_SURE, _MAX_LESS_SURE = 5, 200
_BEST_OF_LABEL = 10  # less sure segments of a label that are kept in any case, in all contents together


class MomentCounts(NamedTuple):
    """Numbers of sure segments, and of those that are not far below their label's threshold."""

    sure: int
    less_sure: int


@dataclass(frozen=True)
class DerivationRules:
    """The thresholds float64 [K] of a head's labels, the hysteresis, and both as a text to compare with."""

    thresholds: NDArray[np.float64]
    hysteresis: Hysteresis
    key: str


def derivation_rules(library: LibraryWriter, model: heads.Head) -> DerivationRules:
    """The rules for a model's segments in this library.

    A threshold comes, in this order, from the last scan or retag with `--threshold`, the label's threshold in the
    library, the label's in the model, the model's for all labels, and vtag's default.
    """
    if model.requested_threshold is not None:
        thresholds = label_thresholds(model.labels, {}, model.requested_threshold)
    else:
        by_label = {**model.label_thresholds, **library_thresholds(library.connection)}
        thresholds = label_thresholds(model.labels, by_label, model.threshold)
    hysteresis = Hysteresis()
    values = sorted(set(thresholds.tolist()))
    bounds = (_LESS_SURE_PER_WINDOW, _MIN_LESS_SURE, _MAX_LESS_SURE, _BEST_OF_LABEL)
    key = json.dumps([values[0] if len(values) == 1 else thresholds.tolist(), astuple(hysteresis), bounds])
    return DerivationRules(thresholds, hysteresis, key)


def derive_segments(
    library: LibraryWriter,
    content_id: int,
    model: heads.Head,
    rules: DerivationRules,
    sampling: str,
    *,
    force: bool = False,
) -> MomentCounts:
    """Write one content's segments of one model, and return how many there are; zeros without an observation.

    Segments that are up to date are kept, unless `force`. Those of other models and of a person stay as they are.
    """
    key, end_ms = library.connection.execute(
        "SELECT key, coalesce(duration_ms, ?) FROM contents WHERE id = ?", (END_OF_TIME_MS, content_id)
    ).fetchone()
    stamp = library.connection.execute(
        "SELECT sampling, rules, windows FROM derivations WHERE content_id = ? AND model_id = ?",
        (content_id, model.id),
    ).fetchone()
    if not force and stamp and stamp[:2] == (sampling, rules.key):
        return _count_segments(library, content_id, model.id)
    observation = observations.get(library, key, model.backbone_hash, sampling)
    if observation is None:
        return MomentCounts(0, 0)
    with library.transaction() as db:
        counts = _replace_segments(db, content_id, model, rules, observation, end_ms)
        apply_annotations(library, content_id)
        db.execute(
            "INSERT OR REPLACE INTO derivations (content_id, model_id, sampling, rules, windows) "
            "VALUES (?, ?, ?, ?, ?)",
            (content_id, model.id, sampling, rules.key, len(observation.windows)),
        )
    return counts


def _replace_segments(
    db: sqlite3.Connection,
    content_id: int,
    model: heads.Head,
    rules: DerivationRules,
    observation: observations.Observation,
    end_ms: int,
) -> MomentCounts:
    """Write a content's segments of a model: the sure ones, the best below them, and the best of their labels."""
    windows, thresholds = observation.windows, rules.thresholds
    db.execute("DELETE FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model.id))
    scores = probabilities(observation.features, model.weight, model.bias)
    sure = find_segments(windows, scores, thresholds, end_ms, rules.hysteresis)
    less_sure = find_less_sure_segments(
        windows,
        scores,
        thresholds,
        sure,
        end_ms,
        rules.hysteresis,
        limit=min(max(_MIN_LESS_SURE, _LESS_SURE_PER_WINDOW * len(windows)), _MAX_LESS_SURE),
        floors=_label_floors(db, model),
    )
    sure_margins = margins(
        np.array([segment.score for segment in sure]), thresholds[[segment.label for segment in sure]]
    )
    rows = [
        *(LessSureSegment(*row, False) for row in zip(sure, sure_margins.tolist(), strict=True)),
        *less_sure,
    ]
    _insert_segments(db, content_id, model, rows)
    _drop_surplus(db, model, [row.segment.label for row in less_sure if row.is_label_best])
    return MomentCounts(len(sure), sum(row.margin >= COUNTED_MARGIN for row in less_sure))


def _insert_segments(
    db: sqlite3.Connection, content_id: int, model: heads.Head, rows: Sequence[LessSureSegment]
) -> None:
    db.executemany(
        "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score, margin, is_label_best) "
        "VALUES (?, (SELECT id FROM labels WHERE name = ?), ?, ?, ?, ?, ?, ?)",
        [
            (
                content_id,
                model.labels[s.label],
                model.id,
                s.start_ms,
                s.end_ms,
                s.score,
                margin,
                is_label_best,
            )
            for s, margin, is_label_best in rows
        ],
    )


def _label_floors(db: sqlite3.Connection, model: heads.Head) -> NDArray[np.float64]:
    """The score above which a less sure segment is among the best of its label in the library: float64 [K]."""
    rows = db.execute(
        "SELECT l.name, min(s.score) FROM segments s JOIN labels l ON l.id = s.label_id "
        "WHERE s.model_id = ? AND s.is_label_best = 1 GROUP BY s.label_id HAVING count(*) >= ?",
        (model.id, _BEST_OF_LABEL),
    )
    floors = dict(rows.fetchall())
    return np.array([floors.get(label, -1.0) for label in model.labels])


def _drop_surplus(db: sqlite3.Connection, model: heads.Head, labels: Sequence[int]) -> None:
    """Keep the best of these labels (indexes) only, of the segments that are kept for being that."""
    db.executemany(
        "DELETE FROM segments WHERE id IN (SELECT id FROM segments WHERE model_id = ? AND is_label_best = 1 "
        "AND label_id = (SELECT id FROM labels WHERE name = ?) AND verdict IS NULL "
        "ORDER BY score DESC, id LIMIT -1 OFFSET ?)",
        [(model.id, model.labels[label], _BEST_OF_LABEL) for label in labels],
    )


class ActiveHeads:
    """The heads that a scan derives segments by: its model's, and those that a person trained on the same backbone.

    The trained heads are looked up for every video, since another process may train or forget one during a scan.
    """

    def __init__(self, library: LibraryWriter, model: heads.Head) -> None:
        self._library, self._model = library, model
        self._rules = derivation_rules(library, model)
        self._trained: dict[int, tuple[heads.Head, DerivationRules]] = {}

    def derive_segments(self, content_id: int, sampling: str, *, force: bool = False) -> MomentCounts:
        """Write the segments of all heads in a content, and return how many there are."""
        with self._library.transaction():
            counts = [
                derive_segments(self._library, content_id, model, rules, sampling, force=force)
                for model, rules in self._heads()
            ]
        return MomentCounts(*map(sum, zip(*counts, strict=True)))

    def derive_outdated(self, content_ids: Collection[int], sampling: str) -> None:
        """Derive the observed contents in which a head has no segments yet, or segments by other rules."""
        outdated: set[int] = set()
        for model, rules in self._heads():
            outdated |= set(content_ids) - up_to_date_contents(self._library, model, rules, sampling)
        for content_id in content_ids:
            if content_id in outdated:
                self.derive_segments(content_id, sampling)

    def _heads(self) -> Iterator[tuple[heads.Head, DerivationRules]]:
        yield self._model, self._rules
        for model_id in heads.taught_siblings(self._library, self._model.id):
            if model_id not in self._trained:
                head = heads.load_head(self._library, model_id)
                self._trained[model_id] = head, derivation_rules(self._library, head)
            yield self._trained[model_id]


def up_to_date_contents(
    library: LibraryWriter, model: heads.Head, rules: DerivationRules, sampling: str
) -> set[int]:
    """Ids of the contents whose segments of a model were derived by these rules and this sampling."""
    rows = library.connection.execute(
        "SELECT content_id FROM derivations WHERE model_id = ? AND sampling = ? AND rules = ?",
        (model.id, sampling, rules.key),
    )
    return {row[0] for row in rows}


def retag(library: LibraryWriter, model_id: int) -> Iterator[tuple[int, MomentCounts]]:
    """Derive all contents that this model's backbone observed; yields content ids and numbers of segments.

    Opens no video. Of several samplings of a content, the last that segments were derived from is used, else the one
    with the most windows.
    """
    model = heads.load_head(library, model_id)
    rules = derivation_rules(library, model)
    # the best of each label are found anew: by other weights or thresholds, others are
    with library.transaction() as db:
        db.execute(
            "DELETE FROM segments WHERE model_id = ? AND is_label_best = 1 AND verdict IS NULL", (model_id,)
        )
    for content_id, sampling in _samplings(library, model).items():
        yield content_id, derive_segments(library, content_id, model, rules, sampling, force=True)


def _samplings(library: LibraryWriter, model: heads.Head) -> dict[int, str]:
    """Content ids to the sampling that a model's segments are to be derived from."""
    rows = observations.list_samplings(library, model.backbone_hash)
    observed = set(rows)
    samplings = dict(rows)  # the one with the most windows comes last and wins
    ids = dict(library.connection.execute("SELECT key, id FROM contents").fetchall())
    # the model itself comes last, so that its sampling wins over those of other heads on its backbone
    derivations = library.connection.execute(
        "SELECT c.key, d.sampling FROM derivations d JOIN contents c ON c.id = d.content_id "
        "JOIN models m ON m.id = d.model_id WHERE m.backbone_hash = ? ORDER BY m.id = ?, m.id",
        (model.backbone_hash, model.id),
    )
    samplings |= {key: sampling for key, sampling in derivations if (key, sampling) in observed}
    return {ids[key]: sampling for key, sampling in samplings.items() if key in ids}


def _count_segments(library: LibraryWriter, content_id: int, model_id: int) -> MomentCounts:
    row = library.connection.execute(
        "SELECT coalesce(sum(margin >= 0), 0), coalesce(sum(margin >= ? AND margin < 0), 0) FROM segments "
        "WHERE content_id = ? AND model_id = ?",
        (COUNTED_MARGIN, content_id, model_id),
    ).fetchone()
    return MomentCounts(*row)
