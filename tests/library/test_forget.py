"""Forgetting a file or folder: all of its rows, none of its neighbours', and annotations only on request."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.library_factory import add_model, add_video

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.forget import THUMBNAIL_FOLDER, forget, plan_forget
from vtag.engine.library.store import files, observations
from vtag.engine.scan.discover import discover


def count(library: LibraryWriter, table: str) -> int:
    return library.connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


@pytest.fixture
def tagged(library: LibraryWriter, tmp_path: Path) -> LibraryWriter:
    """Two videos in `v`, one in `v 2`, all observed and with segments."""
    model_id = add_model(library)
    for i, name in enumerate(("v/a.mp4", "v/b.mp4", "v 2/c.mp4")):
        add_video(library, tmp_path / name, seed=i)
    files.add_roots(library, [os.fsencode(tmp_path / "v"), os.fsencode(tmp_path / "v 2")])
    list(derive.retag(library, model_id))
    return library


def test_a_file_is_forgotten_with_its_observations_and_segments(
    tagged: LibraryWriter, tmp_path: Path
) -> None:
    forget(tagged, plan_forget(tagged, os.fsencode(tmp_path / "v" / "a.mp4")))
    assert [count(tagged, t) for t in ("files", "contents", "derivations", "roots")] == [2, 2, 2, 2]
    orphans = tagged.connection.execute(
        "SELECT count(*) FROM segments WHERE content_id NOT IN (SELECT id FROM contents)"
    )
    assert orphans.fetchone() == (0,)
    assert tagged.observations.execute("SELECT count(*) FROM observations").fetchone() == (2,)


def test_a_deleted_folder_is_forgotten_with_its_root(tagged: LibraryWriter, tmp_path: Path) -> None:
    for file in (tmp_path / "v").iterdir():
        file.unlink()
    (tmp_path / "v").rmdir()
    plan = plan_forget(tagged, os.fsencode(tmp_path / "v"))
    assert len(plan.files) == 2
    forget(tagged, plan)
    assert [count(tagged, t) for t in ("files", "contents", "roots")] == [1, 1, 1]


def test_forgetting_through_a_link_forgets_the_same(tagged: LibraryWriter, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "v")
    assert plan_forget(tagged, os.fsencode(tmp_path / "link")) == plan_forget(
        tagged, os.fsencode(tmp_path / "v")
    )


def test_annotations_are_removed_only_on_request(tagged: LibraryWriter, tmp_path: Path) -> None:
    tagged.connection.execute(
        "INSERT INTO words (content_id, label, verdict, said_at) VALUES "
        "((SELECT content_id FROM files WHERE display LIKE '%/a.mp4'), 'archery', 'added', '')"
    )
    plan = plan_forget(tagged, os.fsencode(tmp_path / "v"))
    assert plan.annotations == 1
    with pytest.raises(LibraryError, match="--words"):
        forget(tagged, plan)
    assert [count(tagged, t) for t in ("files", "words")] == [3, 1]
    forget(tagged, plan, with_annotations=True)
    assert [count(tagged, t) for t in ("files", "words")] == [1, 0]


def test_a_copy_elsewhere_keeps_the_content_and_its_annotations(
    tagged: LibraryWriter, tmp_path: Path
) -> None:
    add_video(tagged, tmp_path / "elsewhere" / "copy.mp4", seed=0, is_scanned=False)
    tagged.connection.execute(
        "INSERT INTO words (content_id, label, verdict, said_at) VALUES "
        "((SELECT content_id FROM files WHERE display LIKE '%/a.mp4'), 'archery', 'added', '')"
    )
    forget(tagged, plan_forget(tagged, os.fsencode(tmp_path / "v" / "a.mp4")))
    assert [count(tagged, t) for t in ("files", "contents", "words")] == [3, 3, 1]


def test_thumbnails_are_removed_with_their_content(tagged: LibraryWriter, tmp_path: Path) -> None:
    folder = tagged.path.parent / THUMBNAIL_FOLDER
    folder.mkdir()
    keys = [files.content_key(os.fsencode(tmp_path / "v" / name)) for name in ("a.mp4", "b.mp4")]
    for key in keys:
        (folder / f"{key}_1000.jpg").touch()
        (folder / f"{key}.webp").touch()
    forget(tagged, plan_forget(tagged, os.fsencode(tmp_path / "v" / "a.mp4")))
    assert {f.name for f in folder.iterdir()} == {f"{keys[1]}_1000.jpg", f"{keys[1]}.webp"}


def test_a_forgotten_file_can_be_scanned_again(tagged: LibraryWriter, tmp_path: Path) -> None:
    path = tmp_path / "v" / "a.mp4"
    forget(tagged, plan_forget(tagged, os.fsencode(path)))
    assert len(discover([os.fsencode(path)]).files) == 1
    add_video(tagged, path, seed=0)
    assert len(observations.observed_keys(tagged, "backbone", "sampling")) == 3
