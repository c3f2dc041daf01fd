"""Videos whose clocks differ from vtag's, made by ffmpeg; each frame shows its number. And what ffmpeg shows when."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from helpers.footage import make_numbered, make_video, numbered_frame, read_number

WIDTH, HEIGHT = 160, 120
FPS = 25
SECONDS = 5


def ffmpeg(*arguments: object) -> bytes:
    """What ffmpeg writes to stdout. Raises CalledProcessError."""
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-v", "error", "-y", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def shown_frames(path: Path) -> list[tuple[float, int]]:
    """When ffmpeg shows which frame: seconds from the start of the file, and the frame's number."""
    # All streams are read, since ffmpeg lets the earliest of them begin at 0
    command = ["ffmpeg", "-nostdin", "-hide_banner", "-y", "-i", str(path)]
    command += ["-map", "0:v:0", "-fps_mode", "passthrough", "-vf", f"showinfo,scale={WIDTH}:{HEIGHT}"]
    command += [
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "pipe:1",
        "-map",
        "0:a?",
        "-c",
        "copy",
        "-f",
        "null",
        "-",
    ]
    run = subprocess.run(command, check=True, capture_output=True)
    times = [float(time) for time in re.findall(rb"pts_time:\s*(-?[\d.]+)", run.stderr)]
    frames = np.frombuffer(run.stdout, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
    return [(time, read_number(frame, 1.0)) for time, frame in zip(times, frames, strict=True)]


def start_of(path: Path) -> float:
    """Seconds that browsers show at the start of a file: a late start is not moved to 0."""
    command = ["ffprobe", "-v", "error", "-show_entries", "format=start_time", "-of", "csv=p=0", str(path)]
    return max(0.0, float(subprocess.run(command, check=True, capture_output=True).stdout))


def numbers_of(path: Path) -> list[int]:
    """The numbers of the frames of a clip, as ffmpeg shows them."""
    return [number for _, number in shown_frames(path)]


def number_of_picture(jpeg: bytes) -> int:
    """The number that a still shows."""
    command = ["ffmpeg", "-v", "error", "-f", "image2pipe", "-i", "pipe:0", "-vf", f"scale={WIDTH}:{HEIGHT}"]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    run = subprocess.run(command, input=jpeg, capture_output=True, check=True)
    return read_number(np.frombuffer(run.stdout, np.uint8).reshape(HEIGHT, WIDTH, 3), 1.0)


def late_picture(folder: Path, name: str = "late.mp4") -> Path:
    """The sound begins 3 s before the picture."""
    tone = ("-f", "lavfi", "-i", "sine=440:d=9")
    inputs = ("-itsoffset", 3, "-i", _base(folder), *tone)
    ffmpeg(*inputs, "-map", "0:v", "-map", "1:a", "-c:v", "copy", "-c:a", "aac", folder / name)
    return folder / name


def late_file(folder: Path, name: str = "ten.mkv", offset_s: float = 10) -> Path:
    """All streams begin at 10 s."""
    ffmpeg("-i", _base(folder), "-c", "copy", "-output_ts_offset", offset_s, folder / name)
    return folder / name


def joined(folder: Path, name: str = "joined.ts", second_offset_s: float = 0) -> Path:
    """Two files behind each other, the second one with a clock of its own."""
    codecs = ("-c:v", "mpeg2video", "-q:v", "2", "-c:a", "mp2") if name.endswith(".vob") else ("-c", "copy")
    parts = []
    for number, offset_s in enumerate((0, second_offset_s)):
        part = folder / f"{number}-{name}"
        base = _base(folder, first=number * SECONDS * FPS)
        ffmpeg("-i", base, *codecs, "-output_ts_offset", offset_s, part)
        parts.append(part.read_bytes())
    (folder / name).write_bytes(b"".join(parts))
    return folder / name


def variable_rate(folder: Path, name: str = "phone.mp4") -> Path:
    """A phone's 30 frames a second, some of which were left out."""
    times = [i / 30 for i in range(SECONDS * 30) if i % 7 != 3]
    return make_numbered(
        folder / name, times=times, fps=30, width=WIDTH, height=HEIGHT, options={"bf": "0", "g": "25"}
    )


def with_timecode(
    folder: Path, name: str = "camera.mov", timecode: str = "14:09:42:00", fps: Fraction | int = FPS
) -> Path:
    """A camera's file, which begins at a time of the day."""
    ffmpeg("-i", _base(folder, fps=fps), "-c", "copy", "-timecode", timecode, folder / name)
    return folder / name


def with_edit_list(folder: Path, name: str = "trimmed.mp4") -> Path:
    """An edit list hides the frames between the key frame and the place where it was trimmed."""
    ffmpeg("-ss", 1.5, "-i", _base(folder, bf="2"), "-c", "copy", folder / name)
    return folder / name


def leading_b_frames(folder: Path, name: str = "open.ts") -> Path:
    """Its first key frame is followed by frames that are displayed before it, and need the group before."""
    base = folder / "open-groups.ts"
    ffmpeg("-i", _base(folder), "-c:v", "mpeg2video", "-q:v", 2, "-bf", 2, "-g", 25, "-c:a", "copy", base)
    return _from_packet(base, folder / name, lambda packets: [p for p in packets if p.is_keyframe][1])


def within_group(folder: Path, name: str = "live.ts") -> Path:
    """A recording that was switched on between two key frames."""
    return _from_packet(_base(folder, bf="2"), folder / name, lambda packets: packets[10])


def at_rate(folder: Path, name: str, fps: Fraction | int, seconds: float = 3) -> Path:
    """Frames at another rate."""
    ffmpeg("-i", _base(folder, seconds=seconds, fps=fps), "-c", "copy", folder / name)
    return folder / name


def converted(folder: Path, name: str, *options: object) -> Path:
    """In another container."""
    ffmpeg("-i", _base(folder), *options, folder / name)
    return folder / name


def _base(
    folder: Path, first: int = 0, seconds: float = SECONDS, fps: Fraction | int = FPS, **options: str
) -> Path:
    """H.264 and AAC in MP4; its first frame has the number `first`."""
    silent, path = folder / "silent.mp4", folder / f"base-{first}.mp4"
    make_video(
        silent,
        seconds=seconds,
        fps=fps,
        width=WIDTH,
        height=HEIGHT,
        draw=lambda i: numbered_frame(first + i, WIDTH, HEIGHT),
        options={"g": "25", "bf": "0", **options},
    )
    tone = ("-f", "lavfi", "-i", f"sine=440:d={seconds}")
    ffmpeg("-i", silent, *tone, "-c:v", "copy", "-c:a", "aac", path)
    return path


def _from_packet(base: Path, path: Path, choose: Callable[[list[av.Packet]], av.Packet]) -> Path:
    """A transport stream of `base` whose picture begins with one of its packets."""
    whole = path.with_suffix(".whole.ts")
    ffmpeg("-i", base, "-c", "copy", whole)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    content = whole.read_bytes()
    path.write_bytes(content[: packets[0].pos] + content[choose(packets).pos :])  # the tables come first
    return path
