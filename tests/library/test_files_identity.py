"""Identity of files: volumes, links, and missing files apart from unplugged disks."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.library_factory import add_video

from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files
from vtag.engine.library.store.file_stat import file_stat
from vtag.engine.library.store.volumes import Volume, Volumes, real_path
from vtag.engine.scan.discover import discover
from vtag.engine.system.mounts import Mount, read_mounts


def states(library: LibraryWriter) -> dict[str, str]:
    rows = library.connection.execute(
        "SELECT v.mount, f.path, f.state FROM files f JOIN volumes v ON v.id = volume_id"
    )
    return {Path(os.fsdecode(os.path.join(mount, path))).name: state for mount, path, state in rows}


def test_a_path_is_the_mount_point_and_the_relative_path(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path / "a" / "b.mp4")
    volume = Volumes().volume_of(path)
    assert volume.absolute(volume.relative(path)) == path
    assert not volume.relative(path).startswith(b"/")


@pytest.mark.parametrize("mount", [b"/", b"/mnt/a disk"])
def test_relative_and_absolute_are_inverse_for_any_mount_point(mount: bytes) -> None:
    volume = Volume("k", mount)
    path = os.path.join(mount, b"x\xff/y.mp4")
    assert volume.relative(path) == b"x\xff/y.mp4"
    assert volume.absolute(b"x\xff/y.mp4") == path


def test_a_linked_folder_is_the_same_folder(tmp_path: Path, library: LibraryWriter) -> None:
    add_video(library, tmp_path / "real" / "a.mp4")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (linked_file,) = discover([os.fsencode(tmp_path / "link")]).files
    volume = Volumes().volume_of(linked_file.path)
    stored = files.stored_files(library, volume)
    assert volume.relative(linked_file.path) in stored
    assert len(stored) == 1


def test_a_link_to_a_file_keeps_its_name(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "3f2a").write_bytes(b"x")
    (tmp_path / "holiday.mp4").symlink_to(tmp_path / "store" / "3f2a")
    assert real_path(os.fsencode(tmp_path / "holiday.mp4")) == os.fsencode(tmp_path / "holiday.mp4")
    assert [os.path.basename(f.path) for f in discover([os.fsencode(tmp_path)]).files] == [b"holiday.mp4"]


def test_escapes_in_the_mount_table_are_decoded(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_bytes(
        b"36 35 0:40 / / rw - btrfs /dev/sda1 rw\n"
        b"37 36 0:41 /@home /home rw shared:1 master:2 - btrfs /dev/sda1 rw\n"
        b"38 36 0:42 / /mnt/a\\040disk rw - nfs4 nas:/films rw\n"
        b"39 36 0:43 / /mnt/\xff rw - ext4 /dev/sdb1 rw\n"
        b"what is this\n"
    )
    listed = read_mounts(str(table))
    assert listed[b"/home"] == ("/@home", "btrfs", "/dev/sda1")
    assert listed[b"/mnt/a disk"] == ("/", "nfs4", "nas:/films")
    assert b"/mnt/\xff" in listed
    assert read_mounts(str(tmp_path / "nothing")) == {}


def test_the_key_of_a_volume_does_not_depend_on_the_mount_point(tmp_path: Path) -> None:
    mount = os.fsencode(tmp_path)
    lookup = Volumes()
    device = os.stat(tmp_path).st_dev
    lookup._mounts, lookup._uuids = {mount: Mount("/", "nfs4", "nas:/films")}, {}
    assert lookup._key(mount) == "share:nas:/films"
    lookup._mounts, lookup._uuids = (
        {mount: Mount("/@home", "btrfs", "/dev/sda1")},
        {device: "1234-ABCD"},
    )
    assert lookup._key(mount) == "uuid:1234-ABCD/@home"
    lookup._mounts, lookup._uuids = {}, {}
    assert lookup._key(mount) == f"mount:{tmp_path}"


def test_missing_files_are_marked_and_returned_files_are_present(
    tmp_path: Path,
    library: LibraryWriter,
) -> None:
    for name in ("kept", "gone", "elsewhere"):
        add_video(library, tmp_path / ("v" if name != "elsewhere" else "w") / f"{name}.mp4", seed=len(name))
    root = os.fsencode(tmp_path / "v")
    (tmp_path / "v" / "gone.mp4").rename(tmp_path / "aside")
    (tmp_path / "w" / "elsewhere.mp4").unlink()
    assert files.mark_missing(library, [root], {f.path for f in discover([root]).files}) == 1
    assert states(library) == {"kept.mp4": "present", "gone.mp4": "missing", "elsewhere.mp4": "present"}
    (tmp_path / "aside").rename(tmp_path / "v" / "gone.mp4")
    add_video(library, tmp_path / "v" / "gone.mp4", seed=4)
    assert states(library)["gone.mp4"] == "present"


def test_a_folder_whose_name_begins_like_a_root_is_not_below_it(
    tmp_path: Path,
    library: LibraryWriter,
) -> None:
    add_video(library, tmp_path / "films 2" / "a.mp4")
    (tmp_path / "films").mkdir()
    shutil.rmtree(tmp_path / "films 2")
    assert files.mark_missing(library, [os.fsencode(tmp_path / "films")], set()) == 0


@pytest.mark.parametrize("inode", [0, 2**63 - 1, 2**63, 2**64 - 1, 2**100 + 7])
def test_any_inode_can_be_stored(tmp_path: Path, library: LibraryWriter, inode: int) -> None:
    content = add_video(library, tmp_path / "a.mp4")
    listed = discover([os.fsencode(tmp_path / "a.mp4")]).files[0]
    info = os.stat(listed.path)
    fields = [inode if field == stat.ST_INO else value for field, value in enumerate(info[:10])]
    numbered_stat = os.stat_result(fields, {"st_mtime_ns": info.st_mtime_ns})
    numbered = type(listed)(listed.path, *file_stat(numbered_stat), listed.root)
    files.save_file(library, Volumes().volume_of(listed.path), numbered, content)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A separate file system, mounted in a folder."""
    point = tmp_path / "disk"
    point.mkdir()
    mount = shutil.which("mount")
    if not mount or subprocess.run([mount, "-t", "tmpfs", "none", point], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    yield point
    subprocess.run(["umount", "-l", point], capture_output=True)


def test_an_unplugged_disk_marks_no_file_missing(disk: Path, library: LibraryWriter) -> None:
    add_video(library, disk / "films" / "a.mp4")
    volume = Volumes().volume_of(os.fsencode(disk / "films" / "a.mp4"))
    assert volume.mount == os.fsencode(disk)
    assert Volumes().is_mounted(volume)
    subprocess.run(["umount", disk], check=True)
    assert not Volumes().is_mounted(volume)
    for root in (disk, disk.parent, disk / "films"):  # the mount point is an empty folder now
        assert files.mark_missing(library, [os.fsencode(root)], set()) == 0
    assert states(library) == {"a.mp4": "present"}


def test_a_missing_file_on_a_disk_below_the_root_is_marked(
    disk: Path,
    library: LibraryWriter,
) -> None:
    add_video(library, disk / "a.mp4")
    (disk / "a.mp4").unlink()
    assert files.mark_missing(library, [os.fsencode(disk.parent)], set()) == 1


def test_a_folder_that_disappears_during_the_search_loses_no_file(
    tmp_path: Path, library: LibraryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network share may go offline at any time."""
    share = tmp_path / "share"
    for name in ("a.mp4", "b.mp4"):
        add_video(library, share / name)
    is_missing = files.is_missing

    def goes_offline(path: bytes) -> bool:
        if share.exists():
            share.rename(tmp_path / "offline")
        return is_missing(path)

    monkeypatch.setattr(files, "is_missing", goes_offline)
    assert files.mark_missing(library, [os.fsencode(share)], set()) == 0
    assert set(states(library).values()) == {"present"}
    (tmp_path / "offline").rename(share)
    (share / "a.mp4").unlink()
    monkeypatch.setattr(files, "is_missing", is_missing)
    assert files.mark_missing(library, [os.fsencode(share)], set()) == 1
    assert states(library) == {"a.mp4": "missing", "b.mp4": "present"}
