"""Finds labels by everyday words: by stems of their names, and by synonyms and groups from a small file."""

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
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.phrases import find_meanings
from vtag.engine.paths import home
from vtag.engine.text import display_path, has_letters, normalize_label, printable, read_text_file

USER_FILE = "labels.toml"  # in vtag's home: the user's own synonyms and groups
_TABLES = ("groups", "names")
_TOKENIZER = "porter unicode61 remove_diacritics 2"  # the same as of the table labels_fts
_MAX_BYTES = 2**20
_QUOTES = str.maketrans("“”„«»\0", '""""" ')


@dataclass(frozen=True)
class Vocabulary:
    """Synonyms and groups of labels.

    `names` maps each to all labels (case-folded) that it stands for, directly or through other names.
    """

    names: Mapping[str, frozenset[str]]
    groups: tuple[str, ...]  # the names that are groups
    index: sqlite3.Connection  # a full-text table `names`

    def groups_of(self, label: str) -> list[str]:
        """The groups that contain a label."""
        return [group for group in self.groups if label.casefold() in self.names[group]]


def vocabulary() -> Vocabulary:
    """The names that ship with vtag and those of the user's file. Raises LibraryError if that file is not valid."""
    user_file = home() / USER_FILE
    try:
        info = user_file.stat()
    except OSError:
        return _read_vocabulary(None, 0)
    if info.st_size > _MAX_BYTES:
        raise LibraryError(
            f"{display_path(user_file)} is larger than a megabyte: it should only hold names of labels"
        )
    return _read_vocabulary(user_file, info.st_mtime_ns)


def matching_label_ids(reader: sqlite3.Connection, words: Sequence[str], *, phrase: bool = False) -> set[int]:
    """Ids of the labels that match all `words`, in the name, in one synonym or in one group of the label.

    Words match by their stems. A word with spaces is a phrase; with `phrase`, all words together are one. If no
    single name has all words, they may be spread over the names of a label.
    """
    texts = [normalize_label(text) for text in map(normalize_text, words) if has_letters(text)]
    if not texts:
        return set()
    phrases = [" ".join(texts)] if phrase else texts
    synonyms = vocabulary()
    label_ids = _label_ids_with(reader, synonyms, phrases)
    if not label_ids and len(phrases) > 1:
        label_ids = set.intersection(*(_label_ids_with(reader, synonyms, [text]) for text in phrases))
    return label_ids


def everyday_labels(reader: sqlite3.Connection, texts: Sequence[str]) -> list[str]:
    """The labels that an everyday phrase means, best first; see `phrases.find_meanings`.

    Empty if a label has the words of `texts`, in any order: "bike riding" in quotes means this order and no other.
    """
    words = " ".join(texts).split()
    if matching_label_ids(reader, words):
        return []
    names = [name for (name,) in reader.execute("SELECT name FROM labels")]
    return [meaning.label for meaning in find_meanings(normalize_text(" ".join(words)), names)]


def library_thresholds(reader: sqlite3.Connection) -> dict[str, float]:
    """The thresholds that were set in this library, by label."""
    return dict(reader.execute("SELECT name, threshold FROM labels WHERE threshold IS NOT NULL").fetchall())


def set_label_threshold(library: LibraryWriter, label: str, threshold: float | None) -> bool:
    """Set a label's threshold in this library, or remove it (None); return whether the label exists."""
    with library.transaction() as db:
        cursor = db.execute(
            "UPDATE labels SET threshold = ? WHERE name = ?", (threshold, normalize_label(label))
        )
        return cursor.rowcount == 1


_MIN_SIMILARITY = 0.7  # of two words' letters; "return" and "run" have 0.67


def nearest_labels(reader: sqlite3.Connection, query: str, count: int = 5) -> list[str]:
    """At most `count` labels with words similar to those of a query that matches none."""
    names = [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]
    by_word: dict[str, list[str]] = {}
    for name in names:
        for word in (name.lower(), *re.findall(r"\w+", name.lower())):
            by_word.setdefault(word, []).append(name)
    text = normalize_label(normalize_text(query)).lower()[:200]
    similar: list[str] = []
    for word in (text, *re.findall(r"\w+", text)):
        similar += [name for other in by_word if _share_prefix(word, other) for name in by_word[other]]
        for match in difflib.get_close_matches(word, by_word, count, _MIN_SIMILARITY):
            similar += by_word[match]
    return list(dict.fromkeys(similar))[:count]


def normalize_text(text: str) -> str:
    """`text` as SQLite accepts it, with straight quotation marks.

    Surrogates are replaced; they come from command line arguments that are not UTF-8.
    """
    return text.encode("utf-8", "replace").decode().translate(_QUOTES)


def _label_ids_with(reader: sqlite3.Connection, synonyms: Vocabulary, texts: Sequence[str]) -> set[int]:
    """Ids of the labels that have all `texts` in their name, in one synonym or in one group."""
    # each text as an FTS5 string, in which nothing is an operator; FTS5 joins strings by AND
    match = " ".join('"' + text.replace('"', '""') + '"' for text in texts)
    rows = reader.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH ?", (match,))
    label_ids = {row[0] for row in rows}
    labels: set[str] = set()
    for (name,) in synonyms.index.execute("SELECT name FROM names WHERE names MATCH ?", (match,)):
        labels |= synonyms.names[name]
    if labels:
        rows = reader.execute("SELECT id, name FROM labels")
        label_ids |= {label_id for label_id, name in rows if name.casefold() in labels}
    return label_ids


@lru_cache(maxsize=2)
def _read_vocabulary(user_file: Path | None, mtime_ns: int) -> Vocabulary:
    """The vocabulary; `mtime_ns` makes the cache miss after the user changed the file."""
    tables = _parse_tables(
        asset("labels", "kinetics400.toml").read_text(encoding="utf-8"), "kinetics400.toml"
    )
    if user_file is not None:
        try:
            text = read_text_file(user_file)
        except (OSError, ValueError) as error:
            raise LibraryError(f"{display_path(user_file)} cannot be read as text: {error}") from error
        for table, additions in zip(tables, _parse_tables(text, display_path(user_file)), strict=True):
            for name, members in additions.items():
                table[name] = table.get(name, ()) + members
    groups, synonyms = tables
    members_by_name = {name: groups.get(name, ()) + synonyms.get(name, ()) for name in (*groups, *synonyms)}
    names = {name: _expand(name, members_by_name) for name in members_by_name}
    # any thread may read it, since nothing is written after this
    index = sqlite3.connect(":memory:", check_same_thread=False)
    index.execute(f'CREATE VIRTUAL TABLE names USING fts5 (name, tokenize="{_TOKENIZER}")')
    index.executemany("INSERT INTO names (name) VALUES (?)", [(name,) for name in names])
    return Vocabulary(names, tuple(sorted(groups)), index)


def _parse_tables(text: str, file_name: str) -> tuple[dict[str, tuple[str, ...]], ...]:
    """The tables [groups] and [names] of a file. Strict, since a misspelt key would silently find nothing."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise LibraryError(f"{file_name} is not sound TOML: {error}") from error
    if unknown := set(content) - set(_TABLES):
        raise LibraryError(
            f"{file_name} has a table [{printable(min(unknown))}]: only [groups] and [names] are known"
        )
    return tuple(_check_table(content.get(table, {}), file_name, table) for table in _TABLES)


def _check_table(entries: object, file_name: str, table: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(entries, dict):
        raise LibraryError(f"{file_name}: {table} has to be a table, as in [{table}]")
    checked = {}
    for name, members in entries.items():
        if not has_letters(name):
            raise LibraryError(f"{file_name}: a name in [{table}] has no letters")
        if not isinstance(members, list) or not members or not all(isinstance(m, str) and m for m in members):
            raise LibraryError(
                f'{file_name}: "{printable(name)}" in [{table}] has to be a list of labels, as in ["archery", "yoga"]'
            )
        checked[normalize_label(name)] = tuple(map(normalize_label, members))
    return checked


def _expand(name: str, members_by_name: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """All labels and names that a name stands for, case-folded; names may refer to each other in a circle."""
    expanded: set[str] = set()
    visited = set()
    pending = [name]
    while pending:
        current = pending.pop()
        if current not in visited:
            visited.add(current)
            for member in members_by_name[current]:
                expanded.add(member.casefold())
                pending += [member] if member in members_by_name else []
    return frozenset(expanded)


def _share_prefix(word: str, other: str) -> bool:
    """Whether one word is the beginning of the other, as `swim` of `swimming`: stems miss some of these."""
    return min(len(word), len(other)) >= 3 and (other.startswith(word) or word.startswith(other))
