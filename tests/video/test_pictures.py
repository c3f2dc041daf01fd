"""Pictures and playable moments show the right frame, upright, and their cache stays bounded."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.footage import make_numbered, make_video, read_number

from vtag.engine.errors import VideoError
from vtag.engine.video.write.picture_cache import PictureCache
from vtag.engine.video.write.pictures import STRIP_TILES, render_picture, render_strip
from vtag.engine.video.write.render_pool import RenderPool


@pytest.fixture(scope="module")
def pool() -> Iterator[RenderPool]:
    """Two processes, which all tests use."""
    pool = RenderPool(2)
    yield pool
    pool.close()


def decode_jpeg(jpeg: bytes) -> np.ndarray:
    with av.open(io.BytesIO(jpeg)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("at_ms", [0, 40, 1000, 3960])
def test_a_picture_is_the_frame_at_its_time(tmp_path: Path, at_ms: int) -> None:
    video = make_numbered(tmp_path / "v.mp4", seconds=4, fps=25, options={"g": "30"})
    assert read_number(decode_jpeg(render_picture(video, at_ms)), visible_share=1.0) == at_ms // 40


def test_a_picture_past_the_end_is_the_last_frame(tmp_path: Path) -> None:
    video = make_numbered(tmp_path / "v.mp4", seconds=2, fps=25)
    assert read_number(decode_jpeg(render_picture(video, 10**7)), visible_share=1.0) == 49


def test_a_rotated_video_is_rendered_upright(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=1, width=160, height=96, turn=(90, False, False))
    height, width, _ = decode_jpeg(render_picture(video, 0)).shape
    assert height > width


@pytest.mark.parametrize("size", [(96, 160), (160, 96), (64, 256), (90, 90)])
def test_a_picture_shows_the_whole_frame(tmp_path: Path, size: tuple[int, int]) -> None:
    """Its corners too, and in its own shape: nothing is cropped or stretched, in portrait either."""
    width, height = size

    def draw(_: int) -> np.ndarray:
        pixels = np.zeros((height, width, 3), np.uint8)
        pixels[: height // 4, : width // 4] = pixels[-height // 4 :, -width // 4 :] = 255
        return pixels

    video = make_video(tmp_path / "v.mp4", seconds=1, width=width, height=height, draw=draw)
    picture = decode_jpeg(render_picture(video, 0))
    assert picture.shape[1] / picture.shape[0] == pytest.approx(min(max(width / height, 1 / 4), 4), rel=0.02)
    assert picture[2, 2].min() > 200 and picture[-3, -3].min() > 200
    assert picture[-3, 2].max() < 50 and picture[2, -3].max() < 50


@pytest.mark.parametrize("suffix", [".mp4", ".avi"])
def test_a_strip_shows_its_range_evenly(tmp_path: Path, suffix: str) -> None:
    codec = "libx264" if suffix == ".mp4" else "mpeg4"
    video = make_numbered(tmp_path / f"v{suffix}", seconds=8, fps=25, codec=codec, options={"g": "60"})
    strip = decode_jpeg(render_strip(video, 1000, 6000))
    tiles = np.split(strip, STRIP_TILES, axis=1)
    numbers = [read_number(tile, visible_share=1.0) for tile in tiles]
    expected = [round(25 * (1.25 + 0.5 * number)) for number in range(STRIP_TILES)]
    assert np.abs(np.subtract(numbers, expected)).max() <= 3  # frames on which no other depends are left out


def test_a_strip_of_a_long_range_shows_key_frames(tmp_path: Path) -> None:
    video = make_numbered(tmp_path / "v.mp4", seconds=60, fps=10, width=64, height=48, options={"g": "20"})
    tiles = np.split(decode_jpeg(render_strip(video, 0, 60_000)), STRIP_TILES, axis=1)
    assert [read_number(tile, visible_share=1.0) for tile in tiles] == [
        20 + 60 * n for n in range(STRIP_TILES)
    ]


def test_a_picture_is_rendered_once(tmp_path: Path, pool: RenderPool) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=1)
    cache = PictureCache(tmp_path / "cache", pool)
    first = cache.get_picture("key", os.fsencode(video), 0)
    video.unlink()
    assert cache.get_picture("key", os.fsencode(video), 0) == first
    with pytest.raises(VideoError):
        cache.get_picture("key", os.fsencode(video), 1)
    assert [file.name for file in (tmp_path / "cache").iterdir()] == [first.name]


def test_the_cache_stays_bounded(tmp_path: Path, pool: RenderPool) -> None:
    video = make_video(tmp_path / "v.mp4", seconds=2)
    cache = PictureCache(tmp_path / "cache", pool, max_bytes=20_000)
    for at_ms in range(0, 1020, 10):
        cache.get_picture("key", os.fsencode(video), at_ms)
    cached_files = list((tmp_path / "cache").iterdir())
    assert sum(file.stat().st_size for file in cached_files[:51]) < 51 * 20_000 / 2
    assert len(cached_files) < 100


def test_a_decoder_crash_fails_only_its_picture(tmp_path: Path) -> None:
    video = make_video(tmp_path / "v.mkv", seconds=2)
    pool = RenderPool(1)
    cache = PictureCache(tmp_path / "cache", pool)
    cache.get_picture("key", os.fsencode(video), 0)
    (worker,) = pool.pids()
    os.kill(worker, signal.SIGSTOP)  # else it may be done before it is killed
    threading.Timer(0.3, os.kill, (worker, signal.SIGKILL)).start()
    with pytest.raises(VideoError, match="crashed"):
        cache.get_strip("key", os.fsencode(video), 0, 2000)
    cache.get_picture("key", os.fsencode(video), 500)
    pool.close()


def test_the_decoder_ends_if_the_server_is_killed(tmp_path: Path) -> None:
    make_video(tmp_path / "v.mp4", seconds=1)
    code = (
        "import sys, time; from pathlib import Path; from vtag.engine.video.write.picture_cache import PictureCache\n"
        "from vtag.engine.video.write.render_pool import RenderPool\n"
        "if __name__ == '__main__':\n"
        "    pool = RenderPool(1); cache = PictureCache(Path(sys.argv[1]) / 'cache', pool)\n"
        "    cache.get_picture('key', str(Path(sys.argv[1]) / 'v.mp4').encode(), 0)\n"
        "    print(*pool.pids(), flush=True); time.sleep(600)\n"
    )
    (tmp_path / "serve.py").write_text(code)
    server = subprocess.Popen(
        [sys.executable, tmp_path / "serve.py", tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    decoder = int(server.stdout.readline())
    server.kill()
    server.wait()
    deadline = time.monotonic() + 120
    while is_running(decoder):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
