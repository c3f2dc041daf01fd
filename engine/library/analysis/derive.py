"""Derives what is said from what was seen: observations x head x thresholds x words, in milliseconds a video."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.library.analysis.segments import DEFAULT_THRESHOLD, Rule, probabilities, segments_of
from vtag.engine.library.annotations.apply import settle
from vtag.engine.library.database import Library
from vtag.engine.library.search.labels import own_thresholds
from vtag.engine.library.store import heads, observations
from vtag.engine.swin.config import NONE_OF_THESE


@dataclass(frozen=True)
class Rules:
    """The thresholds float64 [K] of a head's labels, the hysteresis, and both as text to compare by."""

    thresholds: NDArray[np.float64]
    rule: Rule
    key: str


def rules_for(library: Library, model: heads.Head) -> Rules:
    """Told threshold before the library's own per label, before the model's per label, before its default."""
    own = own_thresholds(library.connection)
    base = model.threshold if model.threshold is not None else DEFAULT_THRESHOLD
    chosen = [
        model.told_threshold
        if model.told_threshold is not None
        else own.get(label, model.label_thresholds.get(label, base))
        for label in model.labels
    ]
    thresholds = np.array(
        [2.0 if label == NONE_OF_THESE else value for label, value in zip(model.labels, chosen, strict=True)]
    )
    rule = Rule()
    told = sorted(set(thresholds.tolist()))
    key = json.dumps([told[0] if len(told) == 1 else thresholds.tolist(), astuple(rule)])
    return Rules(thresholds, rule, key)


def derive(
    library: Library, content_id: int, model: heads.Head, rules: Rules, sampling: str, *, force: bool = False
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
    found = segments_of(seen.windows, scores, rules.thresholds, end_ms, rules.rule)
    with library.transaction() as db:
        db.execute("DELETE FROM segments WHERE content_id = ? AND model_id = ?", (content_id, model.id))
        db.executemany(
            "INSERT INTO segments (content_id, label_id, model_id, start_ms, end_ms, score) "
            "VALUES (?, (SELECT id FROM labels WHERE name = ?), ?, ?, ?, ?)",
            [(content_id, model.labels[s.label], model.id, s.start_ms, s.end_ms, s.score) for s in found],
        )
        settle(library, content_id)
        db.execute(
            "INSERT OR REPLACE INTO derivations (content_id, model_id, sampling, rules, windows) "
            "VALUES (?, ?, ?, ?, ?)",
            (content_id, model.id, sampling, rules.key, len(seen.windows)),
        )
    return len(found)


class Voices:
    """All that has a say in what a scan sees: its model, and the heads that a person taught on the same backbone.

    Asked anew for every video, since another process may teach or forget a head while a scan runs.
    """

    def __init__(self, library: Library, model: heads.Head) -> None:
        self._library, self._model = library, model
        self._rules = rules_for(library, model)
        self._taught: dict[int, tuple[heads.Head, Rules]] = {}

    def derive(self, content_id: int, sampling: str, *, force: bool = False) -> int:
        """Write what all of them say of a content, and how many segments that is."""
        with self._library.transaction():
            return sum(
                derive(self._library, content_id, model, rules, sampling, force=force)
                for model, rules in self._now()
            )

    def catch_up(self, content_ids: Collection[int], sampling: str) -> None:
        """Derive contents that were seen before and of which one of them has not spoken yet, or by other rules."""
        behind: set[int] = set()
        for model, rules in self._now():
            behind |= set(content_ids) - up_to_date(self._library, model, rules, sampling)
        for content_id in content_ids:
            if content_id in behind:
                self.derive(content_id, sampling)

    def _now(self) -> Iterator[tuple[heads.Head, Rules]]:
        yield self._model, self._rules
        for model_id in heads.taught_beside(self._library, self._model.id):
            if model_id not in self._taught:
                head = heads.head(self._library, model_id)
                self._taught[model_id] = head, rules_for(self._library, head)
            yield self._taught[model_id]


def up_to_date(library: Library, model: heads.Head, rules: Rules, sampling: str) -> set[int]:
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
    model = heads.head(library, model_id)
    rules = rules_for(library, model)
    for content_id, sampling in _samplings(library, model).items():
        yield content_id, derive(library, content_id, model, rules, sampling, force=True)


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
