"""Clips that are cut out of videos have the right frames and sound, and overwrite no file."""

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
from helpers.footage import make_numbered, make_video, numbered_frame, read_number
from hypothesis import given
from hypothesis import strategies as st

from vtag.engine.errors import VideoError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.video.read.probe import probe
from vtag.engine.video.write.clip_names import DEFAULT_TEMPLATE, format_clip_name
from vtag.engine.video.write.cut import cut

Run = Callable[..., subprocess.CompletedProcess[str]]
FPS = 20
GROUP = {"g": "20", "keyint_min": "20", "sc_threshold": "0", "bf": "2"}  # a key frame a second, and B-frames


def decode_frames(path: bytes) -> list[tuple[int, float]]:
    """Number and time (s) of every frame of a clip."""
    with av.open(os.fsdecode(path)) as container:
        stream = container.streams.video[0]
        first = None
        frames = []
        for frame in container.decode(stream):
            first = frame.time if first is None else first
            frames.append(
                (read_number(frame.to_ndarray(format="rgb24"), visible_share=1.0), frame.time - first)
            )
        return frames


def with_sound(path: Path, seconds: float = 6.0, *, audio: str = "aac", **kwargs: object) -> Path:
    """A numbered video whose tone is higher in each second: 400, 800, 1200 ... Hz."""
    silent = path.with_name("silent.mp4")
    make_numbered(silent, seconds=seconds, fps=FPS, options=GROUP, **kwargs)
    rate = 48000
    t = np.arange(int(seconds * rate)) / rate
    wave = (0.5 * np.sin(2 * np.pi * 400 * (t.astype(int) + 1) * t)).astype(np.float32)
    with av.open(str(silent)) as source, av.open(str(path), "w") as target:
        picture = source.streams.video[0]
        video, voice = (
            target.add_stream_from_template(picture),
            target.add_stream(audio, rate=rate, layout="mono"),
        )
        packets = []
        for packet in source.demux(picture):
            if packet.dts is not None:
                packet.stream = video
                packets.append(packet)
        for offset in range(0, len(wave), 1024):
            frame = av.AudioFrame.from_ndarray(
                wave[None, offset : offset + 1024], format="fltp", layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, offset, Fraction(1, rate)
            packets += voice.encode(frame)
        packets += voice.encode(None)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            target.mux(packet)
    silent.unlink()
    return path


def pitch(path: bytes, at_s: float) -> float:
    """The loudest frequency (Hz) of a clip around a time."""
    with av.open(os.fsdecode(path)) as container:
        parts = [(f.time, f.to_ndarray().mean(axis=0), f.sample_rate) for f in container.decode(audio=0)]
    near = np.concatenate([samples for time, samples, _ in parts if abs(time + 0.01 - at_s) < 0.15])
    spectrum = np.abs(np.fft.rfft(near * np.hanning(len(near))))
    return float(np.argmax(spectrum) * parts[0][2] / len(near))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_copy_begins_at_the_previous_key_frame_and_has_every_frame_to_the_end(
    tmp_path: Path, suffix: str
) -> None:
    source = with_sound(tmp_path / f"a{suffix}")
    done = cut(os.fsencode(source), 2450, 4200, os.fsencode(tmp_path / "clip"))
    assert done.path == os.fsencode(tmp_path / f"clip{suffix}") and done.start_ms == 2000
    frames = decode_frames(done.path)
    numbers = [number for number, _ in frames]
    assert numbers == sorted(numbers) and numbers[0] == 40
    assert (
        set(range(40, 84)) <= set(numbers) and numbers[-1] <= 87
    )  # what is decoded before the end comes along
    assert [time for _, time in frames] == pytest.approx([(n - 40) / FPS for n in numbers], abs=0.002)
    assert pitch(done.path, 0.5) == pytest.approx(1200, abs=10)
    assert pitch(done.path, 1.5) == pytest.approx(1600, abs=10)


@pytest.mark.parametrize(
    ("start", "end"), [(2450, 4200), (0, 1000), (0, 50), (5900, 6000), (3000, 99_000), (1, 2)]
)
def test_an_encoded_clip_has_exactly_the_frames_of_its_range(tmp_path: Path, start: int, end: int) -> None:
    source = with_sound(tmp_path / "a.mp4")
    done = cut(os.fsencode(source), start, end, os.fsencode(tmp_path / "clip"), reencode=True)
    first, last = start * FPS // 1000, -(-min(end, 6000) * FPS // 1000)
    assert [number for number, _ in decode_frames(done.path)] == list(range(first, last))
    if end - start > 1000:
        assert pitch(done.path, 0.25) == pytest.approx(400 * (1 + (start + 250) // 1000), abs=10)
        with av.open(os.fsdecode(done.path)) as container:
            length = sum(frame.samples for frame in container.decode(audio=0)) / 48000
        assert length == pytest.approx((min(end, 6000) - start) / 1000, abs=0.06)


@pytest.mark.parametrize("reencode", [False, True])
@pytest.mark.parametrize("turn", [(90, False, False), (180, False, False), (270, True, False)])
def test_a_clip_keeps_orientation_and_recording_time(
    tmp_path: Path, reencode: bool, turn: tuple[int, bool, bool]
) -> None:
    def draw(i: int) -> np.ndarray:
        picture = numbered_frame(0, 160, 120) // 4
        picture[:30, :40] = 250  # a bright corner tells where up is
        return picture

    source = tmp_path / "a.mp4"
    make_video(source, seconds=3, draw=draw, turn=turn, metadata={"creation_time": "2020-05-06T07:08:09Z"})
    source_info, done = (
        probe(source),
        cut(os.fsencode(source), 500, 2000, os.fsencode(tmp_path / "c"), reencode=reencode),
    )
    clip_info = probe(done.path)
    assert (clip_info.width, clip_info.height) == (source_info.width, source_info.height)
    assert clip_info.recorded_at is not None and clip_info.recorded_at.startswith("2020-05-06T07:08:09")
    assert corner(done.path) == corner(os.fsencode(source))


def corner(path: bytes) -> int:
    """The brightest quarter of the first picture as displayed, 0 to 3."""
    from vtag.engine.video.read.reader import read_clips
    from vtag.engine.video.read.sampling import Sampling

    clip = next(iter(read_clips(path, Sampling.create(2, 4.0, view="full", short_side=64, crop=64))))
    picture = clip.pixels[0, 0].mean(axis=2)
    h, w = picture.shape
    sides = (slice(0, h // 4), slice(-h // 4, None)), (slice(0, w // 4), slice(-w // 4, None))
    return int(np.argmax([picture[y, x].mean() for y in sides[0] for x in sides[1]]))


@pytest.mark.parametrize(
    ("name", "codec", "ending"),
    [("a.mkv", "libx264", ".mkv"), ("a.avi", "mpeg4", ".mkv"), ("a.ts", "libx264", ".mkv"),
     ("a.mpg", "mpeg2video", ".mkv"), ("a.webm", "libvpx", ".webm"), ("a.flv", "flv", ".flv"),
     ("a.3gp", "libx264", ".mkv")],
)  # fmt: skip
def test_clips_of_unusual_containers_are_in_usual_ones(
    tmp_path: Path, name: str, codec: str, ending: str
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"no {codec} here")
    source = make_numbered(tmp_path / name, seconds=4, fps=25, codec=codec, options={"g": "25"})
    done = cut(os.fsencode(source), 1500, 2500, os.fsencode(tmp_path / "clip"))
    assert done.path.endswith(ending.encode())
    numbers = [number for number, _ in decode_frames(done.path)]
    assert 20 <= numbers[0] <= 37 and set(range(38, 62)) <= set(numbers) and numbers[-1] < 70


def test_existing_files_are_never_overwritten_and_failures_leave_no_files(tmp_path: Path) -> None:
    source = make_numbered(tmp_path / "a.mp4", seconds=2)
    (tmp_path / "clip.mp4").write_text("precious")
    with pytest.raises(VideoError, match="exists"):
        cut(os.fsencode(source), 0, 1000, os.fsencode(tmp_path / "clip"))
    assert (tmp_path / "clip.mp4").read_text() == "precious"
    with pytest.raises(VideoError, match="ends before"):
        cut(os.fsencode(source), 5000, 6000, os.fsencode(tmp_path / "other"))
    (tmp_path / "noise.mp4").write_bytes(b"noise" * 1000)
    with pytest.raises(VideoError):
        cut(os.fsencode(tmp_path / "noise.mp4"), 0, 1, os.fsencode(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "clip.mp4", "noise.mp4"]


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_clip_name_leads_out_of_the_folder(name: str, label: str) -> None:
    values = {"name": name, "label": label, "start": "00m01.0s"}
    clip_name = format_clip_name(DEFAULT_TEMPLATE, values)
    encoded = clip_name.encode("utf-8")
    assert clip_name and len(encoded) <= 200 and clip_name == clip_name.strip()
    assert not set('/\\:*?"<>|\0\n') & set(clip_name) and not clip_name.startswith((".", "-"))
    assert os.path.basename(clip_name) == clip_name


@pytest.mark.parametrize(
    ("label", "name"),
    [("..", "_"), ("CON", "_CON"), ("a/../b", "a_.._b"), ("-rf", "rf"), ("{name}", "{name}")],
)
def test_odd_labels_make_plain_names(label: str, name: str) -> None:
    assert format_clip_name("{label}", {"label": label}) == name


@pytest.fixture
def tagged(vtag_home: Path, tmp_path: Path) -> Path:
    """A numbered video with three moments, two of which would have the same name."""
    (tmp_path / "v").mkdir()
    video = make_numbered(tmp_path / "v" / "holiday; #1.mp4", seconds=6, fps=FPS, options=GROUP)
    with LibraryWriter.open(vtag_home / "library.db") as library:
        from vtag.engine.scan.discover import discover

        file = discover([os.fsencode(video)]).files[0]
        content = files.save_content(library, files.content_key(file.path), {"duration_ms": 6000})
        files.save_file(library, Volumes().volume_of(file.path), file, content)
        db = library.connection
        db.execute("INSERT INTO labels (name) VALUES ('yoga/../x')")
        for start, end, score in ((1500, 2500, 0.9), (1510, 3000, 0.8), (4000, 5000, 0.7)):
            db.execute(
                "INSERT INTO segments (content_id, label_id, start_ms, end_ms, score) VALUES (?, 1, ?, ?, ?)",
                (content, start, end, score),
            )
    return video


def test_the_command_writes_clips_once_and_dry_run_lists_them(
    vtag: Run, tagged: Path, tmp_path: Path
) -> None:
    out = tmp_path / "clips"
    dry = vtag("cut", "yoga", "-outdoors", "-o", out, "--dry-run")
    assert dry.returncode == 0 and len(dry.stdout.splitlines()) == 3 and not out.exists()
    run = vtag("cut", "yoga", "-o", out)
    assert run.returncode == 0, run.stderr
    names = ["holiday; #1 00m01.5s yoga_.._x (2).mp4", "holiday; #1 00m01.5s yoga_.._x.mp4",
             "holiday; #1 00m04.0s yoga_.._x.mp4"]  # fmt: skip
    assert sorted(os.listdir(out)) == sorted(names)
    assert sorted(run.stdout.splitlines()) == sorted(str(out / name) for name in names)
    assert {20, 35, 49} <= {number for number, _ in decode_frames(os.fsencode(out / names[1]))}
    mtimes = {name: (out / name).stat().st_mtime_ns for name in names}
    again = vtag("cut", "yoga", "-o", out)
    assert again.returncode == 0 and "3 were there already" in again.stderr
    assert mtimes == {name: (out / name).stat().st_mtime_ns for name in names}


def test_templates_are_applied_and_mistakes_reported(vtag: Run, tagged: Path, tmp_path: Path) -> None:
    run = vtag(
        "cut", "yoga", "-o", tmp_path / "c", "--name", "{number}-{score}", "--limit", "1", "--reencode"
    )
    assert run.returncode == 0, run.stderr
    assert os.listdir(tmp_path / "c") == ["1-0.90.mp4"]
    assert [n for n, _ in decode_frames(os.fsencode(tmp_path / "c" / "1-0.90.mp4"))] == list(range(30, 50))
    assert "no field {nme}" in vtag("cut", "yoga", "-o", tmp_path, "--name", "{nme}").stderr
    assert "not folders" in vtag("cut", "yoga", "-o", tmp_path, "--name", "../{name}").stderr
    tagged.unlink()
    gone = vtag("cut", "yoga", "-o", tmp_path / "d")
    assert gone.returncode == 3 and "3 could not be" in gone.stderr and os.listdir(tmp_path / "d") == []


@pytest.mark.skipif(sys.platform == "win32", reason="limits no files")
def test_a_full_disk_gives_no_advice_to_encode(tmp_path: Path) -> None:
    import resource

    video = make_video(tmp_path / "v.mp4", seconds=4)
    (tmp_path / "out").mkdir()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))  # as a full disk, or FAT beyond 4 GB
    try:
        with pytest.raises(VideoError, match=r"cannot be written: File too large$"):
            cut(os.fsencode(video), 0, 4000, os.fsencode(tmp_path / "out" / "clip"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []
