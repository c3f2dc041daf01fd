"""Whole videos as a browser gets them: the plan, the streams, their times, and the processes that make them."""

from __future__ import annotations

import asyncio
import os
import re
import time
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.flashes import make_flashes, read_beeps, read_flashes, read_sound_range
from helpers.footage import make_numbered, make_video, read_number

from vtag.engine.errors import VideoError
from vtag.engine.video.play import stream_pool
from vtag.engine.video.play.plan import STREAM_OFFSET_S, Way, make_plan
from vtag.engine.video.play.stream import write_stream
from vtag.engine.video.play.stream_pool import StreamError, StreamPool, StreamRequest
from vtag.engine.video.read.hdr import to_sdr

FRAME_S = 1 / 25


def stream(video: Path, way: Way, start_ms: int = 0) -> Path:
    """The stream of a video as a file beside it."""
    file = video.with_name(f"{video.name}-{way}-{start_ms}.mp4")
    with open(file, "wb") as out:
        write_stream(os.fsencode(video), way, start_ms, out)
    return file


@pytest.mark.parametrize(
    ("name", "codec", "sound", "ways", "message"),
    [
        ("a.mp4", "libx264", "aac", ["file", "copy", "convert"], ""),
        ("a.mov", "libx264", "pcm_s16le", ["copy", "convert"],
         "mov with H.264: repackaged while it plays, its PCM sound converted"),
        ("a.mkv", "libx264", "aac", ["copy", "convert"], "mkv with H.264: repackaged while it plays"),
        ("a.webm", "libvpx-vp9", "libopus", ["file", "copy", "convert"], ""),
        ("a.webm", "libvpx", "libopus", ["file", "convert"], ""),
        ("a.ts", "libx264", "aac", ["copy", "convert"], "ts with H.264: repackaged while it plays"),
        ("a.avi", "mpeg4", "mp3", ["convert"], "avi with MPEG-4 ASP and MP3: converted while it plays"),
        ("a.mpg", "mpeg2video", "mp2", ["convert"], "mpg with MPEG-2 and MP2: converted while it plays"),
        ("a.mkv", "libx265", "ac3", ["copy", "convert"],
         "mkv with HEVC: repackaged while it plays, its AC-3 sound converted"),
        ("a.mov", "prores_ks", None, ["convert"], "mov with ProRes: converted while it plays"),
    ],
)  # fmt: skip
def test_a_plan_says_how_a_video_is_played(
    tmp_path: Path, name: str, codec: str, sound: str | None, ways: list[str], message: str
) -> None:
    pix_fmt = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    video = make_flashes(tmp_path / name, seconds=1, codec=codec, sound=sound, pix_fmt=pix_fmt)
    plan = make_plan(video)
    assert ([way.way for way in plan.ways], plan.ways[0].message) == (ways, message)
    assert (plan.width, plan.height, plan.has_sound) == (160, 120, sound is not None)
    assert plan.duration_ms == pytest.approx(1000, abs=45)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("libx264", {"profile": "high"}),
        ("libx264", {"profile": "baseline"}),
        ("libsvtav1", {"preset": "12"}),
    ],
)
def test_codecs_are_named_as_the_dash_muxer_names_them(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    video = make_flashes(tmp_path / "v.mp4", seconds=1, codec=codec, sound=None, options=options)
    with av.open(str(video)) as source, av.open(str(tmp_path / "v.mpd"), "w", format="dash") as target:
        copy = target.add_stream_from_template(source.streams.video[0], opaque=True)
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = copy
                target.mux(packet)
    (expected,) = re.findall(r'codecs="([^"]+)"', (tmp_path / "v.mpd").read_text())
    ways = {way.way: way.type for way in make_plan(video).ways}
    assert ways[Way.COPY] == f'video/mp4; codecs="{expected}"'


@pytest.mark.parametrize(
    ("pix_fmt", "level", "expected"),
    [("yuv420p", "4.1:high-tier=0", "hvc1.1.6.L123.90"), ("yuv420p10le", "5", "hvc1.2.4.H150.90")],
)
def test_hevc_is_named_by_profile_and_level(tmp_path: Path, pix_fmt: str, level: str, expected: str) -> None:
    """Profile, compatible profiles, tier and 30 times the level, progressive: as ISO 14496-15 writes them."""
    options = {"x265-params": f"log-level=none:level-idc={level}"}
    video = make_flashes(
        tmp_path / "v.mkv", seconds=1, codec="libx265", sound=None, pix_fmt=pix_fmt, options=options
    )
    assert make_plan(video).ways[0].type == f'video/mp4; codecs="{expected}"'
    with av.open(str(stream(video, Way.COPY))) as container:
        assert container.streams.video[0].codec_context.codec_tag == "hvc1"  # Safari plays no other


@pytest.mark.parametrize(
    ("name", "codec", "sound", "way"),
    [
        ("a.mkv", "libx265", "ac3", Way.CONVERT),
        ("a.avi", "mpeg4", "mp3", Way.CONVERT),
        ("a.mkv", "libx264", "aac", Way.COPY),
        ("a.ts", "libx264", "mp2", Way.COPY),
    ],
)
def test_sound_and_picture_of_a_stream_are_in_step(
    tmp_path: Path, name: str, codec: str, sound: str, way: Way
) -> None:
    """As far as they are in the file, from any start; and at the times of the video."""
    options = {"bf": "2"} if codec == "libx264" else {}
    video = make_flashes(tmp_path / name, seconds=6, codec=codec, sound=sound, options={"g": "30", **options})
    flashes, beeps = read_flashes(video), read_beeps(video)
    lag_s = np.subtract(beeps, flashes)
    for start_ms in (0, 3400):
        file = stream(video, way, start_ms)
        first = -(-start_ms // 1000)
        streamed = [t - STREAM_OFFSET_S for t in read_flashes(file) if t - STREAM_OFFSET_S >= first - FRAME_S]
        streamed_beeps = [t - STREAM_OFFSET_S for t in read_beeps(file)]
        assert streamed == pytest.approx(np.subtract(flashes, flashes[0])[first:], abs=0.002)
        assert np.subtract(streamed_beeps, streamed) == pytest.approx(lag_s[first:], abs=0.003)


def test_a_stream_begins_with_the_picture_at_its_start(tmp_path: Path) -> None:
    """A copied one with the key frame before it."""
    video = make_numbered(tmp_path / "v.mkv", seconds=6, fps=25, options={"g": "40"})
    for way, first in ((Way.CONVERT, 78), (Way.COPY, 40)):
        with av.open(str(stream(video, way, 3130))) as container:
            frame = next(container.decode(video=0))
            assert read_number(frame.to_ndarray(format="rgb24"), visible_share=1.0) == first
            assert float(frame.pts * frame.time_base) == pytest.approx(
                STREAM_OFFSET_S + first / 25, abs=0.002
            )


def test_silence_fills_what_the_sound_leaves_out(tmp_path: Path) -> None:
    """Otherwise a browser waits for sound that never comes."""
    video = make_flashes(
        tmp_path / "v.mkv", seconds=8, codec="libx264", sound="ac3", sound_from_s=2.5, sound_to_s=4.5
    )
    for start_ms in (0, 1500, 6000):
        file = stream(video, Way.COPY, start_ms)
        start_s, end_s, gap_s = read_sound_range(file)
        assert start_s - STREAM_OFFSET_S == pytest.approx(start_ms / 1000, abs=0.03)
        assert end_s - STREAM_OFFSET_S == pytest.approx(8, abs=0.1)
        assert gap_s < 0.001
        expected = [3, 4] if start_ms < 3000 else []
        assert read_beeps(file) == pytest.approx([STREAM_OFFSET_S + t for t in expected], abs=0.06)


def test_a_converted_picture_is_upright(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=1, width=160, height=96, turn=(90, False, False))
    with av.open(str(stream(video, Way.CONVERT))) as container:
        frame = next(container.decode(video=0))
    assert (frame.width, frame.height) == (96, 160)


def test_a_converted_hdr_picture_has_the_colours_of_its_still(tmp_path: Path) -> None:
    colour = {"color_trc": 16, "color_primaries": 9, "colorspace": 9, "color_range": 1}

    def draw(_: int) -> np.ndarray:
        columns = np.linspace(0, 40000, 96).astype(np.uint16)
        return np.stack(
            [np.tile(columns, (64, 1)), np.full((64, 96), 20000), np.full((64, 96), 9000)], -1
        ).astype(np.uint16)

    video = make_video(
        tmp_path / "v.mp4", seconds=1, fps=5, width=96, height=64, codec="libx265", pix_fmt="yuv420p10le",
        colour=colour, draw=draw, options={"crf": "5"},
    )  # fmt: skip
    with av.open(str(stream(video, Way.CONVERT))) as container:
        shown = next(container.decode(video=0)).to_ndarray(format="rgb24")
    expected = to_sdr(draw(0), 16)
    assert np.abs(shown[32, ::8].astype(int) - expected[32, ::8]).max() < 24


def test_a_video_that_cannot_be_played_says_why(tmp_path: Path) -> None:
    (tmp_path / "v.mkv").write_bytes(b"no video")
    with pytest.raises(VideoError, match="not a video file"):
        make_plan(tmp_path / "v.mkv")

    async def run() -> None:
        async with StreamPool() as pool:
            with pytest.raises(StreamError, match="not a video file"):
                await pool.open(StreamRequest(os.fsencode(tmp_path / "v.mkv"), Way.CONVERT, 0))

    asyncio.run(run())


def test_streams_are_bounded_and_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A player has one; a stalled one makes room; one that nobody reads ends. None leaves a file behind."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    video = os.fsencode(make_flashes(tmp_path / "v.mkv", seconds=60, codec="libx264", sound="aac"))
    monkeypatch.setattr(stream_pool, "MAX_STREAMS", 2)
    monkeypatch.setattr(stream_pool, "_STALLED_S", 30.0)

    async def run() -> None:
        async with StreamPool() as pool:
            first = await pool.open(StreamRequest(video, Way.CONVERT, 0, "a"))
            second = await pool.open(StreamRequest(video, Way.CONVERT, 0, "a"))
            assert first.process.wait(10) != 0  # replaced
            third = await pool.open(StreamRequest(video, Way.CONVERT, 0, "b"))
            with pytest.raises(StreamError, match="close one"):
                await pool.open(StreamRequest(video, Way.CONVERT, 0, "c"))
            monkeypatch.setattr(stream_pool, "_STALLED_S", 0.0)
            await pool.open(StreamRequest(video, Way.CONVERT, 0, "c"))
            assert second.process.wait(10) != 0  # the one that was read last longest ago
            monkeypatch.setattr(stream_pool, "IDLE_S", 0.1)
            start_s = time.monotonic()
            while third.process.poll() is None:
                await asyncio.sleep(0.05)
                assert time.monotonic() - start_s < 20
            monkeypatch.setattr(stream_pool, "IDLE_S", 50.0)
            fourth = await pool.open(StreamRequest(video, Way.CONVERT, 0, "d"))
        assert fourth.process.wait(10) != 0  # with the pool

    asyncio.run(run())
    assert not list(temporary.iterdir())
