"""Opening the library: migrations, backups, permissions, several processes, and files that are no library."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from sqlite_utils import Database, Migrations

from vtag.engine.errors import LibraryError
from vtag.engine.library import database, database_copy, migrations
from vtag.engine.library.annotations import annotation_log, undo_redo
from vtag.engine.library.database import LibraryWriter, Schema, open_reader
from vtag.engine.library.journal_mode import set_journal_mode
from vtag.engine.library.search.moments import search

TABLES = {
    "volumes", "roots", "contents", "files", "labels", "models", "words", "word_log", "derivations", "segments",
    "runs", "settings",
}  # fmt: skip


@pytest.fixture
def with_another_step(monkeypatch: pytest.MonkeyPatch) -> dict[str, bool]:
    """A newer vtag with one more migration step, which fails if `settings["fail"]` is set."""
    settings = {"fail": False}
    future = _first_steps(len(database.SCHEMA.steps))

    @future()
    def m999_add_colour(db: Database) -> None:
        db.execute("ALTER TABLE labels ADD COLUMN colour TEXT")
        if settings["fail"]:
            raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(migrations, "library_migrations", future)
    monkeypatch.setattr(database, "SCHEMA", Schema("vtag", (*database.SCHEMA.steps, "m999_add_colour")))
    return settings


def _first_steps(count: int) -> Migrations:
    """The migrations of an older vtag: the first `count` steps."""
    older = Migrations("vtag")
    for name in database.SCHEMA.steps[:count]:
        older()(getattr(migrations, name))
    return older


@pytest.fixture
def first_schema(tmp_path: Path) -> Path:
    """A library with a row, which is older than `with_another_step`."""
    path = tmp_path / "library.db"
    with LibraryWriter.open(path) as library:
        library.connection.execute("INSERT INTO labels (name) VALUES ('archery')")
    return path


def test_a_new_library_has_its_tables_and_foreign_keys_hold(tmp_path: Path) -> None:
    with LibraryWriter.open(tmp_path / "library.db") as library:
        names = {
            r[0] for r in library.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        }
        assert names >= TABLES
        assert library.connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        with pytest.raises(sqlite3.IntegrityError):
            library.connection.execute(
                "INSERT INTO segments (content_id, label_id, start_ms, end_ms, score) VALUES (1, 1, 0, 1, 1)"
            )


def test_opening_an_up_to_date_library_does_not_load_sqlite_utils(first_schema: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from vtag.engine.library.database import LibraryWriter\n"
        "with LibraryWriter.open(Path(sys.argv[1])): pass\n"
        "assert 'sqlite_utils' not in sys.modules and 'numpy' not in sys.modules"
    )
    run = subprocess.run([sys.executable, "-c", code, str(first_schema)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_an_older_library_is_backed_up_and_migrated(
    first_schema: Path, with_another_step: dict[str, bool]
) -> None:
    with LibraryWriter.open(first_schema) as library:
        assert library.connection.execute("SELECT name, colour FROM labels").fetchall() == [("archery", None)]
        fits = library.connection.execute("SELECT rowid FROM labels_fts WHERE labels_fts MATCH 'archery'")
        assert len(fits.fetchall()) == 1
    open_reader(first_schema).close()
    backup = first_schema.with_name("library.db.before-m999")
    assert [f.name for f in first_schema.parent.glob("*.before*")] == [backup.name]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    with sqlite3.connect(backup) as db:
        assert db.execute("SELECT * FROM labels").fetchall() == [(1, "archery", None)]


def test_a_reader_migrates_an_older_library(first_schema: Path, with_another_step: dict[str, bool]) -> None:
    open_reader(first_schema).execute("SELECT colour FROM labels").fetchall()
    assert first_schema.with_name("library.db.before-m999").is_file()


def test_rows_of_the_first_schema_survive_all_migrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.db"
    with monkeypatch.context() as context:
        context.setattr(migrations, "library_migrations", _first_steps(1))
        context.setattr(database, "SCHEMA", Schema("vtag", database.SCHEMA.steps[:1]))
        with LibraryWriter.open(path) as library:
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
            rows = set(library.connection.iterdump())
    with LibraryWriter.open(path) as library:
        after = [line for line in library.connection.iterdump() if line.startswith('INSERT INTO "segments"')]
        before = [line.rstrip(");") for line in rows if line.startswith('INSERT INTO "segments"')]
        assert before and all(any(new.startswith(old) for new in after) for old in before)
        assert library.connection.execute("SELECT label, verdict FROM words").fetchall() == [
            ("archery", "added")
        ]
        assert [(m.path, m.end_ms) for m in search(library.connection, "archery")] == [(b"/a.mp4", 9)]


SECOND = "2026-03-01T12:00:05"


def log_row(changed_at: str, action: str, annotation: dict[str, object]) -> tuple[str, str, str, str]:
    return changed_at, action, "[]", json.dumps([annotation])


def test_annotations_dated_in_whole_seconds_take_the_time_of_their_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older page dated a No with the whole second; the log has the exact time."""
    path = tmp_path / "library.db"
    yes = {"content": "9-a", "label": "wave", "start_ms": 0, "end_ms": 2000, "verdict": "added"}
    no = {**yes, "start_ms": 500, "verdict": "rejected"}
    imported = {**yes, "label": "yoga", "verdict": "rejected"}
    with monkeypatch.context() as context:
        context.setattr(migrations, "library_migrations", _first_steps(4))
        context.setattr(database, "SCHEMA", Schema("vtag", database.SCHEMA.steps[:4]))
        with LibraryWriter.open(path) as library:
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
                    imported | {"said_at": "2024-01-01T00:00:00+00:00"},
                ],
            )
            db.executemany(
                "INSERT INTO word_log (at, action, before, after) VALUES (?, ?, ?, ?)",
                [
                    log_row(f"{SECOND}.310000+00:00", "added", yes | {"said_at": f"{SECOND}.300000+00:00"}),
                    log_row(f"{SECOND}.800000+00:00", "rejected", no | {"said_at": f"{SECOND}+00:00"}),
                    log_row(
                        "2026-03-02T00:00:00+00:00",
                        "imported",
                        imported | {"said_at": "2024-01-01T00:00:00+00:00"},
                    ),
                ],
            )
    with LibraryWriter.open(path) as library:
        annotations = [
            (annotation.label, annotation.verdict, annotation.said_at)
            for annotation in annotation_log.list_annotations(library.connection)
        ]
        assert annotations == [
            ("yoga", "rejected", "2024-01-01T00:00:00.000000+00:00"),
            ("wave", "added", f"{SECOND}.300000+00:00"),
            ("wave", "rejected", f"{SECOND}.800000+00:00"),
        ]
        assert not search(library.connection, "wave")
        changes = annotation_log.list_changes(library.connection)
        assert [change.after[0] for change in reversed(changes)] == [
            annotation
            for label in ("wave", "yoga")
            for annotation in annotation_log.list_annotations(library.connection)
            if annotation.label == label
        ]
        assert changes[0].at == "2026-03-02T00:00:00.000000+00:00"
        undo_redo.undo(library)
        undo_redo.undo(library)
        assert [moment.end_ms for moment in search(library.connection, "wave")] == [2000]


COMPOSED, DECOMPOSED = "Caf\u00e9", "Cafe\u0301"
WHOLE = {"content": "9-a", "start_ms": 0, "end_ms": 2000, "verdict": "added"}


def write_library_of_two_forms(
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    annotations: list[dict[str, object]],
    log: list[tuple[str, str, str | None, str | None]],
) -> None:
    """A library before m006 with one video and the label in both forms; `annotations` have moments."""
    with monkeypatch.context() as context:
        context.setattr(migrations, "library_migrations", _first_steps(5))
        context.setattr(database, "SCHEMA", Schema("vtag", database.SCHEMA.steps[:5]))
        with LibraryWriter.open(path) as library:
            db = library.connection
            db.execute("INSERT INTO volumes VALUES (1, 'v', x'2f', '/')")
            db.execute(
                "INSERT INTO contents (id, key, size_bytes, duration_ms, added_at) VALUES (1, '9-a', 9, 8000, '')"
            )
            db.execute("INSERT INTO files VALUES (1, 1, x'612e6d7034', 'a.mp4', 1, 0, 0, 1, 'present', '')")
            db.execute(
                "INSERT INTO labels VALUES (1, ?, NULL), (2, 'yoga', 0.3), (3, ?, 0.7)",
                (DECOMPOSED, COMPOSED),
            )
            db.executemany(
                "INSERT INTO words (content_id, label, start_ms, end_ms, verdict, said_at) "
                "VALUES (1, :label, :start_ms, :end_ms, :verdict, :said_at)",
                annotations,
            )
            db.execute(
                "INSERT INTO segments (content_id, label_id, word_id, start_ms, end_ms, score, verdict) "
                "SELECT 1, l.id, w.id, w.start_ms, w.end_ms, 1, 'confirmed' "
                "FROM words w JOIN labels l ON l.name = w.label"
            )
            db.executemany("INSERT INTO word_log (at, action, before, after) VALUES (?, ?, ?, ?)", log)


def ends_of_label(library: LibraryWriter) -> list[int]:
    return sorted(m.end_ms for m in search(library.connection, f"label:{DECOMPOSED}"))


def test_labels_that_differ_only_in_their_form_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "library.db"
    later = {"content": "9-a", "start_ms": 4000, "end_ms": 5000, "verdict": "added"}
    annotations = [
        WHOLE | {"label": DECOMPOSED, "said_at": f"{SECOND}.100000+00:00"},
        WHOLE | {"label": COMPOSED, "said_at": f"{SECOND}.200000+00:00"},
        later | {"label": DECOMPOSED, "said_at": f"{SECOND}.300000+00:00"},
    ]
    log = [log_row(str(a["said_at"]), "added", a) for a in annotations]
    write_library_of_two_forms(path, monkeypatch, annotations, log)
    with LibraryWriter.open(path) as library:
        rows = library.connection.execute("SELECT name, threshold FROM labels ORDER BY id").fetchall()
        assert rows == [(COMPOSED, 0.7), ("yoga", 0.3)]
        assert {a.label for a in annotation_log.list_annotations(library.connection)} == {COMPOSED}
        assert ends_of_label(library) == [2000, 5000]
        assert sorted(m.end_ms for m in search(library.connection, "cafe")) == [2000, 5000]
        undo_redo.undo(library)
        assert ends_of_label(library) == [2000]
        undo_redo.undo(library)
        assert ends_of_label(library) == [2000]  # the first change added it, in the other form
        undo_redo.undo(library)
        assert ends_of_label(library) == []


def test_changes_of_two_forms_are_undone_to_one_annotation_of_a_range(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added in one form, rejected in the other, that taken back by the whole label, and added once more."""
    path = tmp_path / "library.db"
    times = [f"{SECOND}.{number}00000+00:00" for number in range(1, 5)]
    first = WHOLE | {"label": DECOMPOSED, "said_at": times[0]}
    rejected = WHOLE | {"label": COMPOSED, "said_at": times[1], "verdict": "rejected"}
    last = WHOLE | {"label": COMPOSED, "said_at": times[3]}
    log = [
        log_row(times[0], "added", first),
        log_row(times[1], "rejected", rejected),
        (times[2], "forgotten", json.dumps([rejected]), "[]"),
        log_row(times[3], "added", last),
    ]
    write_library_of_two_forms(path, monkeypatch, [first, last], log)
    with LibraryWriter.open(path) as library:
        states = [ends_of_label(library)]
        for _ in log:
            undo_redo.undo(library)
            states.append(ends_of_label(library))
            assert len(annotation_log.list_annotations(library.connection)) <= 1
    assert states == [[2000], [2000], [], [2000], []]


def test_a_failing_step_leaves_the_library_unchanged(
    first_schema: Path, with_another_step: dict[str, bool]
) -> None:
    with_another_step["fail"] = True
    with pytest.raises(LibraryError, match="disk I/O"):
        LibraryWriter.open(first_schema)
    with sqlite3.connect(first_schema) as db:
        assert [r[1] for r in db.execute("PRAGMA table_info(labels)")] == ["id", "name", "threshold"]
    with_another_step["fail"] = False
    LibraryWriter.open(first_schema).close()


def test_a_lack_of_disk_space_for_the_backup_is_an_error_before_any_change(
    first_schema: Path, with_another_step: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(database_copy.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(LibraryError, match="lacks room"):
        LibraryWriter.open(first_schema)
    assert not list(first_schema.parent.glob("*.before*"))


def test_several_processes_may_create_the_library_at_once(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from vtag.engine.library.database import LibraryWriter\n"
        "with LibraryWriter.open(Path(sys.argv[1])) as library:\n"
        "    with library.transaction() as db:\n"
        "        db.execute('INSERT INTO labels (name) VALUES (?)', (sys.argv[2],))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "new" / "library.db")]
    started = [subprocess.Popen([*command, str(i)], stderr=subprocess.PIPE, text=True) for i in range(4)]
    errors = [process.communicate(timeout=180)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 4, errors
    with open_reader(tmp_path / "new" / "library.db") as reader:
        assert reader.execute("SELECT count(*) FROM labels").fetchone() == (4,)


def test_two_may_give_a_new_library_its_write_ahead_log_at_once(tmp_path: Path) -> None:
    """SQLite refuses one of them at once; it has to wait for the other."""
    file = tmp_path / "library.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    connection = sqlite3.connect(file, isolation_level=None, timeout=30)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        set_journal_mode(connection, tmp_path, wait_s=0)
    threading.Timer(0.2, other.commit).start()
    set_journal_mode(connection, tmp_path, wait_s=30)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    other.close()


def test_all_files_of_an_open_library_are_private(
    tmp_path: Path,
) -> None:
    previous = os.umask(0)
    try:
        (tmp_path / "library.db").touch(mode=0o644)
        with LibraryWriter.open(tmp_path / "library.db") as library:
            library.connection.execute("INSERT INTO labels (name) VALUES ('x')")
            modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in tmp_path.iterdir()}
    finally:
        os.umask(previous)
    assert "library.db-wal" in modes
    assert set(modes.values()) == {0o600}


def test_a_nested_transaction_is_rolled_back_with_the_outer_one(tmp_path: Path) -> None:
    with LibraryWriter.open(tmp_path / "library.db") as library:
        with pytest.raises(RuntimeError), library.transaction() as db:
            with library.transaction():
                db.execute("INSERT INTO labels (name) VALUES ('x')")
            raise RuntimeError
        assert library.connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)


def test_a_library_can_be_read_during_a_write(first_schema: Path) -> None:
    with LibraryWriter.open(first_schema) as library, library.transaction() as db:
        db.execute("INSERT INTO labels (name) VALUES ('x')")
        reader = open_reader(first_schema)
        assert reader.execute("SELECT count(*) FROM labels").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DELETE FROM labels")
        reader.close()


def test_a_locked_library_is_an_error(first_schema: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_BUSY_S", 0.1)
    writer = sqlite3.connect(first_schema, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with (
        pytest.raises(LibraryError, match="in use by another program"),
        LibraryWriter.open(first_schema) as library,
        library.transaction(),
    ):
        pass
    writer.close()


def test_a_folder_is_no_library(tmp_path: Path) -> None:
    (tmp_path / "library.db").mkdir()
    for attempt in (LibraryWriter.open, open_reader):
        with pytest.raises(LibraryError, match="is a folder"):
            attempt(tmp_path / "library.db")


def test_the_observations_are_no_library(first_schema: Path) -> None:
    for attempt in (LibraryWriter.open, open_reader):
        with pytest.raises(LibraryError, match="another program"):
            attempt(first_schema.with_name("observations.db"))


def test_broken_observations_may_be_removed_and_do_not_block_readers(
    first_schema: Path,
) -> None:
    broken = first_schema.with_name("observations.db")
    broken.write_bytes(b"noise" * 1000)
    with pytest.raises(LibraryError, match="remove it"):
        LibraryWriter.open(first_schema)
    open_reader(first_schema).close()
    broken.unlink()
    LibraryWriter.open(first_schema).close()


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LibraryError, match="cannot be opened as a library"):
        LibraryWriter.open(tmp_path / "file" / "library.db")


def test_a_library_in_a_folder_with_an_odd_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / "100% #1 ? ünï" / "library.db"
    LibraryWriter.open(path).close()
    open_reader(path).close()


def test_removing_a_row_reads_no_table_that_refers_to_it(library: LibraryWriter) -> None:
    """A foreign key without an index reads all of its table for each row that goes: minutes for an Undo of many."""
    rarely_removed = {"volumes", "labels", "models"}  # few rows each
    db = library.connection
    tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    keys = [(table, *row[2:4]) for table in tables for row in db.execute(f"PRAGMA foreign_key_list({table})")]
    assert len(keys) > 5
    for table, parent, column in keys:
        (plan,) = db.execute(f"EXPLAIN QUERY PLAN SELECT 1 FROM {table} WHERE {column} = ?", (1,)).fetchall()
        assert plan[3].startswith("SEARCH") or parent in rarely_removed, (table, column, plan[3])
