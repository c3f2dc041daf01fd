"""Opening the library: migrations with rows in them, backups, permissions, several processes, what is no library."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from vtag.engine.errors import LibraryError
from vtag.engine.library import database, migrations
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library, Schema, open_reader
from vtag.engine.library.search.moments import search

TABLES = {
    "volumes", "roots", "contents", "files", "labels", "models", "words", "word_log", "derivations", "segments",
    "runs", "settings",
}  # fmt: skip


@pytest.fixture
def with_a_second_step(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A vtag of the future: its library has one step more, which fails when told to."""
    told = {"fail": False}
    future = _first_steps(len(database.SCHEMA.steps))

    @future()
    def m999_add_colour(db: Database) -> None:
        db.execute("ALTER TABLE labels ADD COLUMN colour TEXT")
        if told["fail"]:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(migrations, "library_migrations", future)
    monkeypatch.setattr(database, "SCHEMA", Schema("vtag", (*database.SCHEMA.steps, "m999_add_colour")))
    return told


def _first_steps(count: int) -> Migrations:
    """The migrations of an older vtag: the first `count` of today's."""
    older = Migrations("vtag")
    for name in database.SCHEMA.steps[:count]:
        older()(getattr(migrations, name))
    return older


@pytest.fixture
def oldest(tmp_path: Path) -> Path:
    """A library of the first schema with a row in it."""
    path = tmp_path / "library.db"
    with Library.open(path) as library:
        library.connection.execute("INSERT INTO labels (name) VALUES ('archery')")
    return path


def test_a_new_library_has_its_tables_and_foreign_keys_hold(tmp_path: Path) -> None:
    with Library.open(tmp_path / "library.db") as library:
        names = {
            r[0] for r in library.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        assert names >= TABLES
        assert library.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(sqlite3.IntegrityError):
            library.connection.execute(
                "INSERT INTO segments (content_id, label_id, start_ms, end_ms, score) VALUES (1, 1, 0, 1, 1)"
            )


def test_opening_an_up_to_date_library_does_not_load_sqlite_utils(oldest: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from vtag.engine.library.database import Library\n"
        "with Library.open(Path(sys.argv[1])): pass\n"
        "assert 'sqlite_utils' not in sys.modules and 'numpy' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code, str(oldest)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_an_older_library_is_backed_up_and_brought_up_to_date(
    oldest: Path, with_a_second_step: dict[str, bool]
) -> None:
    with Library.open(oldest) as library:
        assert library.connection.execute("SELECT name, colour FROM labels").fetchall() == [("archery", None)]
        fits = library.connection.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH 'archery'")
        assert len(fits.fetchall()) == 1
    open_reader(oldest).close()
    backup = oldest.with_name("library.db.before-m999")
    assert [f.name for f in oldest.parent.glob("*.before*")] == [backup.name]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with sqlite3.connect(backup) as db:
        assert db.execute("SELECT * FROM labels").fetchall() == [(1, "archery", None)]


def test_a_reader_finds_an_older_library_brought_up_to_date(
    oldest: Path, with_a_second_step: dict[str, bool]
) -> None:
    open_reader(oldest).execute("SELECT colour FROM labels").fetchall()
    assert oldest.with_name("library.db.before-m999").is_file()


def test_the_first_schemas_rows_are_all_there_in_todays_and_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.db"
    with monkeypatch.context() as then:
        then.setattr(migrations, "library_migrations", _first_steps(1))
        then.setattr(database, "SCHEMA", Schema("vtag", database.SCHEMA.steps[:1]))
        with Library.open(path) as library:
            for statement in (
                "INSERT INTO volumes VALUES (1, 'v', x'2f', '/')",
                "INSERT INTO contents (id, key, size_bytes, added_at) VALUES (1, 'k', 1, '')",
                "INSERT INTO files VALUES (1, 1, x'612e6d7034', 'a.mp4', 1, 0, 0, 1, 'present', '')",
                "INSERT INTO labels (name) VALUES ('archery')",
                "INSERT INTO words VALUES (1, 1, 'archery', 0, 9, 'added', '')",
                "INSERT INTO segments (content_id, label_id, word_id, start_ms, end_ms, score) "
                "VALUES (1, 1, 1, 0, 9, 0.5)",
            ):
                library.connection.execute(statement)
            before = set(library.connection.iterdump())
    with Library.open(path) as library:
        lost = before - set(library.connection.iterdump())
        assert not [line for line in lost if line.startswith("INSERT") and '"segments"' in line]
        assert library.connection.execute("SELECT label, verdict FROM words").fetchall() == [
            ("archery", "added")
        ]
        assert [(m.path, m.end_ms) for m in search(library.connection, "archery")] == [(b"/a.mp4", 9)]


SECOND = "2026-03-01T12:00:05"


def logged(at: str, action: str, word: dict[str, object]) -> tuple[str, str, str, str]:
    return at, action, "[]", json.dumps([word])


def test_words_of_a_page_that_wrote_whole_seconds_are_in_the_order_of_their_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older page wrote the second of a No: the log knows the time in which it was recorded."""
    path = tmp_path / "library.db"
    yes = {"content": "9-a", "label": "wave", "start_ms": 0, "end_ms": 2000, "verdict": "added"}
    no = {**yes, "start_ms": 500, "verdict": "rejected"}
    brought = {**yes, "label": "yoga", "verdict": "rejected"}
    with monkeypatch.context() as then:
        then.setattr(migrations, "library_migrations", _first_steps(4))
        then.setattr(database, "SCHEMA", Schema("vtag", database.SCHEMA.steps[:4]))
        with Library.open(path) as library:
            db = library.connection
            db.execute("INSERT INTO volumes VALUES (1, 'v', x'2f', '/')")
            db.execute(
                "INSERT INTO contents (id, key, size_bytes, duration_ms, added_at) VALUES (1, '9-a', 9, 8000, '')"
            )
            db.execute("INSERT INTO files VALUES (1, 1, x'612e6d7034', 'a.mp4', 1, 0, 0, 1, 'present', '')")
            db.executemany(
                "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) "
                "VALUES (1, :label, :start_ms, :end_ms, :verdict, :said_at)",
                [
                    yes | {"said_at": f"{SECOND}.300000+00:00"},
                    no | {"said_at": f"{SECOND}+00:00"},
                    brought | {"said_at": "2024-01-01T00:00:00+00:00"},
                ],
            )
            db.executemany(
                "INSERT INTO word_log (at, action, before, after) VALUES (?, ?, ?, ?)",
                [
                    logged(f"{SECOND}.310000+00:00", "added", yes | {"said_at": f"{SECOND}.300000+00:00"}),
                    logged(f"{SECOND}.800000+00:00", "rejected", no | {"said_at": f"{SECOND}+00:00"}),
                    logged(
                        "2026-03-02T00:00:00+00:00",
                        "imported",
                        brought | {"said_at": "2024-01-01T00:00:00+00:00"},
                    ),
                ],
            )
    with Library.open(path) as library:
        spoken = [
            (word.label, word.verdict, word.said_at)
            for word in annotation_log.list_annotations(library.connection)
        ]
        assert spoken == [
            ("yoga", "rejected", "2024-01-01T00:00:00.000000+00:00"),
            ("wave", "added", f"{SECOND}.300000+00:00"),
            ("wave", "rejected", f"{SECOND}.800000+00:00"),
        ]
        assert not search(library.connection, "wave")
        changes = annotation_log.list_changes(library.connection)
        assert [change.after[0] for change in reversed(changes)] == [
            word
            for label in ("wave", "yoga")
            for word in annotation_log.list_annotations(library.connection)
            if word.label == label
        ]
        assert changes[0].at == "2026-03-02T00:00:00.000000+00:00"
        annotation_log.undo(library)
        annotation_log.undo(library)
        assert [moment.end_ms for moment in search(library.connection, "wave")] == [2000]


def test_a_step_that_fails_leaves_the_library_as_it_was(
    oldest: Path, with_a_second_step: dict[str, bool]
) -> None:
    with_a_second_step["fail"] = True
    with pytest.raises(LibraryError, match="disk I/O"):
        Library.open(oldest)
    with sqlite3.connect(oldest) as db:
        assert [r[1] for r in db.execute("PRAGMA table_info(labels)")] == ["id", "name", "threshold"]
    with_a_second_step["fail"] = False
    Library.open(oldest).close()


def test_too_little_room_for_the_backup_is_said_before_anything_is_touched(
    oldest: Path, with_a_second_step: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(database.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LibraryError, match="lacks room"):
        Library.open(oldest)
    assert not list(oldest.parent.glob("*.before*"))


def test_several_processes_may_create_the_library_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from vtag.engine.library.database import Library\n"
        "with Library.open(Path(sys.argv[1])) as library:\n"
        "    with library.transaction() as db:\n"
        "        db.execute('INSERT INTO labels (name) VALUES (?)', (sys.argv[2],))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "library.db")]
    started = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    errors = [process.communicate(timeout=180)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    with open_reader(tmp_path / "new" / "library.db") as reader:
        assert reader.execute("SELECT count(*) FROM labels").fetchone() == (4,)


def test_the_write_ahead_files_are_private_too_and_an_open_library_is_closed_to_others(
    tmp_path: Path,
) -> None:
    previous = os.umask(0)
    try:
        (tmp_path / "library.db").touch(mode=0o644)
        with Library.open(tmp_path / "library.db") as library:
            library.connection.execute("INSERT INTO labels (name) VALUES ('x')")
            modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    finally:
        os.umask(previous)
    assert "library.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_transaction_that_fails_leaves_nothing_and_one_inside_another_is_part_of_it(tmp_path: Path) -> None:
    with Library.open(tmp_path / "library.db") as library:
        with pytest.raises(RuntimeError), library.transaction() as db:
            with library.transaction():
                db.execute("INSERT INTO labels (name) VALUES ('x')")
            raise RuntimeError
        assert library.connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)


def test_a_library_that_is_being_written_is_read_all_the_same(oldest: Path) -> None:
    with Library.open(oldest) as library, library.transaction() as db:
        db.execute("INSERT INTO labels (name) VALUES ('x')")
        reader = open_reader(oldest)
        assert reader.execute("SELECT count(*) FROM labels").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM labels")
        reader.close()


def test_a_locked_library_is_said_in_one_line(oldest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.1)
    other = sqlite3.connect(oldest, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(LibraryError, match="in use by another program"),
        Library.open(oldest) as library,
        library.transaction(),
    ):
        pass
    other.close()


def test_a_folder_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "library.db").mkdir()
    for attempt in (Library.open, open_reader):
        with pytest.raises(LibraryError, match="is a folder"):
            attempt(tmp_path / "library.db")


def test_the_observations_are_no_library(oldest: Path) -> None:
    for attempt in (Library.open, open_reader):
        with pytest.raises(LibraryError, match="another program"):
            attempt(oldest.with_name("observations.db"))


def test_observations_that_are_broken_may_be_removed_and_the_library_is_read_without_them(
    oldest: Path,
) -> None:
    broken = oldest.with_name("observations.db")
    broken.write_bytes(b"noise" * 1000)
    with pytest.raises(LibraryError, match="remove it"):
        Library.open(oldest)
    open_reader(oldest).close()
    broken.unlink()
    Library.open(oldest).close()


def test_a_folder_that_cannot_be_made_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LibraryError, match="cannot be opened as a library"):
        Library.open(tmp_path / "file" / "library.db")


def test_a_library_in_a_folder_with_an_odd_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "100% #1 ? ünï" / "library.db"
    Library.open(path).close()
    open_reader(path).close()
