"""Photo managers and media servers read the sidecars, and keep what a person wrote into them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from helpers.library_factory import add_video
from helpers.programs import run_program

from vtag.engine.errors import VtagError
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.exports import nfo, xmp

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def video(vtag_home: Path, tmp_path: Path) -> Path:
    """A video with two tags."""
    path = tmp_path / "a video.mp4"
    with LibraryWriter.open(vtag_home / "library.db") as library:
        content = add_video(library, path, is_scanned=False)
        annotation_log.add(library, content, "riding a bike", 1000, 2000)
        annotation_log.add(library, content, "yoga & <more>", 3000, 4000)
    return path


def read_xmp(path: Path) -> dict[str, object]:
    """The tags of a sidecar by exiftool, which Immich uses, too."""
    (tags,) = json.loads(run_program("exiftool", "-json", path).stdout)
    return dict(tags)


def immich_tags(tags: dict[str, object]) -> list[str]:
    """The tags of Immich: of the first of these lists that is there (server/src/services/metadata.service.ts)."""
    for name, separator in (("TagsList", "/"), ("HierarchicalSubject", "|"), ("Keywords", "/")):
        if name in tags:
            values = tags[name] if isinstance(tags[name], list) else [tags[name]]
            return ["/".join(str(value).split(separator)) for value in values]
    return []


def test_exiftool_reads_a_new_sidecar(video: Path, vtag: Run) -> None:
    assert vtag("export", "path:*", "--format", "xmp").stdout.strip() == f"{video}.xmp"
    tags = read_xmp(video.with_name("a video.mp4.xmp"))
    assert sorted(tags["Subject"]) == ["riding a bike", "yoga & <more>"]
    assert sorted(tags["HierarchicalSubject"]) == ["vtag|riding a bike", "vtag|yoga & <more>"]
    assert sorted(immich_tags(tags)) == ["vtag/riding a bike", "vtag/yoga & <more>"]


@pytest.mark.parametrize(
    ("own", "shown"),
    [
        (["-XMP-dc:Subject=Grandma", "-XMP-dc:Subject=trip"], ["Grandma", "trip"]),
        (["-XMP-lr:HierarchicalSubject=People|Grandma"], ["People/Grandma"]),
        (["-XMP-digiKam:TagsList=People/Grandma", "-XMP-dc:Subject=Grandma"], ["People/Grandma"]),
    ],
    ids=["flat", "Lightroom", "digiKam"],
)
def test_a_persons_keywords_and_ratings_stay(tmp_path: Path, own: list[str], shown: list[str]) -> None:
    sidecar, labels = tmp_path / "a video.mp4.xmp", ["riding a bike", "yoga & <more>"]
    fields = (
        "-XMP:Rating=4",
        "-XMP:Label=Red",
        "-XMP-dc:Title=Holiday",
        "-XMP-exif:DateTimeOriginal=2024:06:30 09:12:00",
    )
    run_program("exiftool", "-q", *own, *fields, sidecar)
    before = read_xmp(sidecar)
    assert xmp.merge_into(os.fsencode(sidecar), labels)
    after = read_xmp(sidecar)
    lists = ("Subject", "TagsList", "HierarchicalSubject")
    ignored = (*lists, "FileSize", "FileModifyDate", "FileAccessDate", "FileInodeChangeDate", "XMPToolkit")
    assert {n: v for n, v in after.items() if n not in ignored} == {
        n: v for n, v in before.items() if n not in ignored
    }
    assert (after["Rating"], after["Label"], after["Title"]) == (4, "Red", "Holiday")
    for name in lists:
        values = before.get(name, [])
        assert set(values if isinstance(values, list) else [values]) <= set(after[name])
    assert immich_tags(after)[: len(shown)] == shown  # digiKam reads the same list first
    assert sorted(immich_tags(after)[len(shown) :]) == ["vtag/riding a bike", "vtag/yoga & <more>"]
    assert not xmp.merge_into(os.fsencode(sidecar), labels)


def test_what_vtag_added_comes_only_once(tmp_path: Path) -> None:
    first = xmp.merge(None, ["a", "b/c", "d|e"])
    assert first is not None and xmp.merge(first, ["d|e", "a"]) is None
    assert xmp.merge(None, []) is None


def test_jellyfin_and_kodi_get_a_description_with_tags(video: Path, vtag: Run) -> None:
    run = vtag("export", "path:*", "--format", "nfo")
    path = video.with_suffix(".nfo")
    assert run.stdout.strip() == str(path)
    root = ET.parse(path).getroot()
    assert (root.tag, root.findtext("title")) == ("movie", "a video")
    assert sorted(tag.text for tag in root.iter("tag")) == ["riding a bike", "yoga & <more>"]
    assert vtag("export", "path:*", "--format", "nfo", "-o", video.parent / "out").returncode == 0
    assert (video.parent / "out" / "a video.nfo").is_file()


JELLYFIN = b"""<?xml version="1.0" encoding="utf-8" standalone="yes"?>
<movie>
  <plot>Summer &amp; sun</plot>
  <lockdata>false</lockdata>
  <title>Holiday</title>
  <userrating>8</userrating>
  <tag>yoga</tag>
  <genre>Home</genre>
  <actor><name>Grandma</name></actor>
</movie>
"""


def test_an_existing_description_keeps_its_content() -> None:
    merged = nfo.merge(JELLYFIN, ["yoga", "archery"], "unused")
    assert merged is not None
    before, after = ET.fromstring(JELLYFIN), ET.fromstring(merged)
    added = [element for element in after if element.text == "archery"]
    assert [element.tag for element in added] == ["tag"]
    after.remove(added[0])
    assert [(e.tag, (e.text or "").strip()) for e in after.iter()] == [
        (e.tag, (e.text or "").strip()) for e in before.iter()
    ]
    assert nfo.merge(merged, ["archery"], "unused") is None


@pytest.mark.parametrize(
    "content",
    [
        b"https://www.example.org/title/1",  # a link, which Kodi accepts, too
        JELLYFIN + b"https://www.example.org/title/1\n",
        b"<tvshow/>",
        b"<!DOCTYPE movie [<!ENTITY a 'b'>]><movie>&a;</movie>",
        b"",
    ],
)
def test_a_description_that_cannot_be_kept_whole_is_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.nfo"
    path.write_bytes(content)
    with pytest.raises(VtagError, match=r"a\.nfo: .* it was left as it is"):
        nfo.merge_into(b"/x/a.mp4", str(path).encode(), ["archery"])
    assert path.read_bytes() == content
