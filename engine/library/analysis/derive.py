"""Derives segments from observations by a head, its thresholds and a person's annotations. Times in milliseconds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import (
    Hysteresis,
    Segment,
    find_segments,
    label_thresholds,
    probabilities,
)
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import Library
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.search.labels import library_thresholds
from vtag.engine.library.store import heads, observations


@dataclass(frozen=True)
class DerivationRules:
    """The thresholds float64 [K] of a head's labels, the hysteresis, and both as a text to compare with."""

    thresholds: NDArray[np.float64]
    hysteresis: Hysteresis
    key: str


def derivation_rules(library: Library, model: heads.Head) -> DerivationRules:
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
    key = json.dumps([values[0] if len(values) == 1 else thresholds.tolist(), astuple(hysteresis)])
    return DerivationRules(thresholds, hysteresis, key)


def derive_segments(
    library: Library,
    content_id: int,
    model: heads.Head,
    rules: DerivationRules,
    sampling: str,
    *,
    force: bool = False,
) -> int:
    """Write one content's segments of one model, and return how many there are; 0 without an observation.

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
        return 0
    scores = probabilities(observation.features, model.weight, model.bias)
    segments = find_segments(observation.windows, scores, rules.thresholds, end_ms, rules.hysteresis)
    with library.transaction() as db:
        _replace_segments(db, content_id, model, segments)
        apply_annotations(library, content_id)
        db.execute(
            "INSERT OR REPLACE INTO derivations (content_id, model_id, sampling, rules, windows) "
            "VALUES (?, ?, ?, ?, ?)",
            (content_id, model.id, sampling, rules.key, len(observation.windows)),
        )
    return len(segments)


def _replace_segments(
    db: sqlite3.Connection, content_id: int, model: heads.Head, segments: Iterable[Segment]
) -> None:
    db.execute("DELETE FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model.id))
    db.executemany(
        "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score) "
        "VALUES (?, (SELECT id FROM labels WHERE name = ?), ?, ?, ?, ?)",
        [(content_id, model.labels[s.label], model.id, s.start_ms, s.end_ms, s.score) for s in segments],
    )


class ActiveHeads:
    """The heads that a scan derives segments by: its model's, and those that a person trained on the same backbone.

    The trained heads are looked up for every video, since another process may train or forget one during a scan.
    """

    def __init__(self, library: Library, model: heads.Head) -> None:
        self._library, self._model = library, model
        self._rules = derivation_rules(library, model)
        self._trained: dict[int, tuple[heads.Head, DerivationRules]] = {}

    def derive_segments(self, content_id: int, sampling: str, *, force: bool = False) -> int:
        """Write the segments of all heads in a content, and return how many there are."""
        with self._library.transaction():
            return sum(
                derive_segments(self._library, content_id, model, rules, sampling, force=force)
                for model, rules in self._heads()
            )

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
    library: Library, model: heads.Head, rules: DerivationRules, sampling: str
) -> set[int]:
    """Ids of the contents whose segments of a model were derived by these rules and this sampling."""
    rows = library.connection.execute(
        "SELECT content_id FROM derivations WHERE model_id = ? AND sampling = ? AND rules = ?",
        (model.id, sampling, rules.key),
    )
    return {row[0] for row in rows}


def retag(library: Library, model_id: int) -> Iterator[tuple[int, int]]:
    """Derive all contents that this model's backbone observed; yields (content id, number of segments).

    Opens no video. Of several samplings of a content, the last that segments were derived from is used, else the one
    with the most windows.
    """
    model = heads.load_head(library, model_id)
    rules = derivation_rules(library, model)
    for content_id, sampling in _samplings(library, model).items():
        yield content_id, derive_segments(library, content_id, model, rules, sampling, force=True)


def _samplings(library: Library, model: heads.Head) -> dict[int, str]:
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


def _count_segments(library: Library, content_id: int, model_id: int) -> int:
    row = library.connection.execute(
        "SELECT count(*) FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model_id)
    )
    return int(row.fetchone()[0])
