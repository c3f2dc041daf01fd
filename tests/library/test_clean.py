"""Cleaning away missing files, relocating folders, and forgetting models."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.library_factory import add_model, add_video

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_file, annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import clean, forget
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import files, heads
from vtag.engine.library.store.volumes import Volumes

EVERYTHING = 'archery OR "riding a bike" OR yoga'
Vtag = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tagged(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Three videos below each of two roots, `a` and `b`."""
    model_id = add_model(library)
    for i in range(6):
        add_video(library, tmp_path / "ab"[i % 2] / f"{i}.mp4", seed=i)
    files.add_roots(library, [os.fsencode(tmp_path / root) for root in "ab"])
    heads.set_model_threshold(library, model_id, 0.4)
    heads.use_model(library, model_id)
    list(derive.retag(library, model_id))
    return library


def names(library: LibraryWriter) -> set[str]:
    return {Path(os.fsdecode(m.path)).name for m in search(library.connection, EVERYTHING, limit=999)}


def counts(library: LibraryWriter) -> tuple[int, int, int]:
    tables = [
        (library.connection, "files"),
        (library.connection, "contents"),
        (library.observations, "observations"),
    ]
    return tuple(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for db, table in tables)


def test_a_missing_file_is_removed_and_its_annotations_stay(tagged: LibraryWriter, tmp_path: Path) -> None:
    annotation_log.add(tagged, files.register_file(tagged, os.fsencode(tmp_path / "a" / "0.mp4")), "grandma")
    for name in ("a/0.mp4", "b/1.mp4"):
        (tmp_path / name).unlink()
    plan = clean.plan_clean(tagged)
    assert {Path(path).name for _, path in plan.files} == {"0.mp4", "1.mp4"}
    assert (len(plan.contents), plan.annotations, plan.stale_observations, plan.absent_roots) == (2, 1, 0, ())
    clean.clean(tagged, plan)
    assert names(tagged) == {"2.mp4", "3.mp4", "4.mp4", "5.mp4"}
    assert counts(tagged) == (4, 5, 4)  # the annotated content stays
    ((annotation, path),) = annotation_file.orphaned_annotations(tagged.connection)
    assert annotation.label == "grandma" and path == str(tmp_path / "a" / "0.mp4")
    second_plan = clean.plan_clean(tagged)
    assert not (second_plan.files or second_plan.contents or second_plan.stale_observations)
    add_video(tagged, tmp_path / "b" / "back.mp4", seed=0)
    assert [m.label for m in search(tagged.connection, "grandma")] == ["grandma"]


@pytest.mark.parametrize("state", ["gone", "empty"])
def test_an_absent_root_keeps_its_files(tagged: LibraryWriter, tmp_path: Path, state: str) -> None:
    shutil.rmtree(tmp_path / "a")
    if state == "empty":
        (tmp_path / "a").mkdir()
    plan = clean.plan_clean(tagged)
    assert plan.files == () == plan.contents
    assert plan.absent_roots == ((str(tmp_path / "a"), 3),)
    clean.clean(tagged, plan)
    assert counts(tagged) == (6, 6, 6)


def test_the_old_files_of_a_renamed_root_are_removed(tagged: LibraryWriter, tmp_path: Path) -> None:
    (tmp_path / "a").rename(tmp_path / "c")
    for i in (0, 2, 4):
        add_video(tagged, tmp_path / "c" / f"{i}.mp4", seed=i, is_scanned=False)
    plan = clean.plan_clean(tagged)
    assert len(plan.files) == 3 and not plan.contents
    clean.clean(tagged, plan)
    assert counts(tagged) == (6, 6, 6)


def test_a_replaced_content_is_removed(tagged: LibraryWriter, tmp_path: Path) -> None:
    add_video(tagged, tmp_path / "a" / "0.mp4", seed=77)
    plan = clean.plan_clean(tagged)
    assert not plan.files and len(plan.contents) == 1
    clean.clean(tagged, plan)
    assert counts(tagged) == (6, 6, 6)


def test_forgetting_a_model_keeps_observations_and_annotations(tagged: LibraryWriter) -> None:
    list(derive.retag(tagged, add_model(tagged, seed=3, name="other")))
    first = search(tagged.connection, EVERYTHING, model="m")[0]
    annotation_log.confirm(tagged, [first.id])
    annotations = annotation_log.list_annotations(tagged.connection)
    assert forget.forget_model(tagged, heads.require_model(tagged, "m")) > 0
    remaining = search(tagged.connection, EVERYTHING, limit=999)
    assert {m.model for m in remaining} <= {"other", None}
    assert any((m.path, m.label) == (first.path, first.label) for m in remaining)
    assert annotation_log.list_annotations(tagged.connection) == annotations and counts(tagged) == (6, 6, 6)
    assert heads.library_model(tagged) is None
    assert clean.plan_clean(tagged).stale_observations == 0  # the other model shares the backbone
    forget.forget_model(tagged, heads.require_model(tagged, "other"))
    assert clean.plan_clean(tagged).stale_observations == 6


def test_a_disk_mounted_elsewhere_can_be_relocated(tagged: LibraryWriter, tmp_path: Path) -> None:
    names_before = names(tagged)
    (tmp_path / "a").rename(tmp_path / "new")
    assert {m.present for m in search(tagged.connection, EVERYTHING, limit=999)} == {True, False}
    assert clean.relocate(tagged, os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "new")) == (3, 3)
    moments = search(tagged.connection, EVERYTHING, limit=999)
    assert names(tagged) == names_before and all(m.present for m in moments)
    assert any(m.path.startswith(os.fsencode(tmp_path / "new")) for m in moments)
    with pytest.raises(LibraryError, match="nothing is known below"):
        clean.relocate(tagged, os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "new"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="not one of 3 files"):
        clean.relocate(tagged, os.fsencode(tmp_path / "b"), os.fsencode(tmp_path / "empty"))
    with pytest.raises(LibraryError, match="no folder"):
        clean.relocate(tagged, os.fsencode(tmp_path / "b"), os.fsencode(tmp_path / "none"))


def test_relocating_keeps_the_newer_row_at_the_new_path(tagged: LibraryWriter, tmp_path: Path) -> None:
    (tmp_path / "a").rename(tmp_path / "new")
    add_video(tagged, tmp_path / "new" / "0.mp4", seed=0, is_scanned=False)
    assert clean.relocate(tagged, os.fsencode(tmp_path / "a"), os.fsencode(tmp_path / "new")) == (3, 3)
    assert counts(tagged)[0] == 6


def test_a_volume_with_an_id_is_followed_to_its_new_mount_point(
    tagged: LibraryWriter, tmp_path: Path
) -> None:
    volume = Volumes().volume_of(os.fsencode(tmp_path / "a" / "0.mp4"))
    tagged.connection.execute("UPDATE volumes SET mount = x'2f6f6c64', display = '/old'")  # /old
    files.update_mount(tagged, volume)
    assert all(m.present for m in search(tagged.connection, EVERYTHING, limit=999))
    displays = {row[0] for row in tagged.connection.execute("SELECT display FROM files")}
    assert displays == {str(tmp_path / "ab"[i % 2] / f"{i}.mp4") for i in range(6)}


def test_the_commands_list_ask_and_report(vtag: Vtag, tmp_path: Path, vtag_home: Path) -> None:
    with LibraryWriter.open(vtag_home / "library.db") as library:
        model_id = add_model(library)
        for i in range(3):
            add_video(library, tmp_path / "a" / f"{i}.mp4", seed=i)
        files.add_roots(library, [os.fsencode(tmp_path / "a")])
        heads.use_model(library, model_id)
        list(derive.retag(library, model_id))
    (tmp_path / "a" / "0.mp4").unlink()
    refused = vtag("clean")
    assert (
        refused.returncode == 1
        and f"gone: {tmp_path}/a/0.mp4" in refused.stderr
        and "say --yes" in refused.stderr
    )
    removed = "removed the data of 1 deleted file and what was found in 1 video without any file"
    assert vtag("clean", "--yes").stderr.splitlines()[-1] == removed
    assert vtag("clean").stderr == "there is nothing to remove\n"
    (tmp_path / "a").rename(tmp_path / "b")
    remaining = vtag("clean", "--yes").stderr
    assert f"{tmp_path}/a is gone as a whole, with 2 files: left alone" in remaining
    assert "2 files moved to" in vtag("relocate", tmp_path / "a", tmp_path / "b").stderr
    changed = vtag("labels", "set", "yoga", "--threshold", "0.99")
    assert changed.returncode == 0 and "yoga is found from 0.99 on" in changed.stderr
    listed = {row["label"]: row for row in json.loads(vtag("labels", "--json").stdout)}
    assert listed["yoga"]["threshold"] == 0.99 and listed["yoga"]["groups"] == ["gym"]
    assert "gym  (from 0.99)" in vtag("labels", "yoga").stdout
    assert "as its model says" in vtag("labels", "reset", "yoga").stderr
    assert "near to it: yoga" in vtag("labels", "set", "yogi", "--threshold", "0.5").stderr
    assert vtag("forget", "--model", "m", "--yes").stderr.startswith("forgot m and its ")
    assert vtag("forget").returncode == 2


def test_what_came_back_after_the_plan_stays(tagged: LibraryWriter, tmp_path: Path) -> None:
    """A person reads the plan for minutes, and a scan finds the files again."""
    (tmp_path / "a" / "0.mp4").rename(tmp_path / "away.mp4")
    (tmp_path / "a" / "2.mp4").unlink()
    plan = clean.plan_clean(tagged)
    assert (len(plan.files), len(plan.contents)) == (2, 2)
    (tmp_path / "away.mp4").rename(tmp_path / "a" / "0.mp4")
    clean.clean(tagged, plan)
    assert counts(tagged) == (5, 5, 5)


def test_a_video_that_a_scan_stores_meanwhile_keeps_its_features(
    tagged: LibraryWriter, tmp_path: Path
) -> None:
    """The scan stores it between two looks of `clean`."""
    with LibraryWriter.open(tagged.path) as scan:

        def store(statement: str) -> None:
            if statement.endswith("FROM models"):  # `clean` has read one of the two tables
                tagged.connection.set_trace_callback(None)
                add_video(scan, tmp_path / "b" / "new.mp4", seed=99)

        tagged.connection.set_trace_callback(store)
        plan = clean.plan_clean(tagged)
    assert (plan.stale_observations, counts(tagged)) == (0, (7, 7, 7))
