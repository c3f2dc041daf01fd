"""`vtag data`: a tree as Kinetics lies on disks, with missing, broken and misnamed videos; any list checked."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.footage import make_video

from vtag.engine.video.read.frame_folder import is_frame_folder
from vtag.trainer.data.dataset import DatasetError
from vtag.trainer.data.kinetics import class_names, match_kinetics, read_tables

Vtag = Callable[..., subprocess.CompletedProcess[str]]

HEADER = "label,youtube_id,time_start,time_end,split\n"
ROWS = {
    "train.csv": [
        "archery,aaaaaaaaaaa,0,10,train",  # under its usual name, in a folder of its label
        "riding a bike,-bbbbbbbbbb,7,17,train",  # a dash first; folder with underscores
        "archery,ccccccccccc,3,13,train",  # broken
        "yoga,ddddddddddd,3,13,train",  # missing
        "yoga,eeeeeeeeeee,12,22,train",  # renamed by a download tool
        "archery,fffffffffff,1,11,train",  # frames
    ],
    "val.csv": ["yoga,ggggggggggg,0,10,val", "yoga,hhhhhhhhhhh,0,10,val"],
    "test.csv": [",iiiiiiiiiii,0,10,test", "archery,aaaaaaaaaaa,0,10,test"],
}


@pytest.fixture
def k400(tmp_path: Path) -> Path:
    root = tmp_path / "k400"
    for name, rows in ROWS.items():
        table = root / "annotations" / name
        table.parent.mkdir(parents=True, exist_ok=True)
        table.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    videos = {
        "train/archery/aaaaaaaaaaa_000000_000010.mp4": 1,
        "train/riding_a_bike/-bbbbbbbbbb_000007_000017.mp4": 2,
        "train/yoga/eeeeeeeeeee_000012_000022 (1).mp4": 3,
        "val/ggggggggggg_000000_000010.mkv": 4,
        "val/hhhhhhhhhhh.webm": 5,
        "elsewhere/aaaaaaaaaaa_000000_000010.mp4": 6,  # a copy: the one in the label's folder counts
    }
    for name, seed in videos.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        codec = "libvpx-vp9" if path.suffix == ".webm" else "libx264"
        make_video(path, seconds=1, fps=10, width=64, height=48, seed=seed, codec=codec)
    (root / "train/archery/ccccccccccc_000003_000013.mp4").write_bytes(b"no video" * 100)
    frames = root / "rawframes/archery/fffffffffff_000001_000011"
    frames.mkdir(parents=True)
    for i in range(3):
        (frames / f"img_{i + 1:05}.jpg").write_bytes(b"x")
    return root


def test_the_videos_of_the_lists_are_found_under_their_usual_names(k400: Path) -> None:
    files = match_kinetics(k400)
    assert [s.path.as_posix() for s in files.samples["train"]] == [
        "train/archery/aaaaaaaaaaa_000000_000010.mp4",
        "train/riding_a_bike/-bbbbbbbbbb_000007_000017.mp4",
        "train/archery/ccccccccccc_000003_000013.mp4",
        "train/yoga/eeeeeeeeeee_000012_000022 (1).mp4",
        "rawframes/archery/fffffffffff_000001_000011",
    ]
    assert [row.youtube_id for row in files.missing["train"]] == ["ddddddddddd"]
    assert [path.name for path in files.renamed] == ["eeeeeeeeeee_000012_000022 (1).mp4", "hhhhhhhhhhh.webm"]
    assert len(files.samples["val"]) == 2
    assert files.unlabelled["test"] == 1
    assert files.labels[5] == "archery"
    assert len(files.labels) == 400


def test_the_command_writes_lists_without_what_is_broken_and_says_so(k400: Path, vtag: Vtag) -> None:
    ran = vtag("data", "k400", k400, "--json")
    assert ran.returncode == 3, ran.stderr
    document = json.loads(ran.stdout)
    assert document["splits"]["train"] == {"found": 4, "missing": 1, "broken": 1, "unlabelled": 0}
    assert [one["path"] for one in document["broken"]] == ["train/archery/ccccccccccc_000003_000013.mp4"]
    lines = (k400 / "lists" / "train.txt").read_text().splitlines()
    assert "train/archery/aaaaaaaaaaa_000000_000010.mp4 5" in lines
    assert "train/yoga/eeeeeeeeeee_000012_000022 (1).mp4 398" in lines  # the published id of yoga
    assert len(lines) == 4
    assert (k400 / "lists" / "labels.txt").read_text().splitlines()[398] == "yoga"
    ran = vtag("data", "k400", k400, "--no-check")
    assert "train        5 found       1 missing      0 broken" in ran.stdout
    assert "ddddddddddd" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_any_list_is_checked_by_the_same_code(k400: Path, vtag: Vtag) -> None:
    list_file = k400 / "own.txt"
    list_file.write_text(
        "train/archery/aaaaaaaaaaa_000000_000010.mp4 archery\n"
        "train/archery/ccccccccccc_000003_000013.mp4 archery\n"
        "val/ggggggggggg_000000_000010.mkv yoga\n"
        "val/nowhere.mp4 yoga\n"
    )
    ran = vtag("data", "check", list_file)
    assert ran.returncode == 3
    assert "3 clips of 2 classes (1 to 2 a class), 1 broken, 1 remarks" in ran.stdout
    assert "ccccccccccc_000003_000013.mp4: no usable picture" in ran.stderr
    assert "val/nowhere.mp4 is not there" in ran.stderr
    list_file.write_text(
        "train/archery/aaaaaaaaaaa_000000_000010.mp4 archery\nval/ggggggggggg_000000_000010.mkv yoga\n"
    )
    assert vtag("data", "check", list_file).returncode == 0


def test_tables_that_are_none_and_rows_that_are_broken(tmp_path: Path, vtag: Vtag) -> None:
    with pytest.raises(DatasetError, match="no official table"):
        read_tables(tmp_path)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "noise.csv").write_bytes(os.urandom(3000))
    with pytest.raises(DatasetError, match="no official table"):
        read_tables(tmp_path)
    (tmp_path / "train.csv").write_text(HEADER + "archery,aaaaaaaaaaa,ten,20,train\n")
    ran = vtag("data", "k400", tmp_path)
    assert ran.returncode == 1
    assert "line 2: time_start and time_end have to be seconds" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert vtag("data", "k400", tmp_path / "nowhere").returncode == 1


def test_labels_of_another_kinetics_are_sorted_by_name() -> None:
    assert class_names({"archery", "yoga"})[5] == "archery"
    assert class_names({"yoga", "acting in play", "archery"}) == ("acting in play", "archery", "yoga")


def test_frame_folders_are_known_by_their_names() -> None:
    assert is_frame_folder([b"img_00001.jpg", b"x"])
    assert is_frame_folder([b"0001.png"])
    assert not is_frame_folder([b"poster.jpg", b"x.mp4"])
