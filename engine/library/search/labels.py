"""Labels by the words that people use: stems of their names, and other names and groups from a small file."""

from __future__ import annotations

import difflib
import re
import sqlite3
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from vtag.assets import asset
from vtag.engine.errors import LibraryError
from vtag.engine.library.database import Library
from vtag.engine.paths import home
from vtag.engine.text import display_path, printable

OWN_FILE = "labels.toml"  # in vtag's home: a person's own names
_TABLES = ("groups", "names")
_TOKENIZER = "porter unicode61 remove_diacritics 2"  # that of labels_fts
_MOST_BYTES = 2**20
_QUOTES = str.maketrans("“”„«»\0", '""""" ')


@dataclass(frozen=True)
class Vocabulary:
    """Other names of labels: each name with all labels, case-folded, that it stands for by itself or by others."""

    names: Mapping[str, frozenset[str]]
    groups: tuple[str, ...]  # those of the names that are headings
    index: sqlite3.Connection  # a full-text table `names`, whose rowid counts the names from 1

    def groups_of(self, label: str) -> list[str]:
        """The groups that a label is in."""
        return [group for group in self.groups if label.casefold() in self.names[group]]


def vocabulary() -> Vocabulary:
    """The names that ship with vtag and those of the person's own file. Raises LibraryError where that is wrong."""
    own = home() / OWN_FILE
    try:
        info = own.stat()
    except OSError:
        return _vocabulary(None, 0)
    if info.st_size > _MOST_BYTES:
        raise LibraryError(
            f"{display_path(own)} is larger than a megabyte: it should only hold names of labels"
        )
    return _vocabulary(own, info.st_mtime_ns)


def matching_label_ids(reader: sqlite3.Connection, words: Sequence[str], *, phrase: bool = False) -> set[int]:
    """Ids of the labels that fit `words`: all of them in its name, or in one of its other names or groups.

    A word fits by its stem, and is a phrase itself where it holds several; with `phrase` they follow each other.
    Where no single name holds them all, they may be spread over the names of a label.
    """
    texts = [text for text in map(clean, words) if has_letters(text)]
    if not texts:
        return set()
    asked = [" ".join(texts)] if phrase else texts
    known = vocabulary()
    fits = _fitting(reader, known, asked)
    if not fits and len(asked) > 1:
        fits = set.intersection(*(_fitting(reader, known, [text]) for text in asked))
    return fits


def library_thresholds(reader: sqlite3.Connection) -> dict[str, float]:
    """The library's own thresholds by label, of the labels that have one."""
    return dict(reader.execute("SELECT name, threshold FROM labels WHERE threshold IS NOT NULL").fetchall())


def set_label_threshold(library: Library, label: str, threshold: float | None) -> bool:
    """Keep a threshold of the library's own for a label, None for none; whether there is such a label."""
    with library.transaction() as db:
        changed = db.execute("UPDATE labels SET threshold = ? WHERE name = ?", (threshold, label))
        return changed.rowcount == 1


def nearest_labels(reader: sqlite3.Connection, query: str, count: int = 5) -> list[str]:
    """Labels whose words look like those of a query that fits none."""
    names = [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]
    by_word: dict[str, list[str]] = {}
    for name in names:
        for word in (name.lower(), *re.findall(r"\w+", name.lower())):
            by_word.setdefault(word, []).append(name)
    asked = clean(query).lower()[:200]
    near: list[str] = []
    for word in (asked, *re.findall(r"\w+", asked)):
        near += [name for known in by_word if _begin_alike(word, known) for name in by_word[known]]
        for match in difflib.get_close_matches(word, by_word, count, 0.6):
            near += by_word[match]
    return list(dict.fromkeys(near))[:count]


def has_letters(text: str) -> bool:
    """Whether there is anything in `text` that a label could have."""
    return any(c.isalnum() for c in text)


def clean(text: str) -> str:
    """Text that SQLite takes (an argument that is no UTF-8 carries surrogates), with one kind of quotation mark."""
    return text.encode("utf-8", "replace").decode().translate(_QUOTES)


def _fitting(reader: sqlite3.Connection, known: Vocabulary, texts: Sequence[str]) -> set[int]:
    # each as an FTS5 string, in which nothing is an operator; one after the other they all have to be there
    match = " ".join('"' + text.replace('"', '""') + '"' for text in texts)
    fits = {
        row[0] for row in reader.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH ?", (match,))
    }
    meant: set[str] = set()
    for (name,) in known.index.execute("SELECT name FROM names WHERE names MATCH ?", (match,)):
        meant |= known.names[name]
    if meant:
        fits |= {i for i, name in reader.execute("SELECT id, name FROM labels") if name.casefold() in meant}
    return fits


@lru_cache(maxsize=2)
def _vocabulary(own: Path | None, mtime_ns: int) -> Vocabulary:
    tables = _tables(asset("labels", "kinetics400.toml").read_text(encoding="utf-8"), "kinetics400.toml")
    if own is not None:
        try:
            text = own.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise LibraryError(f"{display_path(own)} cannot be read as text: {error}") from error
        for kept, added in zip(tables, _tables(text, display_path(own)), strict=True):
            for name, members in added.items():
                kept[name] = kept.get(name, ()) + members
    groups, others = tables
    both = {name: groups.get(name, ()) + others.get(name, ()) for name in (*groups, *others)}
    names = {name: _meant(name, both) for name in both}
    # read by any thread and written by none once it is made
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute(f'CREATE VIRTUAL TABLE names USING fts5 (name, tokenize="{_TOKENIZER}")')
    index.executemany("INSERT INTO names (name) VALUES (?)", [(name,) for name in names])
    return Vocabulary(names, tuple(sorted(groups)), index)


def _tables(text: str, where: str) -> tuple[dict[str, tuple[str, ...]], ...]:
    """The tables of a file of names, strictly: what is misspelt there would silently find nothing."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LibraryError(f"{where} is not sound TOML: {error}") from error
    if unknown := set(content) - set(_TABLES):
        raise LibraryError(
            f"{where} has a table [{printable(min(unknown))}]: only [groups] and [names] are known"
        )
    return tuple(_table(content.get(table, {}), where, table) for table in _TABLES)


def _table(entries: object, where: str, table: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(entries, dict):
        raise LibraryError(f"{where}: {table} has to be a table, as in [{table}]")
    checked = {}
    for name, members in entries.items():
        if not has_letters(name):
            raise LibraryError(f"{where}: a name in [{table}] has no letters")
        if not isinstance(members, list) or not members or not all(isinstance(m, str) and m for m in members):
            raise LibraryError(
                f'{where}: "{printable(name)}" in [{table}] has to be a list of labels, as in ["archery", "yoga"]'
            )
        checked[name] = tuple(members)
    return checked


def _meant(name: str, members: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """All that a name stands for, through the names that it names; a ring of names ends where it began."""
    meant: set[str] = set()
    entered = set()
    pending = [name]
    while pending:
        at = pending.pop()
        if at not in entered:
            entered.add(at)
            for member in members[at]:
                meant.add(member.casefold())
                pending += [member] if member in members else []
    return frozenset(meant)


def _begin_alike(word: str, known: str) -> bool:
    """`swim` and `swimming`, `skier` and `ski`: what a stem does not cover."""
    return min(len(word), len(known)) >= 3 and (known.startswith(word) or word.startswith(known))
