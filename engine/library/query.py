"""Text to labels: words, phrases, OR and -not, over the label names in SQLite's full-text index."""

from __future__ import annotations

import difflib
import re
import sqlite3
from dataclasses import dataclass

from vtag.engine.errors import QueryError

_TOKEN = re.compile(r'(-?)"([^"]*)"?|(\S+)')
_MOST_TOKENS = 1000
_QUOTES = str.maketrans("“”„«»\0", '""""" ')


@dataclass(frozen=True)
class Term:
    """One alternative of a query: words and phrases that a label has to have, and those that it must not."""

    wanted: tuple[str, ...]
    unwanted: tuple[str, ...]


def parse(query: str) -> list[Term]:
    """The alternatives of a query: `words`, `"a phrase"`, `-not`, joined by OR.

    Words in one alternative have to be in one label. Raises QueryError where nothing is asked for.
    """
    terms: list[Term] = []
    wanted: list[str] = []
    unwanted: list[str] = []
    tokens = _TOKEN.findall(_clean(query))
    if len(tokens) > _MOST_TOKENS:
        raise QueryError(f"the query has more than {_MOST_TOKENS} words: ask for less at once")
    for minus, phrase, word in (*tokens, ("", "", "OR")):
        if word == "OR":
            if wanted:
                terms.append(Term(tuple(wanted), tuple(unwanted)))
            elif unwanted:
                raise QueryError("a query with -not needs a word to find, too, as in `riding -horse`")
            wanted, unwanted = [], []
        elif word.startswith("-"):
            _add(unwanted, word.lstrip("-"))
        else:
            _add(unwanted if minus else wanted, phrase or word)
    if not terms:
        raise QueryError("the query names nothing to look for: say a word, as in `vtag search archery`")
    return terms


def matching_labels(reader: sqlite3.Connection, terms: list[Term]) -> list[int]:
    """Ids of the labels that fit an alternative; a word fits by its stem."""
    found: set[int] = set()
    for term in terms:
        fits = _labels_with(reader, term.wanted[0])
        for text in term.wanted[1:]:
            fits &= _labels_with(reader, text)
        for text in term.unwanted:
            fits -= _labels_with(reader, text)
        found |= fits
    return sorted(found)


def nearest_labels(reader: sqlite3.Connection, query: str, count: int = 5) -> list[str]:
    """Labels whose words look like those of a query that fits none."""
    names = [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY name")]
    by_word: dict[str, list[str]] = {}
    for name in names:
        for word in (name.lower(), *re.findall(r"\w+", name.lower())):
            by_word.setdefault(word, []).append(name)
    asked = _clean(query).lower()[:200]
    near: list[str] = []
    for word in (asked, *re.findall(r"\w+", asked)):
        near += [name for known in by_word if _begin_alike(word, known) for name in by_word[known]]
        for match in difflib.get_close_matches(word, by_word, count, 0.6):
            near += by_word[match]
    return list(dict.fromkeys(near))[:count]


def has_letters(text: str) -> bool:
    """Whether there is anything in `text` that a label could have."""
    return any(c.isalnum() for c in text)


def _labels_with(reader: sqlite3.Connection, text: str) -> set[int]:
    # as an FTS5 string, in which nothing is an operator
    quoted = '"' + text.replace('"', '""') + '"'
    rows = reader.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH ?", (quoted,))
    return {row[0] for row in rows}


def _begin_alike(word: str, known: str) -> bool:
    """`swim` and `swimming`, `skier` and `ski`: what a stem does not cover."""
    return min(len(word), len(known)) >= 3 and (known.startswith(word) or word.startswith(known))


def _add(texts: list[str], text: str) -> None:
    if has_letters(text):
        texts.append(text.strip())


def _clean(query: str) -> str:
    """Text that SQLite takes (an argument that is no UTF-8 carries surrogates), with one kind of quotation mark."""
    return query.encode("utf-8", "replace").decode().translate(_QUOTES)
