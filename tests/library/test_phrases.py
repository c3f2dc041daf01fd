"""Everyday phrases find the labels that are meant; phrases that mean no action find none."""

from __future__ import annotations

import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from helpers.small_model import make_model
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.assets import asset, kinetics400_labels
from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.evaluate import QueryEvaluator
from vtag.engine.library.search.moments import everyday_terms, match_terms
from vtag.engine.library.search.phrases import LANGUAGES, LIMIT, _stem, find_meanings
from vtag.engine.library.search.query import parse
from vtag.engine.scan.model_selection import register_model

KINETICS = kinetics400_labels()
NO_ACTION = (
    (Path(__file__).parents[1] / "data" / "phrases_without_action.txt")
    .read_text(encoding="utf-8")
    .splitlines()
)
EVERYDAY = [
    line.split("\t")
    for line in (Path(__file__).parents[1] / "data" / "everyday_phrases.tsv")
    .read_text(encoding="utf-8")
    .splitlines()
]


def labels_of(query: str, labels: tuple[str, ...] = KINETICS) -> list[str]:
    return [meaning.label for meaning in find_meanings(query, labels)]


def phrases(language: str) -> list[tuple[str, list[str]]]:
    lines = asset("phrases", f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    return [(label, texts.split("|")) for label, _, texts in (line.partition("\t") for line in lines)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_language_has_phrases_for_all_labels(language: str) -> None:
    rows = phrases(language)
    assert [label for label, _ in rows[:400]] == list(KINETICS)
    for label, texts in rows:
        assert len(texts) >= 6, label
        assert len({text.casefold() for text in texts}) == len(texts), label
        assert all(text == text.strip() and text.strip("~") for text in texts), label


@pytest.mark.parametrize("step", [20, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_phrase_of_the_files_finds_its_label(language: str, step: int) -> None:
    rows = [
        (label, text)
        for label, texts in phrases(language)[:400:step]
        for text in texts[::7]
        if text[0] != "~"
    ]
    misses = [(label, text) for label, text in rows if label not in labels_of(text)]
    assert len(misses) <= 0.01 * len(rows), misses


@pytest.mark.parametrize("language", LANGUAGES)
def test_everyday_phrases_find_a_right_label(language: str) -> None:
    rows = [row for row in EVERYDAY if row[0] == language]
    misses = [text for _, text, right in rows if not set(labels_of(text)) & set(right.split("|"))]
    assert len(rows) == 20
    assert len(misses) <= 2, misses


def test_phrases_without_an_action_find_nothing() -> None:
    found = {text: labels_of(text) for text in NO_ACTION}
    assert len(NO_ACTION) == 20
    assert sum(map(bool, found.values())) <= 2, found


def test_the_shared_phrases_find_a_right_label(shared: Path) -> None:
    lines = (shared / "queries" / "everyday.tsv").read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    misses = [text for text, right in rows if not set(labels_of(text)) & set(right.split("|"))]
    assert len(misses) <= 0.05 * len(rows), misses


def test_a_phrase_that_is_only_near_comes_after_what_is_meant() -> None:
    assert labels_of("ping pong")
    assert labels_of("ping pong", (*KINETICS, "table tennis"))[0] == "table tennis"


@given(st.text(max_size=300))
@settings(deadline=None)
def test_any_text_is_a_query(text: str) -> None:
    result = find_meanings(text, KINETICS)
    assert len(result) <= LIMIT
    assert all(0 < meaning.score <= 1 for meaning in result)


@pytest.fixture
def reader(tmp_path: Path) -> sqlite3.Connection:
    with LibraryWriter.open(tmp_path / "library.db") as library:
        model = make_model(tmp_path / "model", labels=("dunking basketball", "archery", "yoga"))
        register_model(library, load_checkpoint(model), str(model))
    return sqlite3.connect(tmp_path / "library.db")


def test_a_search_takes_an_everyday_phrase_only_if_no_name_fits(reader: sqlite3.Connection) -> None:
    assert everyday_terms(reader, "slam dunk OR archery") == [("slam dunk", ["dunking basketball"])]
    assert everyday_terms(reader, "basketball THEN yoga") == []
    assert everyday_terms(reader, "tax return") == []
    assert QueryEvaluator(reader).parse("yoga -(slam dunk)") == parse("yoga -(slam dunk)")
    assert match_terms(reader, "slam dunk AND tax return") == [("slam dunk", True), ("tax return", False)]


def test_phrases_are_understood_in_many_threads_at_once() -> None:
    """As the page's server asks. A stemmer that two threads use at once fails, or gives stems of other words."""
    words = [stem + end for stem in ("jump", "danc", "wrestl", "paint") for end in ("ing", "ers", "ed", "es")]
    _stem.cache_clear()
    expected = [_stem(word, "en") for word in words]
    _stem.cache_clear()
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(lambda word: _stem.__wrapped__(word, "en"), words * 200))
    finally:
        sys.setswitchinterval(interval_s)
    assert found == expected * 200
