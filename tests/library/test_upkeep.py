"""`vtag library info|check|backup|restore|vacuum`: the upkeep of a library as a whole."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import MADE_BY, SAMPLING, fill_library

from vtag.engine.errors import LibraryError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import SCHEMA, LibraryWriter, observations_path
from vtag.engine.library.maintenance.backup import back_up, list_backups, restore, vacuum
from vtag.engine.library.maintenance.check import check
from vtag.engine.library.maintenance.info import read_info
from vtag.engine.library.store import observations, runs

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A library of three videos with moments and two annotations, closed."""
    path = tmp_path / "home" / "library.db"
    with LibraryWriter.open(path) as library:
        fill_library(library, tmp_path / "videos", 3)
        annotation_log.add(library, 1, "juggling", 0, 2000)
        annotation_log.record_verdict(library, 2, "yoga", "rejected")
    return path


def dump(path: Path) -> list[str]:
    """Every row of a database, as SQL."""
    with sqlite3.connect(path) as db:
        return list(db.iterdump())


def wrong(path: Path) -> list[str]:
    return [finding.subject for finding in check(path) if finding.state == "wrong"]


def test_a_sound_library_has_no_finding_and_its_numbers_are_right(filled: Path) -> None:
    before = dump(filled)
    assert {finding.state for finding in check(filled)} == {"ok"}
    assert dump(filled) == before
    info = read_info(filled)
    with sqlite3.connect(filled) as db:
        (moments,) = db.execute("SELECT count(*) FROM sure_segments").fetchone()
    assert (info.videos, info.video_ms, info.files, info.windows) == (3, 24_000, 3, 24)
    assert (info.moments, info.annotations, info.changes) == (moments, 2, 2)
    assert [model.videos for model in info.models] == [3]


@pytest.mark.parametrize(
    ("statement", "subject"),
    [
        ("UPDATE segments SET verdict = 'confirmed' WHERE model_id IS NOT NULL", "annotations"),
        ("UPDATE words SET said_at = 'yesterday'", "annotations"),
        ("DELETE FROM segments WHERE model_id IS NULL", "annotations"),
        ("UPDATE segments SET end_ms = start_ms", "moments"),
        ("UPDATE derivations SET windows = windows + 1", "moments"),
        ("UPDATE models SET weight = x'00'", "models"),
        ("UPDATE word_log SET after = '[{}]'", "log"),
        ("UPDATE labels SET name = name || ' again'", "labels"),
        ("PRAGMA foreign_keys = OFF; DELETE FROM contents WHERE id = 3", "tables"),
    ],
)
def test_each_inconsistency_is_found(filled: Path, statement: str, subject: str) -> None:
    with sqlite3.connect(filled) as db:
        db.executescript(statement)
    assert subject in wrong(filled)


def test_damage_of_either_file_is_found(filled: Path) -> None:
    features = observations_path(filled)
    for path, table, subject in ((features, "observations", "features"), (filled, "segments", "tables")):
        with sqlite3.connect(path) as db:
            (page,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[(page - 1) * 4096 : page * 4096] = os.urandom(4096)
        path.write_bytes(damaged)
        assert subject in wrong(filled)
        path.write_bytes(whole)
    with sqlite3.connect(features) as db:
        db.execute("UPDATE observations SET features = substr(features, 3)")
    assert wrong(filled) == ["features"]


def test_a_backup_is_a_library_and_restoring_it_brings_everything_back(filled: Path, tmp_path: Path) -> None:
    before = dump(filled)
    made = back_up(filled)
    copied = dump(made.path)
    assert copied == before and dump(observations_path(made.path)) == dump(observations_path(filled))
    with LibraryWriter.open(filled) as library:
        annotation_log.add(library, 3, "later", 0, 1000)
        key = library.connection.execute("SELECT key FROM contents WHERE id = 3").fetchone()[0]
        later = np.array([[90_000, 91_000]])
        observations.add(library, key, "backbone", SAMPLING, later, np.ones((1, 1, 6), np.float32), MADE_BY)
        # what is restored is seen by those who have the library open
        former = restore(filled, made.path)
        assert len(annotation_log.list_annotations(library.connection)) == 2
        assert 90_000 in observations.window_starts(library, key, "backbone", SAMPLING)
    assert dump(filled) == before
    assert former is not None and any("later" in line for line in dump(former))
    assert [b.path for b in list_backups(filled)] == [former, made.path]
    restore(filled, former)
    assert any("later" in line for line in dump(filled))


def test_a_damaged_library_is_put_aside_and_a_damaged_backup_refused(filled: Path) -> None:
    made = back_up(filled)
    content = dump(filled)
    filled.write_bytes(b"no database at all, but long enough to look at" * 100)
    with pytest.raises(LibraryError, match="vtag library restore"):
        LibraryWriter.open(filled)
    with pytest.raises(LibraryError):
        back_up(filled)
    former = restore(filled, made.path)
    assert dump(filled) == content
    assert former is not None and former.read_bytes().startswith(b"no database")
    with pytest.raises(LibraryError, match="is damaged, or is not a library"):
        restore(filled, former)
    assert dump(filled) == content


def test_a_library_of_an_earlier_vtag_is_restored_as_it_was(filled: Path) -> None:
    """The backup before an update is what one goes back to, together with the earlier vtag."""
    with sqlite3.connect(filled) as db:
        db.execute("DELETE FROM _sqlite_migrations WHERE name = ?", (SCHEMA.steps[-1],))
    step = SCHEMA.steps[-1].split("_")[0]
    made = filled.with_name(f"library.db.before-{step}")
    with sqlite3.connect(filled) as source, sqlite3.connect(made) as target:
        source.backup(target)
    earlier = dump(filled)
    with sqlite3.connect(filled) as db:
        db.execute("DELETE FROM words")
    restore(filled, made)
    assert dump(filled) == earlier
    assert [finding.subject for finding in check(filled) if finding.state == "note"] == ["schema"]


def test_nothing_is_restored_under_a_running_scan(filled: Path) -> None:
    made = back_up(filled)
    with LibraryWriter.open(filled) as library:
        run_id = runs.start(library, "scan", "videos")
        with pytest.raises(LibraryError, match="a scan uses the library"):
            restore(filled, made.path)
        runs.finish(library, run_id, "done")
    restore(filled, made.path)


def test_a_file_is_replaced_only_if_it_is_a_library_and_that_is_said(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere.db"
    back_up(filled, target)
    with pytest.raises(LibraryError, match="exists already"):
        back_up(filled, target)
    back_up(filled, target, with_features=False, replace=True)
    assert not observations_path(target).exists()
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    for file in (other, filled):
        with pytest.raises(LibraryError):
            back_up(filled, file, replace=True)
    assert other.read_text() == "mine"


def test_vacuum_makes_the_files_smaller_and_keeps_every_row(filled: Path) -> None:
    with LibraryWriter.open(filled) as library:
        library.connection.execute("CREATE TABLE ballast (data BLOB)")
        library.connection.execute("INSERT INTO ballast VALUES (zeroblob(1000000))")
        library.connection.execute("DROP TABLE ballast")
        ids = library.connection.execute("SELECT id, start_ms FROM segments").fetchall()
        assert read_info(filled).unused_bytes > 900_000
        first, _ = vacuum(library)
        assert first.after_bytes < first.before_bytes - 900_000
        assert library.connection.execute("SELECT id, start_ms FROM segments").fetchall() == ids
    assert {finding.state for finding in check(filled)} == {"ok"}


def test_two_libraries_in_one_folder_keep_their_features_apart(tmp_path: Path) -> None:
    first, second = tmp_path / "library.db", tmp_path / "shard-2.db"
    for path in (first, second):
        with LibraryWriter.open(path) as library:
            fill_library(library, tmp_path / path.stem, 1)
    assert observations_path(first) != observations_path(second)
    assert [read_info(path).windows for path in (first, second)] == [8, 8]


def test_a_library_of_an_earlier_vtag_keeps_the_features_that_it_shared(tmp_path: Path) -> None:
    """Up to 0.1 every library of a folder had its features in observations.db."""
    path = tmp_path / "mine.db"
    with LibraryWriter.open(path) as library:
        fill_library(library, tmp_path / "videos", 1)
    observations_path(path).rename(tmp_path / "observations.db")
    assert read_info(path).windows == 8


def test_the_commands_work_from_end_to_end(vtag: Run, filled: Path) -> None:
    db = ("--db", filled)
    assert "annotations  2, 2 changes" in vtag("library", "info", *db).stdout
    made = Path(vtag("library", "backup", *db).stdout.strip())
    assert made.parent == filled.parent
    with sqlite3.connect(filled) as connection:
        connection.execute("UPDATE segments SET end_ms = start_ms")
    checked = vtag("library", "check", *db)
    assert checked.returncode == 1 and "-> vtag retag" in checked.stdout
    asked = vtag("library", "restore", *db)
    assert asked.returncode == 1 and "say --yes" in asked.stderr and str(made) in asked.stderr
    assert vtag("library", "restore", "--yes", *db).returncode == 0
    sound = vtag("library", "check", "--json", *db)
    assert sound.returncode == 0 and {finding["state"] for finding in json.loads(sound.stdout)} == {"ok"}
