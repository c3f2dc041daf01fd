"""A file appears complete or not at all, whatever ends the writing."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from vtag.engine.system.atomic_write import atomic_path, move_new, replace_folder, write_atomically


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_atomically(target, b"old")
    write_atomically(target, b"new", mode=0o600)
    assert target.read_bytes() == b"new" and list(tmp_path.iterdir()) == [target]
    assert os.name != "posix" or stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as part:
        part.write_bytes(b"half")
        raise ZeroDivisionError
    assert target.read_bytes() == b"old" and list(tmp_path.iterdir()) == [target]


def test_what_a_killed_process_left_is_no_obstacle_and_its_links_are_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"not ours")
    (tmp_path / "file.part").symlink_to(other)
    write_atomically(tmp_path / "file", b"new")
    assert other.read_bytes() == b"not ours" and (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink() and not os.path.lexists(tmp_path / "file.part")


def test_a_read_only_file_can_be_written(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "file") as part:
        part.write_bytes(b"new")
        part.chmod(0o400)
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_new_file_never_takes_the_place_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "no links here")

    for folder in ("with links", "without"):
        place = tmp_path / folder
        place.mkdir()
        source, target = os.fsencode(place / "source"), os.fsencode(place / "target")
        (place / "source").write_bytes(b"first")
        move_new(source, target)
        assert [file.name for file in place.iterdir()] == ["target"]
        (place / "source").write_bytes(b"second")
        with pytest.raises(FileExistsError):
            move_new(source, target)
        assert (place / "target").read_bytes() == b"first"
        monkeypatch.setattr(os, "link", refuse)


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_former(tmp_path: Path) -> None:
    folder, new, backup = tmp_path / "folder", tmp_path / "new", tmp_path / "backup"
    folder.mkdir()
    (folder / "old").touch()
    with pytest.raises(FileNotFoundError):
        replace_folder(new, folder, backup)
    assert (folder / "old").exists() and not backup.exists()
    new.mkdir()
    replace_folder(new, folder, backup)
    assert not any(folder.iterdir()) and (backup / "old").exists()
