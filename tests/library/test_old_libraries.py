"""A library of each schema that ever landed opens, is upgraded, and finds what it found."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from helpers.kill_stories import found
from helpers.old_libraries import NAMES, found_then, unpack

from vtag.engine.library.annotations import annotation_log, undo_redo
from vtag.engine.library.database import SCHEMA, LibraryWriter, open_unmigrated, schema_steps
from vtag.engine.library.maintenance.backup import list_backups, restore
from vtag.engine.library.maintenance.check import check


def test_there_is_a_library_of_each_schema() -> None:
    """A new migration adds one: `python -m helpers.old_libraries m012`, run in tests/."""
    assert {name.split("-")[0] for name in NAMES} >= {step.split("_")[0] for step in SCHEMA.steps} - {"m007"}


@pytest.mark.parametrize("name", NAMES)
def test_an_old_library_finds_what_it_found_and_can_go_back(name: str, tmp_path: Path) -> None:
    library = unpack(name, tmp_path)
    with closing(open_unmigrated(library)) as reader:
        old_steps = schema_steps(reader)
    assert found(library) == found_then(library)
    with closing(open_unmigrated(library)) as reader:
        assert set(schema_steps(reader)) == set(SCHEMA.steps)
    assert [finding for finding in check(library) if finding.state == "wrong"] == []
    if set(old_steps) == set(SCHEMA.steps):
        return
    (backup,) = list_backups(library)  # made before the upgrade
    assert backup.schema == old_steps[-1]
    restore(library, backup.path)
    with closing(open_unmigrated(library)) as reader:
        assert schema_steps(reader) == old_steps
    assert found(library) == found_then(library)  # and again


@pytest.mark.parametrize("name", [name for name in NAMES if name >= "m003"])
def test_what_was_said_in_an_old_library_can_be_undone(name: str, tmp_path: Path) -> None:
    with LibraryWriter.open(unpack(name, tmp_path)) as library:
        for left in (2, 1, 0):
            undo_redo.undo(library)
            assert len(annotation_log.list_annotations(library.connection)) == left
