"""The views for other programs: right rows, the player's times, and the questions of docs/library.md."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlite_utils.cli
from click.testing import CliRunner
from helpers.library_factory import add_video, fill_library
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.certainty import SENSITIVITIES, SENSITIVITY_SETTING, Sensitivity
from vtag.engine.library.data_views import VIEW_NAMES, create_views, drop_views
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search.moments import search
from vtag.engine.library.search.player_times import MomentClocks
from vtag.engine.library.store.clocks import save_clock
from vtag.engine.video_clock import ClockStretch, VideoClock

Run = Callable[..., subprocess.CompletedProcess[str]]
DOCS = (Path(__file__).parents[2] / "docs" / "library.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^```sql\n(.*?)^```", DOCS, re.M | re.S)
LATE = VideoClock((ClockStretch(0, 3_000_000), ClockStretch(2_500_000, 4_000_000)))


@pytest.fixture
def filled(vtag_home: Path, tmp_path: Path) -> Path:
    """A library of four videos. One is not scanned, one has a late picture; some tags are a person's."""
    path = vtag_home / "library.db"
    with LibraryWriter.open(path) as library:
        fill_library(library, tmp_path / "holiday", 3)
        add_video(library, tmp_path / "it's \udcff.mp4", seed=9, is_scanned=False)
        db = library.connection
        db.execute("UPDATE contents SET recorded_at = '2024-06-30T09:12:00Z' WHERE id = 1")
        save_clock(library, 2, LATE)
        archery = [moment.id for moment in search(db, "archery")]
        annotation_log.confirm(library, archery[:1])
        annotation_log.reject(library, archery[1:2])
        annotation_log.add(library, 2, "my own", 1000, 3000)
        annotation_log.add(library, 3, "outdoors")
    return path


def rows(path: Path, sql: str) -> list[dict[str, object]]:
    with sqlite3.connect(path) as db:
        db.row_factory = sqlite3.Row
        return [dict(row) for row in db.execute(sql)]


def test_the_moments_are_those_of_a_search(filled: Path) -> None:
    with LibraryWriter.open(filled) as library:
        db = library.connection
        found = MomentClocks(db).to_player(search(db, "score>=0", limit=None, less_sure="all"))
    expected = {
        m.id: (os.fsdecode(m.path), m.label, m.start_ms, m.end_ms, m.sure, m.source, m.model) for m in found
    }
    columns = ("path", "label", "start_ms", "end_ms", "sure", "source", "model")
    moments = rows(filled, "SELECT * FROM moments")
    assert {m["id"]: tuple(m[c] for c in columns) for m in moments} == expected
    assert {m["verdict"] for m in moments} == {None, "confirmed"}
    assert any(m["path"].endswith("1.mp4") and m["start_ms"] >= 3000 for m in moments)


@pytest.mark.parametrize("sensitivity", SENSITIVITIES)
def test_what_is_sure_follows_the_sensitivity(filled: Path, sensitivity: Sensitivity) -> None:
    with sqlite3.connect(filled) as db:
        db.execute("UPDATE segments SET margin = margin - 1 WHERE id % 2")
        db.execute("INSERT INTO settings VALUES (?, ?)", (SENSITIVITY_SETTING, sensitivity))
        expected = {moment.id for moment in search(db, "score>=0", limit=None)}
    assert {row["id"] for row in rows(filled, "SELECT id FROM moments WHERE sure")} == expected != set()


def test_videos_and_annotations(filled: Path, tmp_path: Path) -> None:
    videos = rows(filled, "SELECT * FROM videos ORDER BY id")
    assert [(v["folder"], v["name"]) for v in videos[:3]] == [
        (f"{tmp_path}/holiday/", f"{i}.mp4") for i in range(3)
    ]
    assert videos[3]["name"] == "it's \\xff.mp4" and videos[3]["present"] == 1 and videos[3]["copies"] == 1
    annotations = rows(filled, "SELECT label, start_ms, end_ms, verdict FROM annotations ORDER BY id")
    assert [tuple(a.values()) for a in annotations[2:]] == [
        ("my own", 4000, 4500, "added"),  # 3 s late, and the second stretch half a second earlier
        ("outdoors", None, None, "added"),
    ]
    assert [a["verdict"] for a in annotations[:2]] == ["confirmed", "rejected"]


@given(
    st.lists(st.tuples(st.integers(1, 10**7), st.integers(-(10**6), 10**7)), min_size=1, max_size=4),
    st.lists(st.integers(0, 30_000), min_size=1, max_size=5),
)
def test_the_players_times_are_those_of_its_clock(steps: list[tuple[int, int]], times: list[int]) -> None:
    stretches, library_us, player_us = [], 0, 0
    for library_step, player_step in steps:
        player_us = player_us + player_step if not stretches else player_us + abs(player_step)
        stretches.append(ClockStretch(library_us, player_us))
        library_us += library_step
    clock = VideoClock(tuple(stretches))
    with sqlite3.connect(":memory:") as db:
        db.executescript(
            "CREATE TABLE contents (id, clock); CREATE TABLE files (id, content_id, state, display); "
            "CREATE TABLE words (id INTEGER PRIMARY KEY, content_id, label, start_ms, end_ms, verdict, said_at)"
        )
        create_views(db)
        db.execute("INSERT INTO contents VALUES (1, ?)", (clock.to_json(),))
        db.executemany("INSERT INTO words (content_id, start_ms) VALUES (1, ?)", [(time,) for time in times])
        stored = [row[0] for row in db.execute("SELECT start_ms FROM annotations ORDER BY id")]
    assert [clock.player_ms(time) for time in times] == stored


def test_the_views_have_the_columns_that_the_docs_promise(filled: Path) -> None:
    """A column that is here stays: other programs ask for it by name."""
    with sqlite3.connect(filled) as db:
        for name in VIEW_NAMES:
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({name})")]
            table = re.search(rf"^`{name}`.*?\n\n\| column.*?\n\n", DOCS, re.M | re.S)
            assert table
            first_cells = re.findall(r"^\| (`.*?) \|", table[0], re.M)
            assert columns == re.findall(r"`(\w+)`", " ".join(first_cells))
        drop_views(db)
        create_views(db)


@pytest.mark.parametrize("question", QUESTIONS, ids=range(len(QUESTIONS)))
def test_a_question_of_the_docs_has_an_answer(filled: Path, question: str) -> None:
    run = CliRunner().invoke(sqlite_utils.cli.cli, ["query", str(filled), question])
    assert run.exit_code == 0, run.output
    answer = json.loads(run.output)
    assert answer == rows(filled, question) and answer


def test_datasette_answers_the_same(filled: Path) -> None:
    app = pytest.importorskip("datasette.app", reason="Datasette is not installed (pip install datasette)")

    async def answers() -> list[object]:
        client = app.Datasette([str(filled)]).client
        views = [f"/library/{name}.json?_shape=array&_size=max" for name in VIEW_NAMES]
        questions = [f"/library.json?_shape=array&sql={quote(question)}" for question in QUESTIONS]
        return [(await client.get(path)).json() for path in views + questions]

    queries = [f"SELECT * FROM {name}" for name in VIEW_NAMES] + QUESTIONS
    assert asyncio.run(answers()) == [rows(filled, query) for query in queries]


def test_the_shell_recipes_of_the_docs_run(filled: Path, tmp_path: Path) -> None:
    line = next(line for line in DOCS.splitlines() if line.startswith("sqlite-utils query"))
    program = tmp_path / "bin"
    program.mkdir()
    for name, module in (("vtag", "vtag.app"), ("sqlite-utils", "sqlite_utils")):
        (program / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (program / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{program}:{os.environ['PATH']}"}
    run = subprocess.run(["sh", "-c", line], capture_output=True, text=True, env=environment)
    assert run.returncode == 0 and "archery" in run.stdout, run.stderr


def test_the_path_of_a_library_that_is_not_there_is_an_error(vtag: Run, tmp_path: Path) -> None:
    run = vtag("library", "path", "--db", tmp_path / "no.db")
    assert run.returncode == 1 and run.stdout == "" and "there is no library" in run.stderr
