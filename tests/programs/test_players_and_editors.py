"""Players and editors read what vtag exports, and show the frames of the moments."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import opentimelineio as otio
import pytest
from helpers import clock_footage as footage
from helpers.programs import require_program, run_program

from vtag.app.video_clocks import read_has_sound
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.exports import exported_moments, format_writer
from vtag.engine.library.exports.exported_moments import ExportedMoment
from vtag.engine.library.exports.xml_text import xml_document, xml_path
from vtag.engine.library.search.moments import search
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.library.store.files import add_roots
from vtag.engine.scan.content_facts import register_video

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
LABELS = ('jump, "high"; <1>', "run")
RANGES_MS = ((4400, 5200), (6000, 6600))  # as a player shows them


def with_timecode(folder: Path) -> Path:
    return footage.with_timecode(folder, "camera, #1.mov")


def tagged(
    folder: Path, make: Callable[[Path], Path], ranges: tuple[tuple[int, int], ...]
) -> list[ExportedMoment]:
    """The moments of a video with a person's tags in these ranges."""
    path = make(folder)
    with LibraryWriter.open(folder / "home" / "library.db") as library:
        content = register_video(library, os.fsencode(path))
        add_roots(library, [os.fsencode(folder)])
        clock = content_clock(library.connection, content)
        for label, (start_ms, end_ms) in zip(LABELS, ranges, strict=True):
            annotation_log.add(library, content, label, clock.library_ms(start_ms), clock.library_ms(end_ms))
        db = library.connection
        moments = sorted(search(db, "path:*", limit=None), key=lambda moment: moment.start_ms)
        return exported_moments.with_video_details(db, moments, None, read_has_sound)


@pytest.fixture
def items(tmp_path: Path) -> list[ExportedMoment]:
    """Two moments of a video whose picture begins 3 s after its sound."""
    return tagged(tmp_path, footage.late_picture, RANGES_MS)


def write(items: list[ExportedMoment], name: str, path: Path) -> Path:
    path.write_text(format_writer(name)(items), encoding="utf-8", errors="surrogateescape")
    return path


def test_a_path_in_xml_stays_a_path() -> None:
    """Also with characters that are newer than Python's tables, such as the pink heart of 2022."""
    name = "\U0001fa77\U0001fae9 ä.mp4"
    assert xml_path(name.encode()) == name
    for odd in ("\x01", "\ufffe", "\uffff"):
        element = ET.Element("producer", resource=xml_path(f"a{odd}.mp4".encode()))
        assert ET.fromstring(xml_document(element)).get("resource") == "a?.mp4"


def expected_numbers(items: list[ExportedMoment]) -> list[int]:
    """The numbers of the frames that ffmpeg shows in the moments."""
    shown = footage.shown_frames(Path(os.fsdecode(items[0].moment.path)))
    return [
        number
        for item in items
        for time_s, number in shown
        if item.moment.start_ms - 1 <= 1000 * time_s < item.moment.end_ms - 1
    ]


def assert_same_frames(video: Path, items: list[ExportedMoment]) -> None:
    """The frames of a rendered list are those of its moments, but for one at each end."""
    numbers, expected = footage.numbers_of(video), expected_numbers(items)
    assert abs(len(numbers) - len(expected)) <= 2 * len(items)
    assert len(set(expected) - set(numbers)) <= 2 * len(items), f"{numbers} instead of {expected}"
    assert min(numbers) >= min(expected) - 1 and max(numbers) <= max(expected) + 1


@pytest.mark.programs
def test_mpv_plays_the_moments_in_a_row(items: list[ExportedMoment], tmp_path: Path) -> None:
    edl = write(items, "mpv", tmp_path / "a, #1.mpv.edl")
    options = ("--no-config", "--no-audio", "--ovc=mpeg4", "--ovcopts=qscale=2")
    run_program("mpv", *options, f"--o={tmp_path}/out.mkv", edl)
    assert_same_frames(tmp_path / "out.mkv", items)
    shown = ("--vo=null", "--untimed", "--term-status-msg=", "--term-playing-msg=${chapter-list}")
    output = run_program("mpv", "--no-config", "--no-audio", *shown, edl).stdout
    assert all(label in output for label in LABELS)


@pytest.mark.programs
def test_vlc_plays_the_moments_of_a_playlist(items: list[ExportedMoment]) -> None:
    require_program("vlc")
    for folder in open_folder():
        video = Path(os.fsdecode(items[0].moment.path))
        copy = folder / "a, #1.mp4"
        shutil.copy(video, copy)
        moved = [item._replace(moment=item.moment._replace(path=os.fsencode(copy))) for item in items]
        playlist = write(moved, "m3u8", folder / "moments.m3u8")
        command = ("vlc", "-I", "dummy", "--vout=dummy", "--aout=dummy", "--play-and-exit", "-vv", playlist)
        user = {"user": "nobody"} if os.geteuid() == 0 else {}  # VLC refuses root
        log = run_program(*command, env={**os.environ, "HOME": str(folder)}, **user).stderr
        assert re.findall(r"starting at time: (\d+)s", log) == ["4", "6"]  # it says only whole seconds
        assert "unable to open" not in log


def open_folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o777)
        yield Path(name)


@pytest.mark.programs
@pytest.mark.parametrize(
    ("make", "ranges"),
    [(footage.late_picture, RANGES_MS), (with_timecode, ((400, 1200), (3000, 3600)))],
    ids=["late picture", "timecode, no sound"],
)
def test_melt_renders_the_moments_of_a_kdenlive_project(
    make: Callable[[Path], Path], ranges: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    items = tagged(tmp_path, make, ranges)
    project = write(items, "kdenlive", tmp_path / "a.kdenlive")
    target = f"avformat:{tmp_path}/out.mkv"
    run_program("melt", project, "-consumer", target, "vcodec=mpeg4", "qscale=2", "an=1", "real_time=-1")
    assert_same_frames(tmp_path / "out.mkv", items)
    text = project.read_text(encoding="utf-8")
    markers = json.loads(
        re.search(r'kdenlive:markers">(.*)<', text)[1].replace("&lt;", "<").replace("&gt;", ">")
    )
    assert [(marker["comment"], marker["pos"], marker["duration"]) for marker in markers] == [
        (item.moment.label, item.clock.library_ms(item.moment.start_ms) // 40, length_ms // 40)
        for item, length_ms in zip(items, (800, 600), strict=True)
    ]


@pytest.mark.parametrize(
    ("make", "ranges"), [(footage.late_picture, RANGES_MS), (with_timecode, ((400, 1200), (3000, 3600)))]
)
def test_opentimelineio_reads_the_project_of_resolve_and_final_cut(
    make: Callable[[Path], Path], ranges: tuple[tuple[int, int], ...], tmp_path: Path
) -> None:
    pytest.importorskip("otio_fcpx_xml_adapter", reason="otio-fcpx-xml-adapter is not installed")
    items = tagged(tmp_path, make, ranges)
    read = otio.adapters.read_from_string(format_writer("fcpxml")(items), "fcpx_xml")
    clips = list(
        read.find_clips(descended_from_type=otio.schema.Clip) if hasattr(read, "x") else _clips(read)
    )
    assert len(clips) >= 2
    for clip, item in zip(clips, items, strict=False):
        media = clip.media_reference
        assert media.target_url == Path(os.fsdecode(item.moment.path)).as_uri()
        start = (clip.source_range.start_time - media.available_range.start_time).to_seconds()
        assert abs(1000 * start - item.moment.start_ms) <= 20
        length_ms = item.moment.end_ms - item.moment.start_ms
        assert abs(1000 * clip.source_range.duration.to_seconds() - length_ms) <= 20
        assert clip.name == item.moment.label
        assert [marker.name for marker in clip.markers] == [item.moment.label]
        assert clip.markers[0].marked_range.start_time == clip.source_range.start_time


def _clips(read: object) -> list[otio.schema.Clip]:
    timelines = [read] if isinstance(read, otio.schema.Timeline) else list(read)
    return [clip for timeline in timelines for clip in timeline.find_clips()]


def test_mkvpropedit_writes_the_chapters_into_a_copy(items: list[ExportedMoment], tmp_path: Path) -> None:
    require_program("mkvpropedit")
    chapters = write(items, "matroska", tmp_path / "a.chapters.xml")
    copy = tmp_path / "copy.mkv"
    footage.ffmpeg("-i", os.fsdecode(items[0].moment.path), "-c", "copy", copy)
    run_program("mkvpropedit", copy, "--chapters", chapters)
    shown = json.loads(run_program("ffprobe", "-v", "error", "-show_chapters", "-of", "json", copy).stdout)
    read = [
        (chapter["tags"]["title"], float(chapter["start_time"]), float(chapter["end_time"]))
        for chapter in shown["chapters"]
    ]
    assert read == [
        (label, start_ms / 1000, end_ms / 1000)
        for label, (start_ms, end_ms) in zip(LABELS, RANGES_MS, strict=True)
    ]
    if shutil.which("mediainfo"):
        menu = run_program("mediainfo", "--Output=JSON", copy).stdout
        assert all(json.dumps(label)[1:-1] in menu for label in LABELS) and "00_00_04_400" in menu
