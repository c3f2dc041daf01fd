"""How the library spells labels: whatever brings a label, another case of a known one is the known one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable

from vtag.engine.text import normalize_label


def label_spellings(reader: sqlite3.Connection) -> dict[str, str]:
    """The names of all labels and annotations by their folded case; of several spellings the first one."""
    spellings: dict[str, str] = {}
    for name in _label_names(reader):
        spellings.setdefault(name.casefold(), name)
    return spellings


def _label_names(reader: sqlite3.Connection) -> dict[str, None]:
    """The names of all labels, then of all annotations, each in the order in which it came."""
    rows = reader.execute(
        "SELECT name FROM (SELECT 0 AS kind, id, name FROM labels UNION ALL "
        "SELECT 1, min(id), label FROM words GROUP BY label) ORDER BY kind, id"
    )
    return dict.fromkeys(name for (name,) in rows)


def annotated_spellings(reader: sqlite3.Connection, label: str) -> list[str]:
    """The spellings of a label among the annotations; a library of an older vtag may have several."""
    folded = normalize_label(label).casefold()
    rows = reader.execute("SELECT DISTINCT label FROM words ORDER BY label")
    return [name for (name,) in rows if name.casefold() == folded]


def spell_labels(reader: sqlite3.Connection, labels: Iterable[str]) -> list[str]:
    """Labels in their normal form, as the library spells them; those that differ by case alone keep theirs."""
    spellings = label_spellings(reader)
    names = [normalize_label(label) for label in labels]
    number = Counter(name.casefold() for name in names)
    return [spellings.get(name.casefold(), name) if number[name.casefold()] == 1 else name for name in names]


def spell_as(db: sqlite3.Connection, source: sqlite3.Connection) -> Callable[[str], str]:
    """A function that spells a label of the library `source` as the library `db` does.

    A label that is new to `db` keeps its spelling, and so do labels of `source` that differ by case alone.
    """
    own_names, other_names, spellings = _label_names(db), _label_names(source), label_spellings(db)
    number = Counter(name.casefold() for name in other_names)
    kept_names = {*own_names, *(name for name in other_names if number[name.casefold()] > 1)}
    return lambda name: name if name in kept_names else spellings.get(name.casefold(), name)
