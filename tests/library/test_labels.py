"""Labels by everyday words: the file that ships with vtag, the user's file, and what a word matches."""

from __future__ import annotations

import json
import sqlite3
import tomllib
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import add_video
from hypothesis import given
from hypothesis import strategies as st

from vtag.assets import asset, kinetics400_labels
from vtag.engine.errors import LibraryError
from vtag.engine.library import page_queries
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.annotations.annotation_file import import_lines
from vtag.engine.library.annotations.annotation_log import list_annotations, rename_label
from vtag.engine.library.annotations.validation import resolve_label
from vtag.engine.library.database import LibraryWriter, open_reader
from vtag.engine.library.search import labels
from vtag.engine.library.search.evaluate import label_ids_of_term
from vtag.engine.library.search.moments import label_counts
from vtag.engine.library.search.query import parse, terms_of
from vtag.engine.library.store import heads
from vtag.engine.swin.config import NONE_OF_THESE
from vtag.engine.text import normalize_label
from vtag.trainer.data.dataset import label_from_name


def shipped() -> set[str]:
    starter = json.loads(asset("starter", "model.json").read_text(encoding="utf-8"))["labels"]
    return {*kinetics400_labels(), *starter} - {NONE_OF_THESE}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> sqlite3.Connection:
    """A library with the labels of Kinetics-400 and of the starter."""
    path = tmp_path_factory.mktemp("labels") / "library.db"
    with LibraryWriter.open(path) as library:
        library.connection.executemany(
            "INSERT INTO labels (name) VALUES (?)", [(n,) for n in sorted(shipped())]
        )
    return open_reader(path)


def matching(reader: sqlite3.Connection, *words: str, phrase: bool = False) -> set[str]:
    names = dict(reader.execute("SELECT id, name FROM labels"))
    return {names[i] for i in labels.matching_label_ids(reader, words, phrase=phrase)}


def test_every_label_that_the_file_names_exists_and_every_label_is_in_a_group() -> None:
    tables = tomllib.loads(asset("labels", "kinetics400.toml").read_text(encoding="utf-8"))
    names = {name for table in tables.values() for name in table}
    for table in tables.values():
        for name, members in table.items():
            assert len(set(members)) == len(members), name
            assert set(members) <= names | shipped(), name
    vocabulary = labels.vocabulary()
    assert [label for label in sorted(shipped()) if not vocabulary.groups_of(label)] == []


def test_an_everyday_word_finds_the_labels_that_it_stands_for(reader: sqlite3.Connection) -> None:
    assert {"tango dancing", "salsa dancing", "zumba", "capoeira", "krumping"} <= matching(reader, "dancing")
    assert matching(reader, "dancers") == matching(reader, "zither") == set()
    assert "playing chess" not in matching(reader, "dancing")
    assert {"walking the dog", "grooming dog"} <= matching(reader, "dogs")
    assert {"blowing out candles", "opening present"} <= matching(reader, "birthday")
    assert {"surfing water", "kitesurfing"} <= matching(reader, "beach")
    assert {"riding a bike", "riding mountain bike", "biking through snow"} <= matching(reader, "bikes")
    assert {"kicking soccer ball", "passing American football (in game)"} <= matching(reader, "football")
    assert {"skiing slalom", "bobsledding"} <= matching(reader, "winter", "sports")
    assert matching(reader, "make-up") == matching(reader, "makeup") > {"apply eye makeup"}


def test_words_match_one_name_before_they_spread_over_several(
    reader: sqlite3.Connection,
) -> None:
    assert matching(reader, "drinking", "beer") == {"drinking beer"}
    assert matching(reader, "beer", "drinking") == {"drinking beer"}
    assert matching(reader, "riding", "a", "bike") == {"riding a bike"}
    assert matching(reader, "snow", "dog") == {"sled dog racing"}  # by its name and by its group
    assert matching(reader, "riding", "chess") == set()


def test_a_phrase_keeps_its_order_and_may_be_a_synonym(reader: sqlite3.Connection) -> None:
    assert "skiing slalom" in matching(reader, "winter", "sports", phrase=True)
    assert matching(reader, "sports", "winter", phrase=True) == set()
    assert matching(reader, "press ups") == {"push up"}


@given(words=st.lists(st.text(max_size=12), max_size=4), phrase=st.booleans())
def test_no_word_is_an_operator(words: list[str], phrase: bool) -> None:
    reader = sqlite3.connect(":memory:")
    reader.execute("CREATE TABLE labels (id INTEGER PRIMARY KEY, name TEXT)")
    reader.execute("CREATE VIRTUAL TABLE labels_fts USING fts5 (name, content='labels', content_rowid='id')")
    assert labels.matching_label_ids(reader, words, phrase=phrase) == set()


def test_a_user_adds_names_in_another_language(reader: sqlite3.Connection, vtag_home: Path) -> None:
    assert matching(reader, "Tanzen") == set()
    (vtag_home / "labels.toml").write_text(
        '[groups]\n"dancing" = ["hula hooping"]\n"Küche" = ["cooking", "Dining"]\n[names]\n"tanzen" = ["dancing"]\n',
        encoding="utf-8",
    )
    assert {"zumba", "hula hooping"} <= matching(reader, "Tanzen") == matching(reader, "dancing")
    assert {"cooking egg", "dining"} <= matching(reader, "kuche")
    assert "Küche" in labels.vocabulary().groups_of("dining")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-32"])
def test_the_file_of_names_may_be_in_the_encoding_of_an_editor(
    reader: sqlite3.Connection, vtag_home: Path, encoding: str
) -> None:
    text = '[names]\r\n"k\u00fcche" = ["cooking egg"]\r\n'
    (vtag_home / "labels.toml").write_bytes(text.encode(encoding))
    assert matching(reader, "k\u00fcche") == {"cooking egg"}


def test_names_may_refer_to_each_other(reader: sqlite3.Connection, vtag_home: Path) -> None:
    (vtag_home / "labels.toml").write_text(
        '[names]\na = ["b", "yoga"]\nb = ["a", "zumba"]\n', encoding="utf-8"
    )
    assert matching(reader, "a") >= {"yoga", "zumba"} == matching(reader, "b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[names]\nx = [", "not sound TOML"),
        ("[aliases]\nx = ['yoga']", r"table \[aliases\]"),
        ("names = 3", "has to be a table"),
        ("[names]\nx = 'yoga'", "has to be a list of labels"),
        ("[names]\nx = []", "has to be a list of labels"),
        ("[names]\nx = [1]", "has to be a list of labels"),
        ("[names]\n'-' = ['yoga']", "no letters"),
        ('[names]\n"\\u001b[31m" = 1', r"\\x1b"),
        ("x" * 2**21, "larger than a megabyte"),
    ],
)
def test_an_invalid_file_raises_a_one_line_error(
    reader: sqlite3.Connection, vtag_home: Path, text: str, message: str
) -> None:
    (vtag_home / "labels.toml").write_text(text, encoding="utf-8")
    with pytest.raises(LibraryError, match=message) as raised:
        matching(reader, "yoga")
    assert "\n" not in str(raised.value) and "labels.toml" in str(raised.value)


def test_a_file_that_is_not_text_is_an_error(reader: sqlite3.Connection, vtag_home: Path) -> None:
    (vtag_home / "labels.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LibraryError, match=r"labels\.toml"):
        matching(reader, "yoga")


@pytest.mark.parametrize(
    "written",
    ["Cafe\u0301 au  lait", " Caf\u00e9 au\u00a0lait\n", "\ufeffCaf\u00e9 au lait\u200b"],
)
def test_a_label_has_one_form_at_every_door(library: LibraryWriter, vtag_home: Path, written: str) -> None:
    composed = "Caf\u00e9 au lait"
    assert resolve_label(library, written) == normalize_label(written) == composed
    assert label_from_name(written.replace(" ", "_")) == composed
    line = {"content": "3-" + "0" * 32, "label": written, "start_ms": 0, "end_ms": 5, "verdict": "added"}
    line |= {"said_at": "2024-01-01T00:00:00+00:00"}
    import_lines(library, [json.dumps(line).encode()], "f")
    assert [a.label for a in list_annotations(library.connection)] == [composed]
    for query in (written, f'label:"{written}"', f"label:{written.split()[0]}*"):
        (label_id,) = label_ids_of_term(library.connection, terms_of(parse(query))[0])
        assert label_id == 1
    assert label_counts(library.connection, written.strip()[:4]) == [(composed, 1)]
    assert labels.set_label_threshold(library, written, 0.5)
    (vtag_home / "labels.toml").write_text(f"[names]\ndrinks = [{json.dumps(written)}]\n", "utf-8")
    assert labels.matching_label_ids(library.connection, ["drinks"]) == {1}
    assert rename_label(library, written, "tea").after


def test_another_case_of_a_label_is_the_label_at_every_door(library: LibraryWriter, tmp_path: Path) -> None:
    content = add_video(library, tmp_path / "a.mp4")
    reader = library.connection
    key = reader.execute("SELECT key FROM contents").fetchone()[0]
    annotation_log.record_verdict(
        library, content, "caf\u00e9", "rejected", 0, 1000
    )  # a label without a moment
    annotation_log.add(library, content, "CAF\u00c9", 2000, 3000)
    line = {"content": key, "label": "Caf\u00e9", "start_ms": 4000, "end_ms": 5000, "verdict": "added"}
    lines = [{**line, "said_at": f"2024-01-01T00:00:0{second}+00:00"} for second in (0, 1)]
    lines[1] |= {"label": "cafE\u0301", "start_ms": 6000, "end_ms": 7000}
    import_lines(library, [json.dumps(each).encode() for each in lines], "f")
    assert {a.label for a in list_annotations(reader)} == {"caf\u00e9"}
    model = heads.save_model(
        library,
        name="m",
        source="m",
        backbone_hash="b",
        head_hash="h",
        spec={"labels": ["Caf\u00c9", "Polo", "polo"], "label_thresholds": {"Caf\u00c9": 0.3}},
        weight=np.eye(3, dtype=np.float32),
        bias=np.zeros(3, np.float32),
    )
    head = heads.load_head(library, model)
    assert head.labels == ("caf\u00e9", "Polo", "polo") and head.label_thresholds == {"caf\u00e9": 0.3}
    assert [row[0] for row in reader.execute("SELECT name FROM labels ORDER BY id")] == [
        "caf\u00e9",
        "Polo",
        "polo",
    ]
    assert len(page_queries.label_annotations(reader, "CAF\u00c9")) == 4
    assert len(rename_label(library, "Caf\u00c9", "tea").after) == 4


@given(st.text())
def test_the_normal_form_of_a_label_is_its_own_normal_form(text: str) -> None:
    assert normalize_label(normalize_label(text)) == normalize_label(text)
