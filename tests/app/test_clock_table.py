"""Whatever leaves vtag has the times at which ffmpeg shows the frames: each kind of clock by each way out."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import statistics
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import opentimelineio as otio
import pytest
import srt
import webvtt
from helpers import clock_footage as footage

from vtag.app.video_clocks import read_clock
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.exports import exported_moments, format_writer
from vtag.engine.library.exports.exported_moments import ExportedMoment
from vtag.engine.library.search.moments import Moment, search
from vtag.engine.library.store.clocks import content_clock
from vtag.engine.library.store.files import add_roots
from vtag.engine.scan.clocks import read_missing_clocks
from vtag.engine.scan.content_facts import register_video
from vtag.engine.scan.events import ClocksPlanned
from vtag.engine.video.play.plan import Way, make_plan
from vtag.engine.video.write.cut import cut
from vtag.engine.video.write.pictures import render_picture
from vtag.engine.video_clock import VideoClock

pytestmark = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="no ffmpeg to compare with")
ROUNDING_S = 0.0015  # times of the library are whole milliseconds

CLOCKS: dict[str, Callable[[Path], Path]] = {
    "late picture": footage.late_picture,
    "joined clocks": footage.joined,
    "variable rate": footage.variable_rate,
    "timecode": footage.with_timecode,
    "edit list": footage.with_edit_list,
    "B-frames before the first key frame": footage.leading_b_frames,
    "begins within a group": footage.within_group,
}
MORE_CLOCKS: dict[str, Callable[[Path], Path]] = {
    "late picture in mkv": partial(footage.late_picture, name="late.mkv"),
    "late picture in ts": partial(footage.late_picture, name="late.ts"),
    "late picture in flv": partial(footage.late_picture, name="late.flv"),
    "mkv from 10 s": footage.late_file,
    "mp4 from 10 s": partial(footage.late_file, name="ten.mp4"),
    "ts around the wrap": partial(footage.late_file, name="wrap.ts", offset_s=95440),
    "DVD": partial(footage.joined, name="dvd.vob"),
    "ts that jumps ahead": partial(footage.joined, name="ahead.ts", second_offset_s=500),
    "DVD that jumps ahead": partial(footage.joined, name="ahead.vob", second_offset_s=500),
    "variable rate in mkv": partial(footage.variable_rate, name="phone.mkv"),
    "timecode with drop frames": partial(
        footage.with_timecode, timecode="01:00:00;00", fps=Fraction(30000, 1001)
    ),
    "timecode of 29.97 without": partial(
        footage.with_timecode, timecode="10:00:00:00", fps=Fraction(30000, 1001)
    ),
    "timecode in mxf": lambda folder: footage.converted(
        folder, "a.mxf", "-c:v", "mpeg2video", "-q:v", 2, "-ar", 48000, "-timecode", "14:09:42:00"
    ),
    "23.976": partial(footage.at_rate, name="film.mkv", fps=Fraction(24000, 1001)),
    "29.97": partial(footage.at_rate, name="tv.mp4", fps=Fraction(30000, 1001)),
    "59.94": partial(footage.at_rate, name="tv.ts", fps=Fraction(60000, 1001)),
    "240": partial(footage.at_rate, name="slow.mp4", fps=240),
    "12.5": partial(footage.at_rate, name="few.mp4", fps=Fraction(25, 2), seconds=5),
    "avi": lambda folder: footage.converted(folder, "a.avi"),
    "gif": lambda folder: footage.converted(folder, "a.gif"),
    "fragments": partial(footage.late_file, name="live.mp4", offset_s=7),
}


class Case(NamedTuple):
    """A moment, by ffmpeg: the times of its first frame and of the one behind it, and their numbers."""

    path: Path
    start_s: float
    end_s: float
    first: int
    end: int
    frame_s: float  # the longest time from one frame to the next around the start


def shown_moment(path: Path) -> Case:
    """A moment from frame to frame in the second half of a video."""
    frames = footage.shown_frames(path)
    a, b = 6 * len(frames) // 10, 8 * len(frames) // 10
    steps = [later[0] - earlier[0] for earlier, later in zip(frames[a - 2 :], frames[a + 2 :], strict=False)]
    return Case(path, frames[a][0], frames[b][0], frames[a][1], frames[b][1], statistics.median(steps) / 4)


def ways_out(item: ExportedMoment, folder: Path) -> Iterator[tuple[str, float, float]]:
    """Each export with the start and end (s) that another program reads from it."""
    yield "srt", *_seconds_of_cue(format_writer("srt")([item]))
    (caption,) = webvtt.from_string(format_writer("vtt")([item])).captions
    yield "vtt", _vtt_seconds(caption.start), _vtt_seconds(caption.end)
    (row,) = csv.reader(io.StringIO(format_writer("csv")([item])))
    yield "csv", float(row[0]), float(row[1])
    (values,) = json.loads(format_writer("json")([item]))
    yield "json", values["start_ms"] / 1000, values["end_ms"] / 1000
    yield "chapters", *_chapter_in_file(item, folder)
    yield "edl", *_edl_seconds(item)
    clip = next(iter(otio.adapters.read_from_string(format_writer("otio")([item]), "otio_json").find_clips()))
    span, available = clip.source_range, clip.media_reference.available_range
    assert available.contains(span)
    yield (
        "otio",
        (span.start_time - available.start_time).to_seconds(),
        (span.end_time_exclusive() - available.start_time).to_seconds(),
    )


def _seconds_of_cue(text: str) -> tuple[float, float]:
    (cue,) = srt.parse(text)
    return cue.start.total_seconds(), cue.end.total_seconds()


def _vtt_seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _chapter_in_file(item: ExportedMoment, folder: Path) -> tuple[float, float]:
    """The chapter after ffmpeg wrote it into a copy of the video, as the docs say."""
    source, chapters, target = os.fsdecode(item.moment.path), folder / "c.ffmetadata", folder / "chapters.mkv"
    chapters.write_text(format_writer("chapters")([item]), encoding="utf-8")
    footage.ffmpeg(
        "-i",
        source,
        "-i",
        chapters,
        "-map",
        "0:v",
        "-map",
        "0:a?",
        "-map_metadata",
        1,
        "-c:v",
        "mpeg4",
        target,
    )
    command = ["ffprobe", "-v", "error", "-show_chapters", "-of", "json", str(target)]
    (chapter,) = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["chapters"]
    return float(chapter["start_time"]), float(chapter["end_time"])


def _edl_seconds(item: ExportedMoment) -> tuple[float, float]:
    """The source range of the event, less the start timecode, by OpenTimelineIO's numbering."""
    text = format_writer("edl")([item])
    fields = next(line for line in text.splitlines() if line.startswith("001")).split()[4:6]
    rate = float(item.clock.timecode_rate)
    start = str(item.clock.start_timecode or ("00:00:00;00" if ";" in fields[0] else "00:00:00:00"))
    seconds = [otio.opentime.from_timecode(code, rate).to_seconds() for code in (*fields, start)]
    assert all(int(re.split("[:;]", code)[-1]) < round(rate) <= 60 for code in fields)
    assert ("FCM: DROP FRAME" in text) == (";" in fields[0])
    return seconds[0] - seconds[2], seconds[1] - seconds[2]


@pytest.mark.parametrize("name", CLOCKS)
def test_what_leaves_vtag_agrees_with_ffmpeg(name: str, tmp_path: Path, vtag_home: Path) -> None:
    check(CLOCKS[name], tmp_path, vtag_home / "library.db")


@pytest.mark.slow
@pytest.mark.parametrize("name", MORE_CLOCKS)
def test_other_clocks_agree_with_ffmpeg(name: str, tmp_path: Path, vtag_home: Path) -> None:
    check(MORE_CLOCKS[name], tmp_path, vtag_home / "library.db")


def check(make: Callable[[Path], Path], folder: Path, library: Path) -> None:
    """Tag a moment by the times that ffmpeg shows, and look at it by every way out."""
    case = shown_moment(make(folder))
    item, moment = tag(case, library)
    tolerance_s = case.frame_s + ROUNDING_S
    wrong = {
        way: (start_s, end_s)
        for way, start_s, end_s in ways_out(item, folder)
        if abs(start_s - case.start_s) > tolerance_s or abs(end_s - case.end_s) > tolerance_s
    }
    assert not wrong, f"{case}: {wrong}"
    check_pictures(case, moment, item.clock, folder, library)


def tag(case: Case, library: Path) -> tuple[ExportedMoment, Moment]:
    """The moment as exported, and as the library has it, after a person tagged it at the player's times."""
    with LibraryWriter.open(library) as writer:
        content = register_video(writer, os.fsencode(case.path))
        add_roots(writer, [os.fsencode(case.path.parent)])
        clock = content_clock(writer.connection, content)
        start_ms, end_ms = (clock.library_ms(round(1000 * s)) for s in (case.start_s, case.end_s))
        annotation_log.add(writer, content, "mark", start_ms, end_ms)
        (moment,) = search(writer.connection, "mark")
        (item,) = exported_moments.with_video_details(writer.connection, [moment])
    return item, moment


def check_pictures(case: Case, moment: Moment, clock: VideoClock, folder: Path, library: Path) -> None:
    """Stills, clips and the page show the frames that ffmpeg shows."""
    still = footage.number_of_picture(render_picture(moment.path, moment.start_ms))
    assert abs(still - case.first) <= 1, f"still: {still} instead of {case.first}"
    encoded = cut(moment.path, moment.start_ms, moment.end_ms, os.fsencode(folder / "e"), reencode=True)
    numbers = footage.numbers_of(Path(os.fsdecode(encoded.path)))
    assert abs(numbers[0] - case.first) <= 1 and abs(numbers[-1] + 1 - case.end) <= 1, f"encoded: {numbers}"
    copied = cut(moment.path, moment.start_ms, moment.end_ms, os.fsencode(folder / "c"))
    numbers = footage.numbers_of(Path(os.fsdecode(copied.path)))
    assert {case.first + 1, case.end - 2} <= set(numbers), f"copied: {numbers}"
    assert case.first - 80 <= numbers[0] <= case.first + 1 and numbers[-1] <= case.end + 3, (
        f"copied: {numbers}"
    )
    check_page(case, moment, clock)


def check_page(case: Case, moment: Moment, clock: VideoClock) -> None:
    """A browser that plays the file itself shows the frame at the time to which the page's player sets it."""
    plan = make_plan(moment.path)
    if all(way.way is not Way.FILE for way in plan.ways):
        return  # the streams of other files are tested with the player
    start_of_player_ms = plan.file_offset_ms - clock.starts_ms[1][0]  # as in assets/page/player.js
    start_s = (clock.player_ms(moment.start_ms) + start_of_player_ms) / 1000
    start_of_file_s = footage.start_of(case.path)
    frames = [(time + start_of_file_s, number) for time, number in footage.shown_frames(case.path)]
    shown = [number for time, number in frames if time <= start_s + ROUNDING_S][-1]
    assert abs(shown - case.first) <= 1, f"page: {shown} instead of {case.first} at {start_s}"


def test_an_older_library_takes_the_clocks_when_files_are_opened(tmp_path: Path, vtag_home: Path) -> None:
    path = os.fsencode(footage.late_picture(tmp_path))
    with LibraryWriter.open(vtag_home / "library.db") as library:
        content = register_video(library, path)
        annotation_log.add(library, content, "mark", 1000, 2000)
        library.connection.execute("UPDATE contents SET clock = NULL")
        moments = search(library.connection, "mark")
        (closed,) = exported_moments.with_video_details(library.connection, moments)
        (opened,) = exported_moments.with_video_details(library.connection, moments, read_clock)
        assert (closed.moment.start_ms, opened.moment.start_ms) == (1000, 4000)
        assert list(read_missing_clocks(library, [content])) == [ClocksPlanned(1)]
        assert list(read_missing_clocks(library, [content])) == []
        (stored,) = exported_moments.with_video_details(library.connection, moments)
        assert (stored.moment.start_ms, stored.moment.end_ms) == (4000, 5000)
