"""Which files a scan looks at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vtag.engine.errors import LibraryError
from vtag.engine.scan.discover import discover
from vtag.engine.scan.ignore import PathFilter


def file_names(*paths: Path) -> list[str]:
    return [Path(os.fsdecode(f.path)).name for f in discover([os.fsencode(p) for p in paths]).files]


def touch(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_in_a_folder_a_video_is_known_by_its_ending_in_any_case(tmp_path: Path) -> None:
    for name in ("a.mp4", "B.MKV", "c.Mov", "notes.txt", "cover.jpg", "song.mp3", "no-ending"):
        touch(tmp_path / name)
    assert file_names(tmp_path) == ["B.MKV", "a.mp4", "c.Mov"]


def test_a_named_file_is_always_tried(tmp_path: Path) -> None:
    assert file_names(touch(tmp_path / "no-ending"), touch(tmp_path / ".hidden.mp4")) == [
        "no-ending",
        ".hidden.mp4",
    ]


def test_hidden_system_and_proxy_files_are_left_out_and_counted(tmp_path: Path) -> None:
    for name in (
        ".hidden/a.mp4",
        "._b.mp4",
        "$RECYCLE.BIN/c.mp4",
        ".Trash-1000/d.mp4",
        "Photos.photoslibrary/originals/e.mov",
        "@eaDir/f.mp4",
        "GX010001.LRV",
        "kept/g.mp4",
    ):
        touch(tmp_path / name)
    assert file_names(tmp_path) == ["g.mp4"]
    left_out = {os.path.basename(p): why for p, why in discover([os.fsencode(tmp_path)]).excluded}
    assert set(left_out) == {
        b".hidden", b"._b.mp4", b"$RECYCLE.BIN", b".Trash-1000", b"Photos.photoslibrary", b"@eaDir", b"GX010001.LRV",
    }  # fmt: skip
    assert all(left_out.values())


def test_what_cameras_write_is_looked_at_or_named(tmp_path: Path) -> None:
    videos = ("A.insv", "B.360", "C.dav", "D.MQV", "I.OSV", "J.gxf", "E.vro", "F.trp", "G.dvr-ms", "H.3gpp")
    for name in (*videos, "DJI_1.LRF", "GX1.LRV", "cam.h264", "cam.265", "A001.R3D", "A002.braw", "A003.crm"):
        touch(tmp_path / name)
    assert file_names(tmp_path) == sorted(videos)
    named = {os.path.basename(p) for p, why in discover([os.fsencode(tmp_path)]).excluded if why}
    assert named == {
        b"DJI_1.LRF",
        b"GX1.LRV",
        b"cam.h264",
        b"cam.265",
        b"A001.R3D",
        b"A002.braw",
        b"A003.crm",
    }


@pytest.mark.parametrize(
    "folder",
    [
        "@Recycle", "@Recently-Snapshot", "#snapshot", "#recycle", "~snapshot", ".snapshot", ".zfs",
        "$RECYCLE.BIN", "$Recycle.Bin", "RECYCLER", ".Trash", ".Trash-1000", ".Trashes", "Network Trash Folder",
        "System Volume Information", "lost+found", "found.000", "Backups.backupdb", "Mac.sparsebundle",
        "Mac.backupbundle", "2026-01-02-030405.backup", "2026-01-02-030405.previous", ".MobileBackups",
    ],
)  # fmt: skip
def test_bins_snapshots_and_backups_are_not_scanned(tmp_path: Path, folder: str) -> None:
    touch(tmp_path / "nas" / folder / "deep" / "gone.mp4")
    touch(tmp_path / "nas" / "2026-01-02" / "kept.mp4")
    assert file_names(tmp_path) == ["kept.mp4"]
    ((path, reason),) = discover([os.fsencode(tmp_path)]).excluded
    assert os.path.basename(path) == os.fsencode(folder) and reason
    assert file_names(tmp_path / "nas" / folder) == ["gone.mp4"]  # if it is named itself


def test_a_typescript_source_is_not_a_transport_stream(tmp_path: Path) -> None:
    touch(tmp_path / "index.ts", b"export const answer = 42;\n" * 40)
    touch(tmp_path / "stream.ts", (b"\x47" + bytes(187)) * 4)
    touch(tmp_path / "timed.ts", (bytes(4) + b"\x47" + bytes(187)) * 4)
    assert file_names(tmp_path) == ["stream.ts", "timed.ts"]


def test_links_that_go_round_are_entered_once(tmp_path: Path) -> None:
    touch(tmp_path / "deep" / "a.mp4")
    (tmp_path / "deep" / "round").symlink_to(tmp_path)
    (tmp_path / "again").symlink_to(tmp_path / "deep")
    (tmp_path / "broken.mp4").symlink_to(tmp_path / "nothing")
    assert file_names(tmp_path) == ["a.mp4"]


def test_a_folder_named_twice_or_inside_another_counts_once(tmp_path: Path) -> None:
    touch(tmp_path / "deep" / "a.mp4")
    assert file_names(tmp_path, tmp_path, tmp_path / "deep", tmp_path / "deep" / "a.mp4") == ["a.mp4"]


def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/na\xefve\xff.mp4"
    try:
        Path(os.fsdecode(name)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names alone")
    assert [f.path for f in discover([os.fsencode(tmp_path)]).files] == [name]


def test_a_path_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(LibraryError, match="nowhere"):
        discover([os.fsencode(tmp_path / "nowhere")])


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is closed to root")
def test_a_closed_folder_is_said_and_the_others_go_on(tmp_path: Path) -> None:
    touch(tmp_path / "open" / "a.mp4")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    assert file_names(tmp_path) == ["a.mp4"]
    assert [p for p, _ in discover([os.fsencode(tmp_path)]).unreadable] == [os.fsencode(closed)]


def found_below(folder: Path, *, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> set[str]:
    files = discover([os.fsencode(folder)], PathFilter(include, exclude)).files
    return {os.fsdecode(os.path.relpath(f.path, os.fsencode(folder))) for f in files}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("a.mp4", "b.mov", "trips/a.mp4", "trips/raw/c.mov", "trips/raw/keep.mov", "tmp/x.mp4"):
        (tmp_path / "v" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "v" / name).write_bytes(b"x")
    return tmp_path / "v"


@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]
)
def test_vtagignore_holds_in_every_encoding_that_editors_write(
    tmp_path: Path, encoding: str, line_end: str
) -> None:
    for folder in ("private", "Cafe\u0301", "Stra\u00dfe", "kept"):
        touch(tmp_path / folder / f"{folder[0]}.mp4")
    rules = line_end.join(["private/", "Caf\u00e9/", "Stra\u00dfe/", ""])
    (tmp_path / ".vtagignore").write_bytes(rules.encode(encoding))
    assert file_names(tmp_path) == ["k.mp4"]


@pytest.mark.parametrize(
    "rule",
    [
        "  private/",
        "private/\u200b",
        "\ufeffprivate/",
        '"private/"',
        "./private/",
        "private//",
        "{folder}/private/",
    ],
)
def test_vtagignore_holds_for_rules_that_git_would_pass_over(tmp_path: Path, rule: str) -> None:
    for folder in ("private", "kept", "blank "):
        touch(tmp_path / folder / f"{folder[0]}.mp4")
    (tmp_path / ".vtagignore").write_text("blank\\ \n\n" + rule.format(folder=tmp_path) + "\n!./kept/\n")
    assert file_names(tmp_path) == ["k.mp4"]


@pytest.mark.parametrize("content", [b"private/\n\0\0\0\0", b"\xff\xfep", b"private/\n" * 2**18])
def test_a_vtagignore_that_cannot_be_read_as_a_whole_ends_the_scan(tmp_path: Path, content: bytes) -> None:
    touch(tmp_path / "private" / "a.mp4")
    (tmp_path / ".vtagignore").write_bytes(content)
    with pytest.raises(LibraryError, match=r"\.vtagignore"):
        file_names(tmp_path)


def test_vtagignore_leaves_out_as_gitignore_does(tree: Path) -> None:
    (tree / ".vtagignore").write_text("# what is not wanted\n*.mov\n/tmp/\n")
    assert found_below(tree) == {"a.mp4", "trips/a.mp4"}
    assert found_below(tree / "trips") == {"a.mp4"}  # those above hold, too
    (tree / "trips" / "raw" / ".vtagignore").write_text("!keep.mov\n")
    assert found_below(tree) == {"a.mp4", "trips/a.mp4", "trips/raw/keep.mov"}
    (tree / "trips" / ".vtagignore").write_bytes(b"raw\n\xff\xfe[\n")
    assert found_below(tree) == {"a.mp4", "trips/a.mp4"}
    reasons = dict(discover([os.fsencode(tree)]).excluded)
    assert reasons[os.fsencode(tree / "tmp")] == "ignored by .vtagignore"
    assert len(discover([os.fsencode(tree / "b.mov")]).files) == 1  # a named file is always taken


def test_globs_of_one_scan_choose_among_the_files(tree: Path) -> None:
    assert found_below(tree, include=("*.mov",)) == {"b.mov", "trips/raw/c.mov", "trips/raw/keep.mov"}
    assert found_below(tree, include=("trips/**",), exclude=("raw/",)) == {"trips/a.mp4"}
    assert found_below(tree, exclude=("*.mov", "tmp")) == {"a.mp4", "trips/a.mp4"}


def test_rules_that_cannot_be_read_are_said(tree: Path) -> None:
    (tree / ".vtagignore").mkdir()
    with pytest.raises(LibraryError, match=r"\.vtagignore cannot be read"):
        found_below(tree)


def test_files_that_are_still_written_are_left(tree: Path) -> None:
    discovery = discover([os.fsencode(tree)], postpone=lambda f: f.path.endswith(b"a.mp4"))
    assert {os.path.basename(f.path) for f in discovery.files} == {b"b.mov", b"c.mov", b"keep.mov", b"x.mp4"}
    assert [why for _, why in discovery.excluded] == ["still being written"] * 2
