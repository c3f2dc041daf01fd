"""Generated videos that flash and beep each second, and a reader that says when they do. It uses PyAV alone."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_RATE = 48000
_BLOCK = 1152  # samples of a frame; a second has no whole number of them
_BEEP_S = 0.08
_QUIET_S = 0.3  # beeps are further apart


def make_flashes(
    path: Path,
    *,
    seconds: int,
    codec: str,
    sound: str | None,
    fps: int = 25,
    size: tuple[int, int] = (160, 120),
    pix_fmt: str = "yuv420p",
    sound_from_s: float = 0,
    sound_to_s: float | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """A black video that is white for two frames at each full second, with a beep; returns `path`."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=fps, options=_options(codec, options))
        video.width, video.height, video.pix_fmt = *size, pix_fmt
        audio = container.add_stream(sound, rate=_RATE, layout="stereo") if sound else None
        end_s = seconds if sound_to_s is None else sound_to_s
        blocks = _beeps(sound_from_s, end_s) if audio is not None else iter(())
        block = next(blocks, None)
        for number in range(seconds * fps):
            while audio is not None and block is not None and block.pts * fps <= number * _RATE:
                container.mux(audio.encode(block))
                block = next(blocks, None)
            level = 255 if number % fps < 2 else 0
            pixels = np.full((size[1], size[0], 3), level, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio is not None:
            for rest in ([block] if block is not None else []) + list(blocks):
                container.mux(audio.encode(rest))
            container.mux(audio.encode(None))
    return path


def _beeps(start_s: float, end_s: float) -> Iterator[av.AudioFrame]:
    for first in range(round(start_s * _RATE), round(end_s * _RATE), _BLOCK):
        t = (first + np.arange(_BLOCK)) / _RATE
        wave = np.where(t % 1 < _BEEP_S, 0.8 * np.sin(2 * np.pi * 1000 * t), 0).astype(np.float32)
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = _RATE, first, Fraction(1, _RATE)
        yield frame


def _options(codec: str, options: dict[str, str] | None) -> dict[str, str]:
    presets = {
        "libx264": {"preset": "ultrafast"},
        "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    }
    return {**presets.get(codec, {}), **(options or {})}


def read_flashes(file: Path) -> list[float]:
    """When the picture becomes white, seconds."""
    times, was_white = [], False
    with av.open(str(file)) as container:
        for frame in container.decode(video=0):
            is_white = frame.to_ndarray(format="gray").mean() > 128
            if is_white and not was_white:
                times.append(float(frame.pts * frame.time_base))
            was_white = is_white
    return times


def read_beeps(file: Path) -> list[float]:
    """When a beep begins, seconds."""
    times: list[float] = []
    last_loud_s = -1e9
    with av.open(str(file)) as container:
        resampler = av.AudioResampler("fltp", "mono", _RATE)
        for decoded in container.decode(audio=0):
            for frame in resampler.resample(decoded):
                loud = np.flatnonzero(np.abs(frame.to_ndarray()[0]) > 0.2)
                if not len(loud):
                    continue
                start_s = float(frame.pts * frame.time_base)
                first_s, last_s = start_s + loud[0] / _RATE, start_s + loud[-1] / _RATE
                if first_s - last_loud_s > _QUIET_S:
                    times.append(first_s)
                last_loud_s = last_s
    return times


def read_sound_range(file: Path) -> tuple[float, float, float]:
    """Start and end of the sound, and the longest gap between its frames, seconds."""
    start_s, end_s, gap_s = None, 0.0, 0.0
    with av.open(str(file)) as container:
        for frame in container.decode(audio=0):
            time_s = float(frame.pts * frame.time_base)
            gap_s = gap_s if start_s is None else max(gap_s, time_s - end_s)
            start_s = time_s if start_s is None else start_s
            end_s = time_s + frame.samples / frame.sample_rate
    assert start_s is not None
    return start_s, end_s, gap_s
