"""The player's clock and the editors' numbering: both ways, and compared with OpenTimelineIO's."""

from __future__ import annotations

from fractions import Fraction
from xml.etree import ElementTree as ET

import opentimelineio as otio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.library.exports.edl import describe_mixed_rates
from vtag.engine.library.exports.edl import write as write_edl
from vtag.engine.library.exports.exported_moments import ExportedMoment
from vtag.engine.library.exports.fcpxml import write as write_fcpxml
from vtag.engine.library.search.moments import Moment
from vtag.engine.library.search.player_times import on_library_clock, on_player_clock
from vtag.engine.timecodes import Numbering, format_timecode, numbering, timecode_frame
from vtag.engine.video_clock import (
    TIMECODE_RATES,
    ClockStretch,
    Timecode,
    VideoClock,
    choose_timecode_rate,
    exact_rate,
)

NTSC_24, NTSC_30, NTSC_60 = (Fraction(nominal * 1000, 1001) for nominal in (24, 30, 60))
# a late picture, a pause that players leave out, and a clock that begins anew
BROKEN = VideoClock(
    (ClockStretch(0, 3_000_000), ClockStretch(500_000_000, 15_000_000), ClockStretch(512_000_000, 27_000_000))
)


@pytest.mark.parametrize(
    ("library_ms", "player_ms"),
    [(0, 3000), (11_000, 14_000), (100_000, 15_000), (500_000, 15_000), (506_000, 21_000), (513_000, 28_000)],
)
def test_times_are_mapped_by_stretches(library_ms: int, player_ms: int) -> None:
    assert BROKEN.player_ms(library_ms) == player_ms
    if library_ms != 100_000:  # within the pause no picture begins
        assert BROKEN.library_ms(player_ms) == library_ms


def test_times_before_the_first_picture_are_the_first_picture() -> None:
    assert BROKEN.library_ms(0) == BROKEN.library_ms(2999) == 0


@given(st.integers(-(10**7), 10**9), st.integers(0, 10**8))
def test_a_time_comes_back(offset_us: int, time_ms: int) -> None:
    clock = VideoClock((ClockStretch(0, offset_us),))
    if time_ms * 1000 + offset_us >= 500:
        assert clock.library_ms(clock.player_ms(time_ms)) == time_ms
    assert VideoClock.from_json(clock.to_json()) == clock


@pytest.mark.parametrize(
    ("us", "ms"), [(499, 0), (500, 1), (1499, 1), (1500, 2), (-499, 0), (-500, -1), (-1500, -2)]
)
def test_half_a_millisecond_is_rounded_away_from_zero(us: int, ms: int) -> None:
    assert VideoClock((ClockStretch(0, us),)).starts_ms == ([0], [ms])


def test_a_pause_that_players_leave_out_is_the_moment_after_it() -> None:
    clock = VideoClock((ClockStretch(0, 0), ClockStretch(10_000_000, 2_000_000)))
    assert [clock.player_ms(ms) for ms in (1999, 2001, 5000, 10_000, 11_000)] == [
        1999,
        2000,
        2000,
        2000,
        3000,
    ]
    assert BROKEN.library_ms(1000) == 0  # before the first picture


def test_only_a_clock_without_differences_is_plain() -> None:
    others = (BROKEN, VideoClock((ClockStretch(0, 1),)), VideoClock((ClockStretch(1, 0),)))
    assert VideoClock(frame_rate=NTSC_24).is_plain and not any(clock.is_plain for clock in others)


@pytest.mark.parametrize("start", [None, Timecode(1, 2, 3, 4), Timecode(23, 59, 59, 29, is_drop=True)])
def test_a_stored_clock_is_the_same(start: Timecode | None) -> None:
    clock = VideoClock(BROKEN.stretches, NTSC_24, NTSC_30, start)
    assert VideoClock.from_json(clock.to_json()) == clock


@pytest.mark.parametrize(
    ("text", "timecode"),
    [
        ("23:59:59:24", Timecode(23, 59, 59, 24)), (" 1:02:03;04 ", Timecode(1, 2, 3, 4, is_drop=True)),
        ("01:02:03.04", Timecode(1, 2, 3, 4, is_drop=True)), ("00:00:00:119", Timecode(0, 0, 0, 119)),
        ("24:00:00:00", None), ("00:60:00:00", None), ("00:00:60:00", None), ("00:00:00", None),
    ],
)  # fmt: skip
def test_a_timecode_is_read_within_a_day(text: str, timecode: Timecode | None) -> None:
    assert Timecode.parse(text) == timecode
    assert timecode is None or Timecode.parse(str(timecode)) == timecode


@pytest.mark.parametrize(
    ("known", "rate"),
    [(None, 25), (0, 25), (-1, 25), (0.5, Fraction(1, 2)), (29.97, NTSC_30), (1000, 1000), (1000.5, 25)],
)
def test_a_clock_is_assumed_by_the_frame_rate(known: float | None, rate: Fraction) -> None:
    clock = VideoClock.assumed(known)
    assert (clock.frame_rate, clock.is_plain, clock.start_timecode) == (rate, True, None)
    assert clock.timecode_rate == choose_timecode_rate(Fraction(rate), Fraction(rate))


def test_a_moment_has_a_length_on_both_clocks() -> None:
    moment = Moment(1, b"/v/a.mov", "x", 100_000, 200_000, 1.0, None, "user", True)  # within the pause
    there = on_player_clock(moment, BROKEN)
    assert (there.start_ms, there.end_ms) == (15_000, 15_001)
    back = on_library_clock(moment._replace(start_ms=0, end_ms=3000), BROKEN)  # before the first picture
    assert (back.start_ms, back.end_ms) == (0, 1)
    assert on_player_clock(moment, VideoClock()) is moment is on_library_clock(moment, VideoClock())


@pytest.mark.parametrize(
    ("average", "usual", "base"),
    [
        *((rate, rate, rate) for rate in TIMECODE_RATES),
        (240, 240, 60), (120, 120, 60), (100, 100, 50), (NTSC_60 * 4, NTSC_60 * 4, NTSC_60), (48, 48, 24),
        (90, 90, 30), (15, 15, 30), (Fraction(25, 2), Fraction(25, 2), 25), (12, 12, 24), (1, 1, 24), (10, 10, 30),
        (NTSC_30 / 2, NTSC_30 / 2, NTSC_30),
        # times in milliseconds: 33, 42, 17 and 4 of them
        (30, Fraction(1000, 33), 30), (NTSC_24, Fraction(1000, 42), NTSC_24), (NTSC_60, Fraction(1000, 17), NTSC_60),
        (240, 250, 60),
        # variable rates
        (Fraction(117, 4), 30, 30), (Fraction(117, 4), Fraction(1000, 34), 30), (Fraction(55, 2), NTSC_30, NTSC_30),
        (Fraction(23), Fraction(200), 50), (Fraction(271, 10), Fraction(271, 10), 30),
        (Fraction(777), Fraction(777), 60),
    ],
)  # fmt: skip
def test_the_base_is_that_of_the_footage(average: Fraction, usual: Fraction, base: Fraction) -> None:
    assert choose_timecode_rate(Fraction(average), Fraction(usual)) == base


@pytest.mark.parametrize(
    ("rounded", "exact"),
    [
        ("29.97", NTSC_30),
        ("23.976", NTSC_24),
        ("19001/317", NTSC_60),
        ("30", 30),
        ("29.25", Fraction(117, 4)),
        ("59.9401", NTSC_60),
        ("960", 960),
        ("1/10", Fraction(1, 10)),
        ("1/1001", Fraction(1, 1001)),
        ("1/1002", Fraction(1, 1001)),
        ("6000300/200010", 30),
    ],
)
def test_rounded_rates_are_made_exact(rounded: str, exact: Fraction) -> None:
    assert exact_rate(Fraction(rounded)) == exact


@given(st.sampled_from(TIMECODE_RATES), st.booleans(), st.integers(0, 24 * 3600 * 60))
def test_frames_are_numbered_as_opentimelineio_does(rate: Fraction, drops: bool, frame: int) -> None:
    drops = drops and rate in (NTSC_30, NTSC_60)
    numbers = Numbering(rate, drops)
    frame %= round(float(rate) * 24 * 3600) - 100
    text = otio.opentime.to_timecode(
        otio.opentime.RationalTime(frame, float(rate)),
        float(rate),
        drops,
    )
    assert numbers.format(frame) == text
    hours, minutes, seconds, frames = map(int, text.replace(";", ":").split(":"))
    assert numbers.count(hours, minutes, seconds, frames) == frame


def item(clock: VideoClock, start_ms: int = 5000, name: str = "a") -> ExportedMoment:
    moment = Moment(1, f"/v/{name}.mov".encode(), "x", start_ms, start_ms + 3000, 1.0, None, "user", True)
    return ExportedMoment(moment, 20_000, clock)


def source_in(text: str, event: int = 1) -> str:
    return next(line for line in text.splitlines() if line.startswith(f"{event:03}")).split()[4]


def test_a_list_keeps_each_numbering_and_says_it() -> None:
    drop = VideoClock(frame_rate=NTSC_30, timecode_rate=NTSC_30, start_timecode=Timecode.parse("01:00:00;00"))
    non_drop = VideoClock(
        frame_rate=NTSC_30, timecode_rate=NTSC_30, start_timecode=Timecode.parse("10:00:00:00")
    )
    text = write_edl([item(drop), item(non_drop, 600_000), item(drop)])
    assert [line for line in text.splitlines() if line.startswith("FCM")] == [
        "FCM: DROP FRAME", "FCM: NON-DROP FRAME", "FCM: DROP FRAME"
    ]  # fmt: skip
    assert source_in(text) == "01:00:05;00"
    assert source_in(text, 2) == "10:09:59:12"
    assert describe_mixed_rates([item(drop), item(non_drop)]) == ""


def test_a_project_of_several_rates_says_each_rate_and_plays_in_real_time() -> None:
    """FCPXML: times are whole frames of their own rate, and clips of other rates are not stretched."""
    film = VideoClock(frame_rate=NTSC_24, timecode_rate=NTSC_24)
    tv = VideoClock(frame_rate=NTSC_30, timecode_rate=NTSC_30, start_timecode=Timecode.parse("01:00:00;00"))
    root = ET.fromstring(write_fcpxml([item(tv), item(tv), item(film, name="b")]))
    rates = {f.get("id"): 1 / Fraction(f.get("frameDuration", "").rstrip("s")) for f in root.iter("format")}
    assert set(rates.values()) == {NTSC_30, NTSC_24}
    sequence = next(root.iter("sequence"))
    assert rates[sequence.get("format")] == NTSC_30
    clips = list(root.iter("asset-clip"))
    assert [c.find("conform-rate") is not None for c in clips] == [False, False, True]
    conform = clips[2].find("conform-rate")
    assert conform is not None and conform.attrib == {"scaleEnabled": "0", "srcFrameRate": "23.98"}
    assert [clip.get("tcFormat") for clip in clips] == ["DF", "DF", "NDF"]
    position = Fraction(0)
    for clip, rate in zip(clips, (NTSC_30, NTSC_30, NTSC_24), strict=True):
        offset, start, length = (
            Fraction(clip.get(name, "").rstrip("s")) for name in ("offset", "start", "duration")
        )
        assert offset == position and (start * rate).denominator == (length * NTSC_30).denominator == 1
        assert abs(length - 3) < Fraction(1, 25)
        position += length
    assert Fraction(sequence.get("duration", "").rstrip("s")) == position


def test_another_rate_in_a_list_is_said() -> None:
    film = VideoClock(frame_rate=Fraction(24), timecode_rate=Fraction(24))
    camera = VideoClock(start_timecode=Timecode.parse("14:09:42:10"))
    items = [item(camera), item(camera, name="b"), item(film, name="c")]
    text = write_edl(items)
    assert [source_in(text, event) for event in (1, 3)] == ["14:09:47:10", "00:00:05:00"]
    assert text.count("* SOURCE FRAME RATE: 24\n") == 1
    assert "the list has 25 frames a second, 1 video has 24" in describe_mixed_rates(items)
    assert source_in(write_edl([*items, *2 * [item(film)]]), 1) == "14:09:47:09"  # 10/25 s is frame 9 of 24


def test_frames_of_a_fast_camera_are_counted_at_its_base() -> None:
    fast = VideoClock(
        frame_rate=Fraction(240), timecode_rate=Fraction(60), start_timecode=Timecode.parse("01:00:00:120")
    )
    assert Numbering(Fraction(60), False).format(timecode_frame(fast, 2500)) == "01:00:03:00"


def test_frames_are_dropped_unless_the_start_timecode_keeps_them() -> None:
    starts = (None, Timecode(1, 0, 0, 0), Timecode(1, 0, 0, 0, is_drop=True))
    drops = [
        numbering(VideoClock((), rate, rate, start)).is_drop for rate in (NTSC_30, 25) for start in starts
    ]
    assert drops == [True, False, True, False, False, False]
    assert [Numbering(rate, False).nominal for rate in (NTSC_24, NTSC_30, NTSC_60)] == [24, 30, 60]
    assert format_timecode(VideoClock(start_timecode=starts[1]), 1500) == "01:00:01:13"


@pytest.mark.parametrize(("frames", "rate", "frame"), [(60, 120, 30), (119, 100, 59), (59, 120, 59)])
def test_a_start_beyond_the_base_is_one_of_a_fast_camera(frames: int, rate: int, frame: int) -> None:
    clock = VideoClock(
        frame_rate=Fraction(rate), timecode_rate=Fraction(60), start_timecode=Timecode(0, 0, 0, frames)
    )
    assert timecode_frame(clock, 0) == frame
