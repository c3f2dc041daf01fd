"""Generated videos from real encoders, free of copyright."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

_NUMBER_BITS = 12


def disc_frame(t: float, width: int, height: int, seed: int = 0) -> np.ndarray:
    """One frame uint8 [H, W, 3] at `t` seconds: a gradient with a disc on a circular path."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    rng = np.random.default_rng(seed)
    tint = rng.uniform(0.3, 1.0, 3)
    base = (x / width * 120 + y / height * 80)[..., None] * tint
    angle = 2 * np.pi * (t / 2 + seed / 7)
    cx, cy = width * (0.5 + 0.3 * np.cos(angle)), height * (0.5 + 0.3 * np.sin(angle))
    disc = (x - cx) ** 2 + (y - cy) ** 2 < (min(width, height) / 6) ** 2
    base[disc] = 255 * rng.uniform(0.5, 1.0, 3)
    return base.clip(0, 255).astype(np.uint8)


def numbered_frame(i: int, width: int, height: int) -> np.ndarray:
    """A frame uint8 [H, W, 3] that shows its number: bits as black and white rows in its middle 80 %."""
    rows = np.clip(((np.arange(height) + 0.5) / height - 0.1) / 0.8 * _NUMBER_BITS, 0, _NUMBER_BITS - 1)
    bits = (i >> rows.astype(int)) & 1
    return np.broadcast_to((bits * 255).astype(np.uint8)[:, None, None], (height, width, 3)).copy()


def read_number(view: np.ndarray, visible_share: float = 224 / 256) -> int:
    """The number of a `numbered` frame out of a view [H, W, 3] that shows the middle `seen` of its height."""
    height = len(view)
    number = 0
    for bit in range(_NUMBER_BITS):
        y_share = ((0.1 + 0.8 * (bit + 0.5) / _NUMBER_BITS) - (1 - visible_share) / 2) / visible_share
        number |= int(view[int(y_share * height)].mean() > 127) << bit
    return number


def read_numbers(clip: np.ndarray) -> list[int]:
    """The numbers of the frames of a clip [V, T, H, W, 3], by its first view."""
    return [read_number(frame) for frame in clip[0]]


def make_video(
    path: Path,
    *,
    seconds: float = 3.0,
    fps: int | Fraction = 30,
    width: int = 160,
    height: int = 120,
    codec: str = "libx264",
    seed: int = 0,
    metadata: dict[str, str] | None = None,
    times: Sequence[float] | None = None,
    draw: Callable[[int], np.ndarray] | None = None,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    turn: tuple[int, bool, bool] | None = None,
    pixel_aspect: Fraction | None = None,
    colour: dict[str, int] | None = None,
    interlaced: bool = False,
    format: str | None = None,
    time_base: Fraction | None = None,
) -> Path:
    """Encode a moving picture to `path`, whose extension (or `format`) is the container's; returns `path`.

    Args:
        times: when each frame is shown, seconds, instead of evenly for `seconds`.
        draw: the i-th frame uint8 or uint16 [H, W, 3], instead of the disc.
        turn: the display matrix: degrees counter-clockwise, mirrored left-right, mirrored top-bottom.
        colour: color_trc, color_primaries, colorspace, color_range of the stream and of its frames.
        interlaced: the frames are coded as two fields each, the upper first.
    """
    fps = Fraction(fps)
    if times is None:
        times = [float(i / fps) for i in range(max(1, round(seconds * fps)))]
        base = time_base or 1 / fps
    else:
        base = time_base or Fraction(1, 90000)
    with av.open(str(path), "w", format=format) as container:
        container.metadata.update(metadata or {})
        stream = container.add_stream(codec, rate=fps, options=_options(codec, options, interlaced))
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.time_base = stream.codec_context.time_base = base
        if pixel_aspect:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if turn:
            stream.set_display_rotation(turn[0], hflip=turn[1], vflip=turn[2])
        for name, value in (colour or {}).items():
            setattr(stream.codec_context, name, value)
        fields = _field_marker(width, height, pix_fmt) if interlaced else None
        for i, t in enumerate(times):
            pixels = draw(i) if draw else disc_frame(t, width, height, seed)
            frame = _frame(pixels, pix_fmt, colour or {})
            frame.pts, frame.time_base = round(t / base), base
            if fields:
                fields.vpush(frame)
                frame = fields.vpull()
                frame.pts, frame.time_base = round(t / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_numbered(path: Path, **kwargs: object) -> Path:
    """A video as of `make_video`, whose frames show their numbers."""
    width, height = int(kwargs.get("width", 160)), int(kwargs.get("height", 120))  # type: ignore[call-overload]
    return make_video(path, draw=lambda i: numbered_frame(i, width, height), **kwargs)  # type: ignore[arg-type]


def _options(codec: str, options: dict[str, str] | None, interlaced: bool) -> dict[str, str]:
    chosen = dict(options or {})
    if codec in ("libx264", "libx265"):
        chosen.setdefault("preset", "ultrafast")
    if codec == "libx265":
        chosen.setdefault("x265-params", "log-level=none")
    if codec == "libsvtav1":
        chosen.setdefault("preset", "12")
    if interlaced:
        chosen.setdefault("flags", "+ildct+ilme")
    return chosen


def _frame(pixels: np.ndarray, pix_fmt: str, colour: dict[str, int]) -> av.VideoFrame:
    """`drawn` as a frame of `pix_fmt`, by the matrix and range that `colour` names."""
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
    matrix = {1: "ITU709", 9: "BT2020"}.get(colour.get("colorspace", 2))
    span = {1: "MPEG", 2: "JPEG"}.get(colour.get("color_range", 0))
    frame = frame.reformat(format=pix_fmt, dst_colorspace=matrix, dst_color_range=span)
    for name, value in colour.items():
        setattr(frame, name, value)
    return frame


def _field_marker(width: int, height: int, pix_fmt: str) -> av.filter.Graph:
    graph = av.filter.Graph()
    nodes = [
        graph.add(
            "buffer", f"video_size={width}x{height}:pix_fmt={pix_fmt}:time_base=1/90000:pixel_aspect=1/1"
        ),
        graph.add("setfield", "mode=tff"),
        graph.add("buffersink"),
    ]
    graph.link_nodes(*nodes)
    graph.configure()
    return graph
