"""Labels that an everyday phrase means, best first: "slam dunk" means dunking basketball. Reads assets/phrases.

Each language has a file of about ten everyday phrases a label. A query is compared in every language by the stems of
its words, and each label gets the score of its best language. A phrase after `~` is only near to the label
("sewing" to knitting): it counts if the library has nothing closer. Rare words weigh more: a word's weight is its
inverse document frequency over labels (Spärck Jones 1972), as in BM25.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vtag.assets import asset

# Snowball's name of each language; Chinese and Japanese write no spaces and are compared by pairs of characters
LANGUAGES = {
    "en": "english",
    "de": "german",
    "fr": "french",
    "es": "spanish",
    "pt": "portuguese",
    "it": "italian",
    "zh": "",
    "ja": "",
}
LIMIT = 5  # labels that a phrase is searched as
# Of the query's weight, the least share that a label has to cover; less is chance ("tax return", "returning serve")
_MIN_COVERAGE = 0.5
# A whole phrase of the file inside a longer query ("skiing with grandma in Tyrol") needs less
_MIN_COVERAGE_WHOLE = 0.25
# The least score of a label, unless the query has its whole name as a word ("my son skateboarding at the park").
# Of 60 English phrases without an action nine in ten stay below it, of 60 everyday ones three ("world map" has 0.54).
# Words of other languages are compounds, or are compared by pairs of characters: less of them is shared.
_MIN_SCORE = 0.5
_MIN_SCORE_ENGLISH = 0.58
_MIN_SCORE_EAST_ASIAN = 0.4
_NEAR = "~"
_NEAR_FACTOR = 0.7  # of the score of a phrase that is only near to its label
_MIN_RELATIVE = 0.6  # of the best label's score: what is far below it is not meant
_TYPICAL_WEIGHT = 5.0  # of a word that stands with about three labels
_EXACT = 0.95  # the score of a phrase that the file holds as it is; then little else is meant
_MIN_RELATIVE_EXACT = 0.85
_MIN_RELATIVE_FOREIGN = 0.9  # in a language other than that of the best: a word can mean two things
_EAST_ASIAN = re.compile("[\u3040-\u30ff\u3400-\u9fff]")
_STEMMING = threading.Lock()  # a stemmer keeps the word that it works on; the page searches in many threads
_MAX_QUERY = 200  # characters; what is longer is no search phrase


@dataclass(frozen=True)
class Meaning:
    """A label that a phrase may mean, with a score from 0 to 1."""

    label: str
    score: float


def find_meanings(query: str, labels: Collection[str]) -> tuple[Meaning, ...]:
    """At most LIMIT of `labels` that `query` means, best first; empty if it means no action."""
    return _find_meanings(query[:_MAX_QUERY], frozenset(labels))


@lru_cache(maxsize=64)  # a search asks for its terms several times, a long one takes 0.1 s
def _find_meanings(query: str, labels: frozenset[str]) -> tuple[Meaning, ...]:
    names = {label.casefold(): label for label in labels}
    scores = {language: dict(_scores(query, language, names.keys())) for language in LANGUAGES}
    best = max((max(matches.values(), default=0.0) for matches in scores.values()), default=0.0)
    own_share = _MIN_RELATIVE if best < _EXACT else _MIN_RELATIVE_EXACT
    result: dict[str, float] = {}
    for matches in scores.values():
        is_own = max(matches.values(), default=0.0) == best
        for label, score in matches.items():
            if score >= best * (own_share if is_own else _MIN_RELATIVE_FOREIGN):
                result[label] = max(result.get(label, 0.0), score)
    ranking = sorted(result.items(), key=lambda item: (-item[1], item[0]))
    return tuple(Meaning(names[label], score) for label, score in ranking[:LIMIT])


@dataclass(frozen=True)
class _Phrase:
    stems: frozenset[str]
    factor: float  # 1, or _NEAR_FACTOR


def _scores(query: str, language: str, names: Collection[str]) -> Iterator[tuple[str, float]]:
    """Each of `names` (in lower case) that the query may mean in one language, with its score."""
    stems = frozenset(_stems(query, language))
    candidates = _candidates(stems, language)
    weights = _weights(stems, candidates.values(), len(_lines(language)))
    total = sum(weights.values())
    words = set(re.findall(r"\w+", query.casefold()))
    min_score = _min_score(language)
    for label in candidates.keys() & names:
        phrases = candidates[label]
        covered = stems.intersection(itertools.chain.from_iterable(phrase.stems for phrase in phrases))
        coverage = sum(weights[stem] for stem in covered) / total
        is_whole = any(phrase.stems <= stems for phrase in phrases)
        if coverage >= (_MIN_COVERAGE_WHOLE if is_whole else _MIN_COVERAGE):
            score = max(_score(phrase, weights, total, coverage) for phrase in phrases)
            if score >= min_score or label in words:
                yield label, score


def _min_score(language: str) -> float:
    if not LANGUAGES[language]:
        return _MIN_SCORE_EAST_ASIAN
    return _MIN_SCORE_ENGLISH if language == "en" else _MIN_SCORE


def _score(phrase: _Phrase, weights: Mapping[str, float], total: float, coverage: float) -> float:
    """A weighted mean of the phrase's own similarity (Dice's coefficient of weights) and the label's coverage."""
    shared = sum(weights[stem] for stem in phrase.stems if stem in weights)
    rest = sum(_TYPICAL_WEIGHT for stem in phrase.stems if stem not in weights)
    return phrase.factor * (0.6 * 2 * shared / (total + shared + rest) + 0.4 * coverage)


def _weights(
    stems: Collection[str], candidates: Collection[Collection[_Phrase]], label_count: int
) -> dict[str, float]:
    """Inverse document frequency of each stem; each of `label_count` labels is a document."""
    return {
        stem: math.log(
            (label_count + 1) / (sum(any(stem in p.stems for p in phrases) for phrases in candidates) + 0.5)
        )
        for stem in stems
    }


def _candidates(stems: Collection[str], language: str) -> dict[str, list[_Phrase]]:
    """The phrases of each label (in lower case) that may share one of `stems`.

    Stemming a whole file takes 0.2 s, so only lines with a word that begins as a stem does are stemmed.
    """
    if not stems:
        return {}
    beginnings = [re.escape(stem[: max(2, len(stem) - 1)]) for stem in stems]  # "cri" is the stem of "cry"
    boundary = r"\b" if LANGUAGES[language] else ""  # Chinese and Japanese have no spaces
    pattern = re.compile(f"{boundary}(?:{'|'.join(beginnings)})")
    candidates = {}
    for folded, line in _lines(language):
        if pattern.search(folded):
            label, _, texts = line.partition("\t")
            phrases = [_phrase(text, language) for text in (label, *texts.split("|"))]
            candidates[label.casefold()] = [phrase for phrase in phrases if phrase.stems]
    return candidates


@lru_cache(maxsize=50_000)  # all phrases are 30,000; a search compares a few hundred of them
def _phrase(text: str, language: str) -> _Phrase:
    return _Phrase(
        frozenset(_stems(text.removeprefix(_NEAR), language)), _NEAR_FACTOR if text[0] == _NEAR else 1.0
    )


@lru_cache(maxsize=len(LANGUAGES))
def _lines(language: str) -> list[tuple[str, str]]:
    """The lines of a language's file, each without accents and as it is."""
    text = asset("phrases", f"{language}.tsv").read_text(encoding="utf-8")
    return [(_fold(line.casefold()), line) for line in text.splitlines()]


def _stems(text: str, language: str) -> Iterator[str]:
    """The stems of a text without the words that say nothing of an action; pairs of characters for zh and ja."""
    for word in re.findall(r"\w+", text.casefold().replace("'", " ").replace("’", " ")):
        if _EAST_ASIAN.search(word):
            word = _fold(word)
            yield from (word[i : i + 2] for i in range(max(1, len(word) - 1)))
        elif LANGUAGES[language] and word not in _stopwords(language):
            yield _fold(_stem(word, language))


@lru_cache(maxsize=50_000)
def _stem(word: str, language: str) -> str:
    with _STEMMING:
        return str(_stemmer(language).stemWord(word))


@lru_cache(maxsize=len(LANGUAGES))
def _stemmer(language: str) -> Any:
    import snowballstemmer  # takes 30 ms, and most searches need none

    return snowballstemmer.stemmer(LANGUAGES[language])


@lru_cache(maxsize=len(LANGUAGES))
def _stopwords(language: str) -> frozenset[str]:
    """Articles, prepositions, pronouns, and words for people."""
    for line in asset("phrases", "stopwords.tsv").read_text(encoding="utf-8").splitlines():
        name, _, words = line.partition("\t")
        if name == language:
            return frozenset(words.split())
    return frozenset()


def _fold(word: str) -> str:
    """A word without accents, which many people leave out."""
    if word.isascii():
        return word
    return "".join(c for c in unicodedata.normalize("NFKD", word) if not unicodedata.combining(c))
