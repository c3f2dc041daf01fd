"""Text of strangers on a terminal: shown, not obeyed."""

from __future__ import annotations

import json
import unicodedata

from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.text import printable, to_json

STEERING = ("Cc", "Cf", "Cs", "Zl", "Zp")
# as names of files are read: bytes that are no UTF-8 are low surrogates
SAMPLES = st.sampled_from("\x1b\x9b\x9d\x9c\u202e\udc80\udcff\u200d\n")
TEXTS = st.text(
    st.one_of(st.characters(codec="utf-8"), st.characters(categories=("Cc", "Cf", "Zl", "Zp")), SAMPLES)
)


def steers(text: str) -> bool:
    return any(c != "\u200d" and unicodedata.category(c) in STEERING for c in text)


@given(TEXTS)
@settings(max_examples=50)
def test_printable_text_has_no_character_that_steers_a_terminal(text: str) -> None:
    assert not steers(printable(text))
    assert steers(text) or printable(text) == text


@given(
    st.recursive(
        st.one_of(TEXTS, st.integers(), st.none()), lambda x: st.dictionaries(TEXTS, x), max_leaves=5
    )
)
@settings(max_examples=30)
def test_json_has_none_either_and_means_the_same(value: object) -> None:
    for indent in (None, 2):
        text = to_json(value, indent=indent)
        assert not steers(text.replace("\n", "")) and json.loads(text) == value
