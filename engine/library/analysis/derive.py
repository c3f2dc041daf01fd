"""Derives what is said from what was seen: observations x head x thresholds x words, in milliseconds a video."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import Hysteresis, find_segments, label_thresholds, probabilities
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import Library
from vtag.engine.library.search.labels import library_thresholds
from vtag.engine.library.store import heads, observations


@dataclass(frozen=True)
class DerivationRules:
    """The thresholds float64 [K] of a head's labels, the hysteresis, and both as text to compare by."""

    thresholds: NDArray[np.float64]
    rule: Hysteresis
    key: str


def derivation_rules(library: Library, model: heads.Head) -> DerivationRules:
    """Told threshold before the library's own per label, before the model's per label, before its default."""
    if model.requested_threshold is not None:
        thresholds = label_thresholds(model.labels, {}, model.requested_threshold)
    else:
        by_label = {**model.label_thresholds, **library_thresholds(library.connection)}
        thresholds = label_thresholds(model.labels, by_label, model.threshold)
    rule = Hysteresis()
    values = sorted(set(thresholds.tolist()))
    key = json.dumps([values[0] if len(values) == 1 else thresholds.tolist(), astuple(rule)])
    return DerivationRules(thresholds, rule, key)


def derive_segments(
    library: Library,
    content_id: int,
    model: heads.Head,
    rules: DerivationRules,
    sampling: str,
    *,
    force: bool = False,
) -> int:
    """Write one content's segments of one model anew and return how many there are; 0 without observations.

    What is up to date is left alone, unless `force`. Other models' segments and a person's own stay.
    """
    key, end_ms = library.connection.execute(
        "SELECT key, coalesce(duration_ms, 1 << 53) FROM contents WHERE id = ?", (content_id,)
    ).fetchone()
    stamp = library.connection.execute(
        "SELECT sampling, rules, windows FROM derivations WHERE content_id = ? AND model_id = ?",
        (content_id, model.id),
    ).fetchone()
    if not force and stamp and stamp[:2] == (sampling, rules.key):
        return _count(library, content_id, model.id)
    seen = observations.get(library, key, model.backbone_hash, sampling)
    if seen is None:
        return 0
    scores = probabilities(seen.features, model.weight, model.bias)
    found = find_segments(seen.windows, scores, rules.thresholds, end_ms, rules.rule)
    with library.transaction() as db:
        db.execute("DELETE FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model.id))
        db.executemany(
            "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score) "
            "VALUES (?, (SELECT id FROM labels WHERE name = ?), ?, ?, ?, ?)",
            [(content_id, model.labels[s.label], model.id, s.start_ms, s.end_ms, s.score) for s in found],
        )
        apply_annotations(library, content_id)
        db.execute(
            "INSERT OR REPLACE INTO derivations (content_id, model_id, sampling, rules, windows) "
            "VALUES (?, ?, ?, ?, ?)",
            (content_id, model.id, sampling, rules.key, len(seen.windows)),
        )
    return len(found)


class ActiveHeads:
    """All that has a say in what a scan sees: its model, and the heads that a person taught on the same backbone.

    Asked anew for every video, since another process may teach or forget a head while a scan runs.
    """

    def __init__(self, library: Library, model: heads.Head) -> None:
        self._library, self._model = library, model
        self._rules = derivation_rules(library, model)
        self._taught: dict[int, tuple[heads.Head, DerivationRules]] = {}

    def derive_segments(self, content_id: int, sampling: str, *, force: bool = False) -> int:
        """Write what all of them say of a content, and how many segments that is."""
        with self._library.transaction():
            return sum(
                derive_segments(self._library, content_id, model, rules, sampling, force=force)
                for model, rules in self._now()
            )

    def derive_outdated(self, content_ids: Collection[int], sampling: str) -> None:
        """Derive contents that were seen before and of which one of them has not spoken yet, or by other rules."""
        behind: set[int] = set()
        for model, rules in self._now():
            behind |= set(content_ids) - up_to_date_contents(self._library, model, rules, sampling)
        for content_id in content_ids:
            if content_id in behind:
                self.derive_segments(content_id, sampling)

    def _now(self) -> Iterator[tuple[heads.Head, DerivationRules]]:
        yield self._model, self._rules
        for model_id in heads.taught_siblings(self._library, self._model.id):
            if model_id not in self._taught:
                head = heads.load_head(self._library, model_id)
                self._taught[model_id] = head, derivation_rules(self._library, head)
            yield self._taught[model_id]


def up_to_date_contents(
    library: Library, model: heads.Head, rules: DerivationRules, sampling: str
) -> set[int]:
    """Ids of the contents whose segments of a model are what `derive` would make of them."""
    rows = library.connection.execute(
        "SELECT content_id FROM derivations WHERE model_id = ? AND sampling = ? AND rules = ?",
        (model.id, sampling, rules.key),
    )
    return {row[0] for row in rows}


def retag(library: Library, model_id: int) -> Iterator[tuple[int, int]]:
    """Derive anew every content that was seen with this model's backbone; yields (content id, segments).

    Opens no video. Where several samplings of a content are known, the one that it was derived from last counts,
    else the one with the most windows.
    """
    model = heads.load_head(library, model_id)
    rules = derivation_rules(library, model)
    for content_id, sampling in _samplings(library, model).items():
        yield content_id, derive_segments(library, content_id, model, rules, sampling, force=True)


def _samplings(library: Library, model: heads.Head) -> dict[int, str]:
    """Content ids to the sampling that a model's segments are to be derived from."""
    rows = library.observations.execute(
        "SELECT content_key, sampling FROM observations WHERE backbone_hash = ? ORDER BY window_count, id",
        (model.backbone_hash,),
    ).fetchall()
    there = set(rows)
    chosen = dict(rows)
    ids = dict(library.connection.execute("SELECT key, id FROM contents").fetchall())
    # the model's own word comes last, and so counts before that of its siblings
    derived = library.connection.execute(
        "SELECT c.key, d.sampling FROM derivations d JOIN contents c ON c.id = d.content_id "
        "JOIN models m ON m.id = d.model_id WHERE m.backbone_hash = ? ORDER BY m.id = ?, m.id",
        (model.backbone_hash, model.id),
    )
    chosen |= {key: sampling for key, sampling in derived if (key, sampling) in there}
    return {ids[key]: sampling for key, sampling in chosen.items() if key in ids}


def _count(library: Library, content_id: int, model_id: int) -> int:
    row = library.connection.execute(
        "SELECT count(*) FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model_id)
    )
    return int(row.fetchone()[0])
