"""The shared clips and the difficult files, each with its expected windows, duration and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vtag.engine.video.read.container import UnusableVideo
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling

USUAL = Sampling.create(32, 15.0)

# name -> clips, milliseconds, (width, height) upright
CLIPS = {
    "apply_eye_makeup__002.avi": (3, 6560, (320, 240)),
    "archery__022.avi": (2, 5240, (320, 240)),
    "archery__052.ogv": (2, 4000, (320, 240)),
    "arm_wrestling__001.mp4": (5, 10000, (427, 256)),
    "arm_wrestling__053.mov": (1, 2000, (427, 256)),
    "big-buck-bunny__036.webm": (1, 999, (1280, 720)),
    "bottles__039.mp4": (19, 39855, (640, 360)),
    "cartwheeling__013.avi": (1, 2767, (320, 240)),
    "chaplin__037.mp4": (2, 4080, (640, 360)),
    "clean_and_jerk__024.mp4": (5, 10041, (320, 240)),
    "cleaning_pool__003.mp4": (1, 1100, (455, 256)),
    "cleaning_pool__004.mp4": (2, 3267, (455, 256)),
    "dancing__019.mp4": (1, 2625, (1280, 720)),
    "dark-screen__035.webm": (2, 4938, (1280, 720)),
    "dog-on-skateboard__028.mp4": (2, 5138, (576, 1024)),
    "dog-on-skateboard__054.mp4": (2, 4004, (270, 480)),
    "drinking__006.avi": (1, 1200, (1920, 1080)),
    "flipping_pancake__020.mkv": (5, 10333, (426, 240)),
    "flipping_pancake__050.wmv": (2, 5000, (426, 240)),
    "hitting_baseball__015.mp4": (3, 6067, (427, 320)),
    "hitting_baseball__021.mp4": (3, 5572, (640, 360)),
    "hitting_baseball__047.mpg": (1, 2520, (768, 576)),
    "hitting_baseball__055.mov": (2, 4000, (427, 320)),
    "hitting_baseball__056.mp4": (3, 6000, (427, 320)),
    "juggling_soccer_ball__014.avi": (4, 8008, (320, 240)),
    "juggling_soccer_ball__058.mkv": (1, 2999, (320, 240)),
    "making_a_cake__017.mp4": (5, 10000, (320, 427)),
    "man-at-a-door__048.ts": (2, 5000, (640, 360)),
    "mixed-actions__059.mp4": (36, 76000, (426, 240)),
    "nasa-report__031.mp4": (6, 13013, (480, 270)),
    "newtons-cradle__043.gif": (1, 820, (200, 150)),
    "people-at-a-table__040.mp4": (29, 62100, (768, 432)),
    "plant__038.mp4": (1, 1199, (320, 240)),
    "playing_basketball__023.mp4": (2, 4605, (640, 360)),
    "playing_basketball__045.webm": (2, 5005, (640, 360)),
    "playing_bass_guitar__018.mp4": (5, 10000, (470, 320)),
    "playing_bass_guitar__046.mp4": (2, 4000, (470, 320)),
    "playing_drums__030.mp4": (4, 8033, (204, 360)),
    "reading_book__029.mp4": (1, 2640, (640, 360)),
    "reading_book__051.flv": (2, 4000, (426, 240)),
    "riding_or_walking_with_horse__042.gif": (2, 4900, (320, 240)),
    "shooting_basketball__005.mp4": (5, 10010, (426, 240)),
    "sign_language_interpreting__041.mkv": (1, 1700, (640, 480)),
    "skateboarding__060.mov": (1, 533, (1080, 1920)),
    "spinning-test-picture__032.mp4": (7, 14967, (128, 128)),
    "test-picture__033.mkv": (2, 5000, (640, 360)),
    "test-picture__034.mp4": (1, 1000, (128, 128)),
    "using_segway__007.mp4": (5, 10100, (340, 256)),
    "using_segway__008.mp4": (5, 11078, (340, 256)),
    "using_segway__009.mp4": (2, 5072, (340, 256)),
    "using_segway__049.3gp": (3, 6000, (191, 144)),
    "walking_the_dog__025.mp4": (3, 6000, (480, 360)),
    "wave__010.avi": (1, 2400, (560, 240)),
    "wave__011.avi": (1, 2467, (320, 240)),
    "wave__012.avi": (1, 1600, (432, 240)),
    "yoga__016.mp4": (3, 6067, (569, 320)),
    "yoga__044.mov": (2, 5000, (569, 320)),
    "yoga__057.mp4": (1, 500, (569, 320)),
}
# name -> the same, for files that can be read
AWKWARD = {
    "-dash-first.mp4": (1, 2000, (160, 120)),
    "UPPER.MP4": (1, 2000, (160, 120)),
    "all-black.mp4": (1, 2000, (160, 120)),
    "alpha-moviepy.webm": (2, 5000, (200, 200)),
    "alpha-png.mov": (1, 667, (96, 54)),
    "alpha-prores4444.mov": (1, 500, (64, 36)),
    "alpha-vp9.webm": (1, 1500, (128, 72)),
    "animated.png": (1, 1000, (64, 48)),
    "broken-middle.mp4": (1, 3003, (192, 144)),
    "clock-wrap.ts": (1, 3003, (192, 144)),
    "corrupted-decord.mp4": (2, 5000, (1280, 720)),
    "cover-first.mkv": (1, 3003, (192, 144)),
    "edit-list-start.mp4": (1, 1702, (192, 144)),
    "extreme-640x8.mp4": (1, 2000, (640, 480)),
    "fps-0.4.mp4": (4, 10000, (160, 120)),
    "frames-1.mp4": (1, 33, (160, 120)),
    "frames-2.mp4": (1, 67, (160, 120)),
    "gap-30s.mp4": (2, 33000, (192, 144)),
    "gif-one-frame.gif": (1, 1000, (30, 24)),
    "gray.mp4": (1, 2000, (160, 120)),
    "hevc-10bit.mp4": (1, 2000, (192, 108)),
    "interlaced.mpg": (1, 1000, (512, 288)),
    "loop.gif": (1, 1510, (120, 90)),
    "matroska-inside.mp4": (1, 3003, (192, 144)),
    "metadata-not-utf8.avi": (1, 1500, (160, 120)),
    "no-ending": (1, 2000, (160, 120)),
    "non-monotonic-pts.mkv": (1, 3003, (192, 144)),
    "odd name: ünï ❤ 'quote' & (50%) #1 ; -x.mp4": (1, 2000, (160, 120)),
    "odd-127x73-yuv444.mp4": (1, 2000, (127, 95)),
    "rotate-0.mp4": (1, 2000, (160, 120)),
    "rotate-180.mp4": (1, 2000, (160, 120)),
    "rotate-270.mp4": (1, 2000, (160, 120)),
    "rotate-90.mp4": (1, 2000, (160, 120)),
    "rotate-decord-90.mov": (1, 100, (320, 568)),
    "secret-target.mp4": (1, 2000, (160, 120)),
    "size-1x1.mkv": (1, 2000, (1, 1)),
    "size-3x2.mkv": (1, 2000, (3, 3)),
    "smallest.webm": (1, 40, (8, 8)),
    "truncated-late.mp4": (1, 1301, (192, 144)),
    "truncated.mkv": (1, 1234, (192, 144)),
    "two-videos.mp4": (1, 3003, (192, 144)),
    "unordered-decord.mov": (1, 125, (50, 50)),
    "video-plus-cover.mp4": (1, 3003, (192, 144)),
    "wrong-duration-short.mkv": (1, 3003, (192, 144)),
    "wrong-duration.mkv": (1, 3003, (192, 144)),
    "wrong-duration.mp4": (1, 3003, (192, 144)),
}
NO_PICTURE = {
    "audio-only.mp4": "no video stream",
    "concat.ffconcat": "not a video file that vtag reads",
    "cover-art.m4a": "only a cover picture",
    "cover-art.mp3": "not a video file that vtag reads",
    "playlist-as.mp4": "not a video file that vtag reads",
    "playlist.m3u8": "not a video file that vtag reads",
    "random-bytes.mkv": "not a video file that vtag reads",
    "smallest.mp4": "no video stream",
    "still.jpg": "not a video file that vtag reads",
    "text-renamed.mp4": "not a video file that vtag reads",
    "truncated-no-moov.mp4": "not a video file that vtag reads",
    "zero-bytes.mp4": "the file is empty",
    "zero-frames.avi": "it has no frames",
    "zero-frames.mp4": "it has no frames",
}
# what is said of a file that was read all the same
NOTES = {
    "broken-middle.mp4": "15 broken packets were skipped",
    "corrupted-decord.mp4": "1 broken packet was skipped",
    "smallest.webm": "the file claims 1.0 s, its pictures last 0.0 s",
    "truncated-late.mp4": "1 broken packet was skipped; the file claims 3.0 s, its pictures last 1.3 s",
    "truncated.mkv": "the file claims 3.0 s, its pictures last 1.2 s",
    "wrong-duration.mkv": "the file claims 3003.0 s, its pictures last 3.0 s",
}


@pytest.mark.parametrize("name", CLIPS)
def test_a_shared_clip_has_its_windows(shared: Path, name: str) -> None:
    _check(shared / "clips" / name, *CLIPS[name])


@pytest.mark.parametrize("name", AWKWARD)
def test_a_difficult_file_has_the_windows_of_its_frames(shared: Path, name: str) -> None:
    _check(shared / "awkward" / name, *AWKWARD[name])


def _check(path: Path, clip_count: int, duration_ms: int, size: tuple[int, int]) -> None:
    reader = read_clips(path, USUAL)
    clips = list(reader)
    assert (len(clips), reader.info.duration_ms, (reader.info.width, reader.info.height)) == (
        clip_count,
        duration_ms,
        size,
    )
    assert all(c.pixels.shape == (1, 32, 224, 224, 3) for c in clips)
    assert all(0 <= c.start_ms < c.end_ms <= duration_ms for c in clips)
    assert reader.note == NOTES.get(path.name, "")


@pytest.mark.parametrize("name", NO_PICTURE)
def test_a_difficult_file_without_a_picture_gives_the_reason(shared: Path, name: str) -> None:
    with pytest.raises(UnusableVideo) as caught:
        read_clips(shared / "awkward" / name, USUAL)
    assert caught.value.reason == f"no usable picture ({NO_PICTURE[name]})"


def test_the_tables_name_every_shared_file(shared: Path) -> None:
    assert {p.name for p in (shared / "clips").iterdir()} == set(CLIPS)
    awkward = {p.name for p in (shared / "awkward").iterdir()} - {"README.md"}
    assert awkward == set(AWKWARD) | set(NO_PICTURE)


@pytest.mark.parametrize("name", ["rotate-90.mp4", "rotate-180.mp4", "rotate-270.mp4"])
def test_rotated_copies_look_like_the_upright_one(shared: Path, name: str) -> None:
    upright, rotated = (
        next(iter(read_clips(shared / "awkward" / n, USUAL))).pixels for n in ("rotate-0.mp4", name)
    )
    assert np.abs(upright.astype(int) - rotated).mean() < 10


def test_a_rotated_phone_video_looks_like_its_upright_source(shared: Path) -> None:
    stored, upright = (
        next(iter(read_clips(shared / "clips" / f"dog-on-skateboard__{n}.mp4", USUAL))).pixels
        for n in ("054", "028")
    )
    assert np.abs(stored.astype(int) - upright).mean() < 8
