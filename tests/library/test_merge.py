"""`vtag library merge`: libraries that were filled and corrected apart become one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.library_factory import LABELS, MADE_BY, SAMPLING, add_model, add_video, fill_library
from helpers.library_rows import facts
from helpers.small_model import make_model
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_log, merging, undo_redo
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.check import check
from vtag.engine.library.merge.histories import AnnotationHistory, merge_histories
from vtag.engine.library.merge.merge import MERGED_TABLES, OWN_TABLES, merge
from vtag.engine.library.store import coverage, heads, observations
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.engine.scan.shard import Shard, shard_library
from vtag.engine.swin.config import FINETUNED_PREFIX

Run = Callable[..., subprocess.CompletedProcess[str]]


def dump(library: LibraryWriter) -> list[str]:
    return [*library.connection.iterdump(), *library.observations.iterdump()]


@pytest.fixture
def libraries(tmp_path: Path) -> Iterator[tuple[LibraryWriter, LibraryWriter]]:
    with (
        LibraryWriter.open(tmp_path / "a" / "library.db") as a,
        LibraryWriter.open(tmp_path / "b" / "library.db") as b,
    ):
        yield a, b


def test_every_table_is_merged_or_meant_to_stay(library: LibraryWriter) -> None:
    """Who adds a table says what a merge does with it."""
    rows = library.connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    names = {name for (name,) in rows if not name.startswith(("sqlite_", "_sqlite", "labels_fts"))}
    assert names == MERGED_TABLES | OWN_TABLES


def test_two_halves_equal_the_whole(libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path) -> None:
    with LibraryWriter.open(tmp_path / "whole.db") as whole:
        fill_library(whole, tmp_path / "v", 4)
        for library, seeds in zip(libraries, ((0, 1, 2), (1, 2, 3)), strict=True):  # they overlap
            model_id = add_model(library)
            for seed in seeds:
                add_video(library, tmp_path / "v" / f"{seed}.mp4", seed=seed)
            heads.set_model_threshold(library, model_id, 0.4)
            list(derive.retag(library, model_id))
        a, b = libraries
        report = merge(a, b.path)
        assert (report.videos, report.windows, report.conflicts) == (1, 8, [])
        merged, expected = facts(a), facts(whole)
    for name, rows in expected.items():
        # the test writes the files three times, so their dates differ
        dated = name == "files"
        assert [r[:3] + r[4:] if dated else r for r in merged[name]] == [
            r[:3] + r[4:] if dated else r for r in rows
        ], name
    assert {finding.state for finding in check(a.path)} == {"ok"}


def test_merging_twice_changes_nothing_and_leaves_the_other_alone(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    for number, library in enumerate(libraries):
        fill_library(library, tmp_path / "v", 2 + number)
        annotation_log.add(library, 1, f"said by {number}", 0, 1000)
        heads.use_model(library, 1)
    other = dump(b)
    merge(a, b.path)
    state = dump(a)
    report = merge(a, b.path)
    assert (report.videos, report.windows, report.annotations, report.models) == (0, 0, 0, 0)
    assert dump(a) == state and dump(b) == other
    with pytest.raises(LibraryError, match="name only the others"):
        merge(a, a.path)


def test_what_one_side_lacks_comes_from_the_other(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    """Models, thresholds, the library's model, files of unknown contents, errors that the other did not have."""
    a, b = libraries
    fill_library(b, tmp_path / "v", 1)
    heads.use_model(b, 1)
    b.connection.execute("UPDATE labels SET threshold = 0.7 WHERE name = 'yoga'")
    add_video(a, tmp_path / "v" / "0.mp4", seed=0, is_scanned=False)
    a.connection.execute(
        "UPDATE contents SET duration_ms = NULL, error = 'no decoder here', error_at = 'then'"
    )
    merge(a, b.path)
    assert heads.library_model(a) == 1
    assert a.connection.execute("SELECT threshold FROM labels WHERE name = 'yoga'").fetchall() == [(0.7,)]
    assert a.connection.execute("SELECT duration_ms, error, error_at FROM contents").fetchall() == [
        (8000, None, None)
    ]
    b.connection.execute("UPDATE labels SET threshold = 0.9 WHERE name = 'yoga'")
    (conflict,) = merge(a, b.path).conflicts
    assert (conflict.own, conflict.other, conflict.kept) == ("0.7", "0.9", "0.7")


def test_a_taught_head_finds_its_tag_in_all_videos(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    fill_library(a, tmp_path / "a", 2)
    taught = {}
    for library, seed, date in ((a, 5, "2024"), (b, 6, "2025")):
        taught[seed] = add_model(library, seed=seed, name="mine")
        spec = json.dumps({"labels": list(LABELS), "source": f"{FINETUNED_PREFIX}m"})
        library.connection.execute(
            "UPDATE models SET spec = ?, added_at = ? WHERE id = ?", (spec, date, taught[seed])
        )
    add_video(b, tmp_path / "b" / "9.mp4", seed=9)
    list(derive.retag(b, taught[6]))
    merge(a, b.path)
    rows = a.connection.execute(
        "SELECT m.head_hash, count(*) FROM derivations d JOIN models m ON m.id = d.model_id GROUP BY m.id"
    ).fetchall()
    assert dict(rows) == {"head0": 2, "head6": 3}  # the earlier version of the same model is gone
    state = dump(a)
    merge(a, b.path)
    assert dump(a) == state
    merge(b, a.path)  # and the other way round nothing older comes back
    assert facts(b)["models"] == facts(a)["models"]


def test_of_a_model_that_is_being_taught_again_the_later_version_is_merged(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    """Until all moments are derived again, a library has both versions, and uses the earlier."""
    a, b = libraries
    fill_library(b, tmp_path / "v", 1)
    for seed in (5, 6):
        model_id = add_model(b, seed=seed, name="mine")
        spec = json.dumps({"labels": list(LABELS), "source": f"{FINETUNED_PREFIX}m"})
        b.connection.execute(
            "UPDATE models SET spec = ?, added_at = ? WHERE id = ?", (spec, f"202{seed}", model_id)
        )
        list(derive.retag(b, model_id))
    heads.use_model(b, model_id - 1)
    merge(a, b.path)
    assert [row[3] for row in facts(a)["models"]] == ["head0", "head6"]
    assert {row[1] for row in facts(a)["derivations"]} == {"head0", "head6"}
    used = heads.library_model(a)
    assert used is not None and heads.load_head(a, used).backbone_hash == "backbone"
    assert a.connection.execute("SELECT head_hash FROM models WHERE id = ?", (used,)).fetchone() == ("head6",)


@pytest.mark.parametrize("own", [None, "first", "last", "whole"])
@pytest.mark.parametrize("other", ["first", "last", "whole"])
def test_videos_that_are_scanned_in_part_are_joined(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path, own: str | None, other: str
) -> None:
    spans = np.array([(i * 1000, i * 1000 + 1000) for i in range(8)])
    parts = {"first": slice(0, 4), "last": slice(4, 6), "whole": slice(0, 8)}
    for library, part in zip(libraries, (own, other), strict=True):
        add_model(library)
        if part is None:
            continue
        content_id = add_video(library, tmp_path / "v.mp4", is_scanned=False)
        (key,) = library.connection.execute("SELECT key FROM contents").fetchone()
        windows = spans[parts[part]]
        observations.add(
            library, key, "backbone", SAMPLING, windows, np.ones((len(windows), 1, 6), np.float32), MADE_BY
        )
        if part != "whole":
            coverage.mark_partial(library, content_id, "backbone", SAMPLING, len(windows) * 1000, 8000)
    a, b = libraries
    merge(a, b.path)
    (count,) = a.observations.execute("SELECT window_count FROM observations").fetchone()
    row = a.connection.execute("SELECT seen_ms FROM unfinished").fetchone()
    expected = len({i for part in (own, other) if part for i in range(8)[parts[part]]})
    assert count == expected
    assert row == (None if "whole" in (own, other) else (1000 * expected,))


def test_moments_whose_features_are_gone_are_copied(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    fill_library(b, tmp_path / "v", 2)
    b.observations.execute("DELETE FROM observations")
    merge(a, b.path)
    assert facts(a)["segments"] == facts(b)["segments"] != []
    assert facts(a)["derivations"] == facts(b)["derivations"]


def test_a_path_has_the_content_that_was_seen_there_last(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    add_video(a, tmp_path / "v.mp4", seed=1)
    add_video(b, tmp_path / "v.mp4", seed=2)
    (conflict,) = merge(a, b.path).conflicts
    assert "v.mp4" in conflict.subject
    assert facts(a)["files"] == facts(b)["files"] and len(facts(a)["contents"]) == 2
    merge(b, a.path)
    assert facts(b)["files"] == facts(a)["files"]


# --- annotations ----------------------------------------------------------------------------------------------


def verdicts(library: LibraryWriter) -> dict[annotation_log.Slot, str]:
    return {a.slot: a.verdict for a in annotation_log.list_annotations(library.connection)}


def test_the_later_verdict_counts_and_contradictions_are_listed(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    for library in libraries:
        add_video(library, tmp_path / "v.mp4")
    annotation_log.record_verdict(a, 1, "yoga", "confirmed", 0, 1000)
    annotation_log.record_verdict(b, 1, "yoga", "rejected", 0, 1000)
    annotation_log.record_verdict(b, 1, "archery", "rejected")
    annotation_log.record_verdict(a, 1, "archery", "added", 2000, 3000)
    report = merge(a, b.path)
    assert [(c.own.verdict, c.other.verdict) for c in report.annotation_conflicts if c.own and c.other] == [
        ("added", "rejected"),
        ("confirmed", "rejected"),
    ]
    assert sorted(verdicts(a).values()) == ["added", "rejected", "rejected"]
    # who merges has seen the contradictions: they are not told again
    assert merge(a, b.path).annotation_conflicts == []
    assert merge(b, a.path).annotation_conflicts == []
    assert facts(b)["words"] == facts(a)["words"]
    # a person's moment is there although the whole video was rejected before, and nothing of yoga
    assert [row[1] for row in facts(a)["segments"]] == ["archery"]
    for expected in (["rejected", "rejected"], ["rejected"], ["confirmed"], []):
        undo_redo.undo(a)
        assert sorted(verdicts(a).values()) == expected


def test_what_was_undone_on_one_side_is_undone(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    a, b = libraries
    add_video(a, tmp_path / "v.mp4")
    annotation_log.add(a, 1, "kept", 0, 1000)
    annotation_log.add(a, 1, "undone", 0, 1000)
    merge(b, a.path)
    undo_redo.undo(b)
    annotation_log.add(a, 1, "later", 0, 1000)
    merge(a, b.path)
    assert {slot[1] for slot in verdicts(a)} == {"kept", "later"}
    undo_redo.undo(a)
    undo_redo.undo(a)
    assert verdicts(a) == {}


_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")),
        st.sampled_from(("add", "confirm", "reject", "undo", "rename", "remove", "import", "merge")),
        st.integers(0, 1),  # the video
        st.sampled_from(("x", "y")),
        st.sampled_from(((None, None), (0, 2000), (1000, 3000))),
    ),
    max_size=14,
)


def act(library: LibraryWriter, other: LibraryWriter, action: str, video: int, label: str, span: Any) -> None:
    """One thing that a person does in a library; what is refused changes nothing."""
    try:
        if action == "undo":
            undo_redo.undo(library)
        elif action == "rename":
            annotation_log.rename_label(library, label, "z")
        elif action == "remove":
            annotation_log.remove_label(library, label)
        elif action == "import":
            early = annotation_log.list_annotations(other.connection)[:1]
            merging.merge_annotations(library, early)
        elif action == "merge":
            merge(library, other.path)
        else:
            verdict = {"add": "added", "confirm": "confirmed", "reject": "rejected"}[action]
            annotation_log.record_verdict(library, video + 1, label, verdict, *span)
    except LibraryError:
        pass


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=_ACTIONS)
@example(  # what one undid was said by the other, who did not know what stood there before
    actions=[
        (*action, 0, "x", (None, None))
        for action in (("a", "add"), ("b", "add"), ("a", "merge"), ("a", "undo"))
    ]
)
def test_corrections_on_both_sides_are_joined_in_whatever_order(
    actions: list[tuple[str, str, int, str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """After merges in both directions both libraries say the same; again changes nothing; undo takes all back."""
    folder = tmp_path_factory.mktemp("both")
    with ExitStack() as stack:
        a, b = (stack.enter_context(LibraryWriter.open(folder / name / "library.db")) for name in "ab")
        for library in (a, b):
            fill_library(library, folder / "v", 2)
        for side, action, *rest in actions:
            act(*((a, b) if side == "a" else (b, a)), action, *rest)
        before = [history(library) for library in (a, b)]
        merge(a, b.path)
        merge(b, a.path)
        assert facts(a)["words"] == facts(b)["words"]
        assert facts(a)["segments"] == facts(b)["segments"]
        assert log_rows(a) == log_rows(b)
        expected = merge_histories(*before)
        assert set(expected.annotations.values()) == set(annotation_log.list_annotations(a.connection))
        if {action for _, action, *_ in actions} <= {"add", "confirm", "reject", "merge"}:
            assert verdicts(a) == latest_verdicts(*before)
        states = dump(a), dump(b)
        merge(a, b.path)
        merge(b, a.path)
        assert (dump(a), dump(b)) == states
        assert not [f for f in check(a.path) if f.state == "wrong"]
        for library in (a, b):
            annotations = annotation_log.list_annotations(library.connection)
            if undo_redo.redoable_change(library.connection):
                undo_redo.redo(library)
                undo_redo.undo(library)
            assert annotation_log.list_annotations(library.connection) == annotations
        while any(change.undone_at is None for change in annotation_log.list_changes(a.connection)):
            undo_redo.undo(a)
        assert annotation_log.list_annotations(a.connection) == []


def test_labels_that_differ_by_case_are_one(
    libraries: tuple[LibraryWriter, LibraryWriter], tmp_path: Path
) -> None:
    """Of annotations, of undone changes, of moments whose features are gone, and again without any change."""
    a, b = libraries
    for library, spelling in ((a, "Café Run"), (b, "CAFÉ RUN")):
        fill_library(library, tmp_path / "v", 2)
        annotation_log.add(library, 1, spelling, 0, 1000)
    annotation_log.add(b, 2, "CAFÉ RUN", 0, 1000)
    undo_redo.undo(b)
    b.connection.execute("UPDATE labels SET name = upper(name), threshold = 0.9 WHERE name = 'yoga'")
    b.observations.execute("DELETE FROM observations")
    merge(a, b.path)
    names = [name for (name,) in a.connection.execute("SELECT name FROM labels")]
    assert len({name.casefold() for name in names}) == len(names) and "yoga" in names
    said = annotation_log.list_annotations(a.connection)
    assert [annotation.label for annotation in said] == ["Café Run"]
    state = dump(a)
    merge(a, b.path)
    assert dump(a) == state
    redone = undo_redo.redo(a)
    assert [annotation.label for annotation in redone.after] == ["Café Run"]
    merge(b, a.path)
    assert {annotation.label for annotation in annotation_log.list_annotations(b.connection)} == {"CAFÉ RUN"}


def latest_verdicts(*histories: AnnotationHistory) -> dict[annotation_log.Slot, str]:
    """Where nothing was taken back, the later annotation of each slot counts."""
    annotations = sorted((a for h in histories for a in h.annotations), key=lambda a: a.said_at)
    return {annotation.slot: annotation.verdict for annotation in annotations}


def history(library: LibraryWriter) -> AnnotationHistory:
    changes = annotation_log.list_changes(library.connection)
    return AnnotationHistory(
        tuple(annotation_log.list_annotations(library.connection)), tuple(reversed(changes))
    )


def log_rows(library: LibraryWriter) -> list[tuple[Any, ...]]:
    """The log without ids."""
    return [
        (c.at, c.action, set(c.before), set(c.after), c.undone_at)
        for c in annotation_log.list_changes(library.connection)
    ]


# --- shards ---------------------------------------------------------------------------------------------------


def test_scanned_shards_merge_to_one_scan(tmp_path: Path) -> None:
    """Row for row, with a copy in another shard and a file that cannot be read."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(4):
        make_video(folder / f"{number}.mp4", seconds=2 + number, fps=8, width=64, height=48, seed=number)
    shutil.copy(folder / "3.mp4", folder / "copy.mp4")
    (folder / "broken.mp4").write_bytes(os.urandom(5000))
    model = make_model(tmp_path / "model")
    checkpoint = load_checkpoint(model)
    paths = []
    for part in (None, *(Shard(number, 3) for number in (1, 2, 3))):
        paths.append(shard_library(tmp_path / "all.db", part) if part else tmp_path / "one.db")
        with LibraryWriter.open(paths[-1]) as library:
            register_model(library, checkpoint, str(model))
            list(scan(library, [os.fsencode(folder)], checkpoint, ScanOptions(threshold=0.05, shard=part)))
    with LibraryWriter.open(tmp_path / "all.db") as merged, LibraryWriter.open(paths[0]) as one:
        for path in paths[1:]:
            merge(merged, path)
        assert facts(merged) == facts(one)
        assert len(facts(one)["contents"]) == 5 and facts(one)["segments"]


@pytest.mark.slow
def test_scanned_shards_of_real_videos_merge_to_one_scan(vtag: Run, tmp_path: Path, shared: Path) -> None:
    for number in (1, 2, 3):
        part = ("--shard", f"{number}/3", "--model", "starter", "--db", tmp_path / "all.db")
        assert vtag("scan", shared / "clips", *part, timeout=1200).returncode == 0
    shards = sorted(tmp_path.glob("all.shard-*-of-3.db"))
    assert len(shards) == 3 and not (tmp_path / "all.db").exists()
    assert vtag("library", "merge", *shards, "--db", tmp_path / "all.db").returncode == 0
    vtag("scan", shared / "clips", "--model", "starter", "--db", tmp_path / "one.db", timeout=1200)
    with (
        LibraryWriter.open(tmp_path / "all.db") as all_shards,
        LibraryWriter.open(tmp_path / "one.db") as one,
    ):
        assert facts(all_shards) == facts(one)
        assert facts(one)["segments"]


def test_the_command_keeps_a_backup_and_names_what_is_missing(vtag: Run, tmp_path: Path) -> None:
    for name in ("a.db", "b.db"):
        with LibraryWriter.open(tmp_path / name) as library:
            fill_library(library, tmp_path / "v", 1)
            annotation_log.record_verdict(library, 1, "yoga", "added" if name == "a.db" else "rejected")
    run = vtag("library", "merge", tmp_path / "b.db", "--db", tmp_path / "a.db")
    assert run.returncode == 0 and "0.mp4: yoga: added (all of it, " in run.stderr
    assert (tmp_path / "a.db.before-merge").is_file()
    wrong = vtag("library", "merge", tmp_path / "no.db", "--db", tmp_path / "new.db")
    assert wrong.returncode == 1 and "no library" in wrong.stderr and not (tmp_path / "new.db").exists()
