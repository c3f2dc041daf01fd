"""Text to labels: words, phrases, OR and -not, over the names of labels."""

from __future__ import annotations

import re
import sqlite3
from dataclasses import dataclass

from vtag.engine.errors import QueryError
from vtag.engine.library.labels import clean, has_letters, matching

_TOKEN = re.compile(r'(-?)"([^"]*)"?|(\S+)')
_MOST_TOKENS = 1000


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
    tokens = _TOKEN.findall(clean(query))
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
    """Ids of the labels that fit an alternative; see `labels.matching`."""
    found: set[int] = set()
    for term in terms:
        fits = matching(reader, term.wanted)
        for text in term.unwanted:
            fits -= matching(reader, [text])
        found |= fits
    return sorted(found)


def _add(texts: list[str], text: str) -> None:
    if has_letters(text):
        texts.append(text.strip())
