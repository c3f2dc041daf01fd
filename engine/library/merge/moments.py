"""Derives the moments of a merged library, each from the features with the most windows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations.apply import apply_annotations
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.merge.tables import columns
from vtag.engine.library.store import heads

_Pair = tuple[int, int]  # ids of a content and of a model


class _Derivation(NamedTuple):
    """What segments were derived from."""

    sampling: str
    rules: str
    windows: int


def derive_merged(
    library: LibraryWriter,
    source: sqlite3.Connection,
    content_ids: Mapping[int, int],
    model_ids: Mapping[int, int],
    spell: Callable[[str], str],
) -> None:
    """Derive what either library had derived, by the merged library's thresholds and all heads that a person taught.

    What is up to date stays. Moments whose features are gone are copied, with labels as `spell` spells them.
    """
    own = _derivations(library.connection)
    others = {
        (content_ids[content], model_ids[model]): ((content, model), derivation)
        for (content, model), derivation in _derivations(source).items()
        if model in model_ids
    }
    keys = dict(library.connection.execute("SELECT id, key FROM contents").fetchall())
    windows = _window_counts(library)
    active = _Heads(library)
    samplings = _samplings(own, {pair: derivation for pair, (_, derivation) in others.items()}, active)
    for (content, model), candidates in samplings.items():
        head, rules = active.head(model)
        counts = {s: windows.get((keys[content], head.backbone_hash, s), -1) for s in candidates}
        sampling = max(counts, key=counts.__getitem__)  # the first of equals
        if counts[sampling] < 0:
            if (content, model) not in own and (content, model) in others:
                _copy(library, source, spell, (content, model), *others[content, model])
        elif own.get((content, model)) != _Derivation(sampling, rules.key, counts[sampling]):
            derive.derive_segments(library, content, head, rules, sampling, force=True)


def _samplings(
    own: Mapping[_Pair, _Derivation], others: Mapping[_Pair, _Derivation], active: _Heads
) -> dict[_Pair, list[str]]:
    """The samplings that the segments of each content and model may be derived from, the library's own first."""
    samplings: dict[_Pair, list[str]] = {}
    for derivations in (own, others):
        for pair, derivation in derivations.items():
            samplings.setdefault(pair, []).append(derivation.sampling)
    for (content, model), candidates in list(samplings.items()):
        for sibling in active.taught_siblings(model):
            samplings.setdefault((content, sibling), candidates)
    return samplings


class _Heads:
    """Heads with their rules, and their taught siblings; looked up once."""

    def __init__(self, library: LibraryWriter) -> None:
        self._library = library
        self._heads: dict[int, tuple[heads.Head, derive.DerivationRules]] = {}
        self._siblings: dict[int, list[int]] = {}

    def head(self, model_id: int) -> tuple[heads.Head, derive.DerivationRules]:
        if model_id not in self._heads:
            head = heads.load_head(self._library, model_id)
            self._heads[model_id] = head, derive.derivation_rules(self._library, head)
        return self._heads[model_id]

    def taught_siblings(self, model_id: int) -> Iterable[int]:
        if model_id not in self._siblings:
            self._siblings[model_id] = heads.taught_siblings(self._library, model_id)
        return self._siblings[model_id]


def _derivations(db: sqlite3.Connection) -> dict[_Pair, _Derivation]:
    rows = db.execute("SELECT content_id, model_id, sampling, rules, windows FROM derivations")
    return {(row[0], row[1]): _Derivation(*row[2:]) for row in rows}


def _window_counts(library: LibraryWriter) -> dict[tuple[str, str, str], int]:
    """The number of windows of each observation: by content key, backbone hash and sampling."""
    rows = library.observations.execute(
        "SELECT content_key, backbone_hash, sampling, window_count FROM observations"
    )
    return {(key, backbone_hash, sampling): count for key, backbone_hash, sampling, count in rows}


def _copy(
    library: LibraryWriter,
    source: sqlite3.Connection,
    spell: Callable[[str], str],
    pair: _Pair,
    source_pair: _Pair,
    derivation: _Derivation,
) -> None:
    """Copy the segments of a content and a model, and what they were derived from."""
    with library.transaction() as db:
        labels = dict(db.execute("SELECT name, id FROM labels").fetchall())
        names = {i: spell(name) for i, name in source.execute("SELECT id, name FROM labels")}
        fields = [
            name for name in columns(db, "segments") if name not in ("content_id", "model_id", "label_id")
        ]
        rows = source.execute(
            f"SELECT label_id, {', '.join(fields)} FROM segments WHERE content_id = ? AND model_id = ? ORDER BY id",
            source_pair,
        )
        db.executemany(
            f"INSERT INTO segments (content_id, model_id, label_id, {', '.join(fields)}) "
            f"VALUES (?, ?, ?, {', '.join('?' * len(fields))})",
            [(*pair, labels[names[label_id]], *values) for label_id, *values in rows],
        )
        db.execute(
            "INSERT INTO derivations (content_id, model_id, sampling, rules, windows) VALUES (?, ?, ?, ?, ?)",
            (*pair, *derivation),
        )
        apply_annotations(library, pair[0])
