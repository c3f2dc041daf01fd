"""Reading clips: their frames, the number of passes over a file, and damaged files."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_numbered, make_video, read_numbers

from vtag.engine.errors import VideoError
from vtag.engine.video.read.data_end import data_end
from vtag.engine.video.read.frames import FrameSource
from vtag.engine.video.read.probe import probe_stream
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling, plan_windows

USUAL = Sampling.create(32, 15.0)


def frame_numbers(path: Path, sampling: Sampling = USUAL, **kwargs: object) -> dict[int, list[int]]:
    """Start of each window -> the numbers of its frames."""
    return {c.start_ms: read_numbers(c.pixels) for c in read_clips(path, sampling, **kwargs)}  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.mov"])
def test_thirty_frames_a_second_give_every_second_frame(tmp_path: Path, name: str) -> None:
    path = make_numbered(tmp_path / name, seconds=5)
    assert frame_numbers(path) == {0: list(range(0, 64, 2)), 2133: list(range(64, 128, 2))}


@pytest.mark.parametrize("options", [{}, {"preset": "medium"}], ids=["plain", "reordered"])
def test_frames_that_are_stored_out_of_order_are_sampled_in_order(
    tmp_path: Path, options: dict[str, str]
) -> None:
    for name in ("b.mp4", "b.mkv", "b.avi", "b.ts"):
        path = make_numbered(tmp_path / name, seconds=3, options=options)
        assert frame_numbers(path) == {0: list(range(0, 64, 2))}, name


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (60, [4 * k for k in range(32)]),
        (15, list(range(32))),
        (10, [2 * k // 3 for k in range(32)]),
        (Fraction(30000, 1001), [2 * k for k in range(32)]),
        (25, [5 * k // 3 for k in range(32)]),
        (1, [k // 15 for k in range(32)]),
    ],
)
def test_every_frame_rate_is_sampled_by_time(tmp_path: Path, fps: Fraction, expected: list[int]) -> None:
    path = make_numbered(tmp_path / "rate.mp4", seconds=3, fps=fps)
    assert frame_numbers(path)[0] == expected


def test_a_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    times = [0, 0.1, 0.2, 0.5, 1.0, 1.05, 1.1, 1.9, 2.05, 2.1]
    path = make_numbered(tmp_path / "vfr.mp4", times=times)
    expected = [max(i for i, t in enumerate(times) if t <= k / 15 + 0.0011) for k in range(32)]
    assert frame_numbers(path)[0] == expected


def test_a_short_video_wraps_around(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "short.mp4", seconds=1)
    reader = read_clips(path, USUAL)
    clips = list(reader)
    assert [(c.start_ms, c.end_ms) for c in clips] == [(0, 1000)]
    assert read_numbers(clips[0].pixels) == [2 * k % 30 for k in range(32)]


@pytest.mark.parametrize("frames", [1, 2])
def test_very_few_frames_fill_a_clip(tmp_path: Path, frames: int) -> None:
    path = make_numbered(tmp_path / "few.mp4", seconds=frames / 30)
    assert frame_numbers(path) == {0: [0] * 32}  # every second frame of one or two


def test_the_last_window_ends_at_the_true_end(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "tail.mp4", seconds=4)
    windows = frame_numbers(path)
    assert list(windows) == [0, 4000 - 2133]
    assert windows[1867][-1] == 118 and windows[1867][0] == 56


def test_overlapping_windows_share_their_frames(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "overlap.mp4", seconds=6)
    sampling = Sampling.create(32, 15.0, stride_s=1.0)
    windows = frame_numbers(path, sampling)
    assert list(windows) == [0, 1000, 2000, 3000]
    assert all(windows[s] == [30 * s // 1000 + 2 * k for k in range(32)] for s in windows)


def test_a_wide_stride_leaves_gaps_between_windows(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "wide.mp4", seconds=9, options={"g": "30"})
    assert list(frame_numbers(path, Sampling.create(16, 15.0, stride_s=3.0))) == [0, 3000, 6000, 7934]


def test_skipped_windows_do_not_change_the_other_ones(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "skip.mp4", seconds=10)
    all_windows = frame_numbers(path)
    assert list(all_windows) == [w.start_ms for w in plan_windows(10_000, USUAL)]
    assert frame_numbers(path, skip={0, 4266}) == {s: n for s, n in all_windows.items() if s not in (0, 4266)}
    assert frame_numbers(path, skip=lambda start: start != 6400) == {6400: all_windows[6400]}


def test_a_video_is_not_decoded_if_all_windows_are_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_numbered(tmp_path / "known.mp4", seconds=5)
    known_starts = [w.start_ms for w in plan_windows(5000, USUAL)]
    restarted = []
    monkeypatch.setattr(FrameSource, "restart", lambda self: restarted.append(self))
    assert frame_numbers(path, skip=known_starts) == {} and not restarted


@pytest.mark.parametrize("name", ["far.mp4", "far.mkv", "far.ts", "far.avi", "far.mpg", "far.flv"])
def test_seeking_to_distant_windows_gives_the_same_frames(tmp_path: Path, name: str) -> None:
    codec = {"far.mpg": "mpeg2video", "far.flv": "flv"}.get(name, "libx264")
    path = make_numbered(tmp_path / name, seconds=100, width=64, height=64, codec=codec, options={"g": "60"})
    starts = [0, 44800, 57600]
    progress: list[int] = []
    windows = frame_numbers(path, skip=lambda start: start not in starts, on_progress=progress.append)
    assert {s: n[0] for s, n in windows.items()} == {s: s * 30 // 1000 for s in starts}
    assert all(n == list(range(n[0], n[0] + 64, 2)) for n in windows.values())
    assert len(progress) < 1500  # packets, of 3000


def test_one_keyframe_in_the_whole_file_is_no_obstacle(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "one-key.mp4", seconds=60, options={"g": "100000"})
    windows = frame_numbers(path, skip=lambda start: start != 44800)
    assert windows[44800] == list(range(1344, 1408, 2))


def test_a_gap_in_time_gives_no_windows(tmp_path: Path) -> None:
    times = [i / 30 for i in range(30)] + [31 + i / 30 for i in range(60)]
    path = make_numbered(tmp_path / "hole.mp4", times=times)
    reader = read_clips(path, USUAL)
    windows = {c.start_ms: read_numbers(c.pixels) for c in reader}
    assert list(windows) == [0, 29866]
    assert windows[0] == [2 * k for k in range(15)] + [29] * 17
    assert reader.empty_windows == 13 and reader.clip_count == 2


def test_every_slow_slide_is_in_a_window(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "slides.mp4", times=[0, 20, 40, 60, 62], options={"g": "1"})
    windows = frame_numbers(path)
    assert sorted({n for clip in windows.values() for n in clip}) == [0, 1, 2, 3]
    assert len(windows) == 4  # and not the 25 windows in which nothing new appears


def test_one_wrong_timestamp_does_not_move_the_others(tmp_path: Path) -> None:
    times = [i / 30 for i in range(90)]
    times[40] = 5000.0
    path = tmp_path / "wild.mkv"
    _write_with_packet_times(path, times)
    windows = frame_numbers(path)
    assert windows[0][:16] == list(range(0, 32, 2)) and windows[0][25:] == list(range(50, 64, 2))


def test_timestamps_that_start_again_continue(tmp_path: Path) -> None:
    """A transport stream of two recordings: the timestamps of the second begin at zero again."""
    path = tmp_path / "twice.ts"
    parts = [make_numbered(tmp_path / f"{i}.ts", seconds=3, options={"g": "15"}) for i in range(2)]
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    reader = read_clips(path, USUAL)
    windows = [read_numbers(c.pixels) for c in reader]
    assert 5800 <= reader.info.duration_ms <= 6300
    assert len(windows) == 3


def test_times_do_not_depend_on_the_first_timestamp(tmp_path: Path) -> None:
    for offset in (-1.0, 3.5):
        path = tmp_path / "offset.mkv"
        _write_with_packet_times(path, [max(0, offset) + i / 30 for i in range(90)], codec="mjpeg")
        assert frame_numbers(path) == {0: list(range(0, 64, 2))}


def _write_with_packet_times(path: Path, times: list[float], codec: str = "mpeg2video") -> None:
    """Write intra-coded frames with these packet times, in any order."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options={"g": "1"})
        stream.width, stream.height = 160, 120
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        from helpers.footage import numbered_frame

        encoded = []
        for i in range(len(times)):
            frame = av.VideoFrame.from_ndarray(numbered_frame(i, 160, 120), format="rgb24").reformat(
                format=stream.pix_fmt
            )
            frame.pts = i
            encoded += stream.encode(frame)
        encoded += stream.encode(None)
        for i, (packet, t) in enumerate(zip(encoded, times, strict=True)):
            packet.pts = round(t / packet.time_base)
            packet.dts = min(packet.pts, round(max(t, i / 30) / packet.time_base)) if t < 1000 else packet.dts
            container.mux(packet)


# --- files that are not what they should be -----------------------------------------------------------------


def test_a_container_that_claims_fifty_minutes_has_the_windows_of_its_frames(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "liar.mkv", seconds=5)
    data = bytearray(path.read_bytes())
    offset = data.index(b"\x44\x89\x88") + 3  # Matroska's Duration, a float64 in milliseconds
    data[offset : offset + 8] = np.array([3_000_000.0], dtype=">f8").tobytes()
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.duration == 3_000_000_000
    reader = read_clips(path, USUAL)
    assert [c.start_ms for c in reader] == [0, 2133]
    assert reader.info.duration_ms == 5000


@pytest.mark.parametrize("name", ["cut.mkv", "cut.ts", "cut.mp4"])
def test_a_truncated_file_is_read_to_its_end(tmp_path: Path, name: str) -> None:
    path = make_numbered(tmp_path / name, seconds=8, options={"movflags": "faststart", "g": "30"})
    if name.endswith(".mp4"):
        _move_index_to_the_front(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.7)])
    reader = read_clips(path, USUAL)
    windows = {c.start_ms: read_numbers(c.pixels) for c in reader}
    assert windows[0] == list(range(0, 64, 2))
    assert 4000 < reader.info.duration_ms < 7900
    assert list(windows) == [w.start_ms for w in plan_windows(reader.info.duration_ms, USUAL)]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("name", "has_end"), [("a.mkv", False), ("a.avi", False), ("a.mkv", True)])
def test_a_half_downloaded_file_is_read_to_its_first_gap(tmp_path: Path, name: str, has_end: bool) -> None:
    """Downloads take the space of the whole file first: 3 GB of zeros, in which libav looked for a packet."""
    path = make_numbered(tmp_path / name, seconds=8, codec="mpeg4", options={"g": "15", "b": "4000000"})
    data = path.read_bytes()
    with path.open("r+b") as file:
        file.truncate(int(len(data) * 0.7))
        file.truncate(3 << 30)
        if has_end:
            file.seek(-len(data) // 10, os.SEEK_END)
            file.write(data[-len(data) // 10 :])
    reader = read_clips(path, USUAL)
    windows = {c.start_ms: read_numbers(c.pixels) for c in reader}
    assert windows[0] == list(range(0, 64, 2))
    assert 4000 < reader.info.duration_ms < 7900
    assert "it ends early" in reader.note


def test_the_end_of_the_data_is_found(tmp_path: Path) -> None:
    mb, path = 1 << 20, tmp_path / "a.avi"
    data = b"data" * (mb // 4)
    cases = (
        (data * 40, 40),
        (data * 40 + bytes(10 * mb), 50),  # a pause of zeros as containers have it
        (data * 20 + bytes(40 * mb), 20),
        (b"1234ftyp" * (mb // 8) + bytes(39 * mb), 40),  # MP4 has an index, perhaps behind the gap
        (bytes(40 * mb), 0),
    )
    for content, expected_mb in cases:
        path.write_bytes(content)
        found = data_end(path)
        assert (
            found == len(content)
            if expected_mb * mb == len(content)
            else 0 <= found - expected_mb * mb <= 16 * mb
        )


def _move_index_to_the_front(path: Path) -> None:
    moved = path.with_suffix(".front.mp4")
    with av.open(str(path)) as source, av.open(str(moved), "w", options={"movflags": "faststart"}) as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    moved.replace(path)


def test_noise_in_the_middle_costs_only_some_packets(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "noise.mp4", seconds=10, options={"g": "15"})
    data = bytearray(path.read_bytes())
    body = data.index(b"mdat") + 4
    size = data.index(b"moov") - body
    noise = np.random.default_rng(0).integers(0, 256, size // 6, dtype=np.uint8).tobytes()
    data[body + size // 3 : body + size // 3 + len(noise)] = noise
    path.write_bytes(data)
    reader = read_clips(path, USUAL)
    windows = {c.start_ms: read_numbers(c.pixels) for c in reader}
    assert reader.broken_packets > 5
    assert windows[0] == list(range(0, 64, 2))
    assert windows[max(windows)][-1] >= 295
    assert reader.info.duration_ms == 10_000


def test_the_last_window_follows_from_the_decoded_duration(tmp_path: Path) -> None:
    """The last packets are there but cannot be decoded: the video ends before them, its last window too."""
    path = make_numbered(tmp_path / "end.mp4", seconds=6, options={"g": "30", "bf": "0"})
    with av.open(str(path)) as container:
        last = [(p.pos, p.size) for p in container.demux(video=0) if p.size][-40:]
    data = bytearray(path.read_bytes())
    for offset, size in last:
        data[offset : offset + size] = b"\xff" * size
    path.write_bytes(data)
    reader = read_clips(path, USUAL)
    assert reader.info.duration_ms == 6000
    windows = {c.start_ms: read_numbers(c.pixels) for c in reader}
    assert reader.info.duration_ms == round(140 / 30 * 1000)
    assert list(windows) == [0, 2133]
    assert [w.start_ms for w in plan_windows(4667, USUAL)] == [0, 2133]


def test_a_short_video_wraps_at_its_decoded_duration(tmp_path: Path) -> None:
    """If a video is shorter than a window, its frame times wrap at the duration that decoding found."""
    path = make_numbered(tmp_path / "end.mp4", seconds=1, options={"g": "5", "bf": "0"})
    with av.open(str(path)) as container:
        last = [(p.pos, p.size) for p in container.demux(video=0) if p.size][-10:]
    data = bytearray(path.read_bytes())
    for offset, size in last:
        data[offset : offset + size] = b"\xff" * size
    path.write_bytes(data)
    assert frame_numbers(path) == {0: [2 * k % 20 for k in range(32)]}


def test_a_stream_that_changes_its_size_keeps_the_shape_of_clips(tmp_path: Path) -> None:
    parts = [
        make_video(tmp_path / "a.ts", seconds=3, width=320, height=240, options={"g": "15"}),
        make_video(tmp_path / "b.ts", seconds=3, width=240, height=320, options={"g": "15"}),
    ]
    path = tmp_path / "changes.ts"
    path.write_bytes(b"".join(p.read_bytes() for p in parts))
    for view, shape in (
        ("center", (1, 32, 224, 224, 3)),
        ("full", (1, 32, 256, 352, 3)),
        ("three", (3, 32, 224, 224, 3)),
    ):
        clips = list(read_clips(path, Sampling.create(32, 15.0, view=view)))
        assert len(clips) >= 2
        assert {c.pixels.shape for c in clips} == {shape}


def test_the_views_of_a_clip_are_crops_of_one_picture(tmp_path: Path) -> None:
    path = make_video(tmp_path / "views.mp4", seconds=3, width=320, height=180)
    (three,) = read_clips(path, Sampling.create(32, 15.0, view="three"))
    assert three.pixels.shape == (3, 32, 224, 224, 3)
    left_crop, right_crop, middle_crop = three.pixels[:, 5].astype(int)
    assert np.abs(left_crop[:, 87:] - middle_crop[:, :137]).mean() < 1  # 398 wide: the middle begins at 87
    assert np.abs(right_crop[:, : 224 - 87] - middle_crop[:, 87:]).mean() < 1


def test_clips_are_written_to_the_allocated_memory(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "place.mp4", seconds=5)
    allocated: list[np.ndarray] = []

    def allocate(shape: tuple[int, ...]) -> np.ndarray:
        allocated.append(np.zeros(shape, np.uint8))
        return allocated[-1]

    clips = list(read_clips(path, USUAL, allocate=allocate))
    assert [c.pixels is g for c, g in zip(clips, allocated, strict=True)] == [True, True]


def test_stopping_early_closes_the_file(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "early.mp4", seconds=8)
    reader = read_clips(path, USUAL)
    assert next(iter(reader)).start_ms == 0
    reader.close()
    assert list(reader) == []
    if os.path.isdir("/proc/self/fd"):
        open_files = [
            os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_link(fd)
        ]
        assert str(path) not in open_files


def _is_link(fd: str) -> bool:
    return os.path.islink(f"/proc/self/fd/{fd}")


def test_threads_do_not_change_the_pixels(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "threads.mp4", seconds=5, width=960, height=540)
    clips = [[c.pixels for c in read_clips(path, USUAL, threads=n)] for n in (1, 4)]
    assert all(np.array_equal(a, b) for a, b in zip(*clips, strict=True))


def test_a_file_without_a_decodable_frame_is_no_video(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "nothing.mp4", seconds=1)
    data = bytearray(path.read_bytes())
    body, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[body:end] = bytes(end - body)
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"nothing\.mp4: no usable picture"):
        read_clips(path, USUAL)


_PEAK = """
import resource, sys
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling
n = sum(1 for _ in read_clips(sys.argv[1], Sampling.create(32, 15.0), threads=1))
print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no resource module")
def test_twenty_minutes_take_no_more_memory_than_one(tmp_path: Path) -> None:
    peaks: Callable[[Path], tuple[int, int]] = lambda path: tuple(  # noqa: E731
        map(
            int,
            subprocess.run(
                [sys.executable, "-c", _PEAK, str(path)], check=True, capture_output=True
            ).stdout.split(),
        )
    )
    short_clips, short_kb = peaks(make_video(tmp_path / "one.mp4", seconds=60, fps=2))
    long_clips, long_kb = peaks(make_video(tmp_path / "twenty.mp4", seconds=1200, fps=2))
    assert (short_clips, long_clips) == (28, 563)
    assert long_kb < short_kb * 1.1 + 4_000


def test_the_estimated_duration_is_corrected_only_if_it_was_wrong(tmp_path: Path) -> None:
    path = make_numbered(tmp_path / "right.mp4", seconds=5)
    stream_info = probe_stream(path)
    reader = read_clips(path, USUAL)
    list(reader)
    assert reader.stream_info == stream_info


@pytest.mark.parametrize("rate", [240.0, 1000.0])
def test_windows_shorter_than_a_frame_are_complete(tmp_path: Path, rate: float) -> None:
    path = make_numbered(tmp_path / "fast.mp4", seconds=1)
    sampling = Sampling.create(8, rate, stride_s=0.1)
    windows = frame_numbers(path, sampling)
    assert list(windows)[:9] == list(range(0, 900, 100))
    assert windows[500] == [15 + int((k / rate) * 30 + 1 / 8) for k in range(8)]


def test_a_video_of_a_few_milliseconds_is_read(tmp_path: Path) -> None:
    path = make_numbered(
        tmp_path / "blink.mp4", times=[i / 12800 for i in range(30)], time_base=Fraction(1, 12800)
    )
    reader = read_clips(path, USUAL)
    (clip,) = reader
    assert clip.pixels.shape == (1, 32, 224, 224, 3) and 1 <= clip.end_ms <= 40
