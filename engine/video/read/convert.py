"""Converts a decoded frame to the pixels of its views: cropped, scaled, upright, 8-bit RGB, in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.card_decoder import to_processor
from vtag.engine.video.read.hdr import is_hdr, to_sdr
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video.read.views import Geometry, Orientation, compute_geometry

if TYPE_CHECKING:
    from av.sidedata.sidedata import SideData
    from av.video.frame import VideoFrame

_UNSPECIFIED_SPACE = 2
COLOUR_MATRICES = {  # AVColorSpace: its name as an argument of a filter
    0: "gbr",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
}
COLOUR_RANGES = {1: "tv", 2: "pc"}


def read_orientation(frame: VideoFrame) -> Orientation:
    """How to turn `frame` upright, from its display matrix; as stored if it has none."""
    matrix = _read_display_matrix(frame)
    return Orientation.from_display_matrix(matrix) if matrix else Orientation()


def read_tilt(frame: VideoFrame) -> int:
    """The degrees (0 to 45) by which players turn `frame` beside its orientation, which is right-angled."""
    a, b, *_ = _read_display_matrix(frame) or (1, 0)
    angle = round(math.degrees(math.atan2(b, a))) % 90
    return min(angle, 90 - angle)


def _read_display_matrix(frame: VideoFrame) -> tuple[int, ...]:
    """Nine numbers, row by row, as in ISO 14496-12; empty if the frame has none."""
    data = cast("SideData | None", frame.side_data.get("DISPLAYMATRIX"))
    if data is None or data.buffer_size < 36:
        return ()
    return tuple(int(v) for v in np.frombuffer(bytes(data)[:36], dtype=np.int32))


class Converter:
    """Converts frames of one video to the views of one sampling, even if the stream changes its format midway."""

    def __init__(
        self, sampling: Sampling, orientation: Orientation, aspect: Fraction, size: tuple[int, int]
    ) -> None:
        """`size`: height and width of a view. It stays the same if the stream changes its shape."""
        self._sampling = sampling
        self._orientation = orientation
        self._aspect = aspect
        self._size = size
        self._key: tuple[object, ...] = ()
        self._scale: Callable[[VideoFrame], NDArray[np.uint8]] | None = None
        self._geometry: Geometry | None = None

    def convert(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """The views of `frame`: uint8 [V, H, W, 3]. Raises av.error.FFmpegError if libav cannot scale it."""
        frame = to_processor(frame)
        key = (
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_range,
            frame.color_trc,
            frame.interlaced_frame,
        )
        if key != self._key or self._scale is None or self._geometry is None:
            size = frame.width, frame.height
            geometry = compute_geometry(*size, self._aspect, self._orientation, self._sampling)
            self._geometry = self._fit(geometry)
            self._scale = Scaler(frame, self._geometry)
            self._key = key
        upright = rotate_upright(self._scale(frame), self._orientation)
        g = self._geometry
        return np.stack([upright[y : y + g.crop_height, x : x + g.crop_width] for x, y in g.crops])

    def _fit(self, geometry: Geometry) -> Geometry:
        """`geometry`, stretched to the clip's size: a stream may change from landscape to portrait (view `full`)."""
        height, width = self._size
        if (geometry.crop_height, geometry.crop_width) == (height, width):
            return geometry
        stored = (height, width) if self._orientation.transpose else (width, height)
        region = geometry.x, geometry.y, geometry.width, geometry.height
        return Geometry(*region, *stored, width, height, ((0, 0),))


class Scaler:
    """One libav filter graph: field, crop, scale, RGB. Takes a frame, returns uint8 [H, W, 3] as stored."""

    def __init__(self, frame: VideoFrame, g: Geometry) -> None:
        self._transfer = frame.color_trc if is_hdr(frame.color_trc) else 0
        enlarges = g.scaled_width > g.width and g.scaled_height > g.height
        scaler = "bilinear" if enlarges else "area"
        y, rows = g.y, g.height
        steps: list[tuple[str, str]] = []
        if frame.interlaced_frame and frame.height >= 4:
            # One of the two fields: no combing, no state between frames, and still more lines than the model needs.
            steps.append(("field", "type=top"))
            y, rows = g.y // 2, max(1, min(g.height // 2, (frame.height + 1) // 2 - g.y // 2))
        steps.append(("crop", f"w={g.width}:h={rows}:x={g.x}:y={y}"))
        steps.append(
            (
                "scale",
                f"w={g.scaled_width}:h={g.scaled_height}:flags={scaler}+accurate_rnd+full_chroma_int",
            )
        )
        steps.append(("format", f"pix_fmts={'rgb48' if self._transfer else 'rgb24'}"))
        self._graph = av.filter.Graph()
        self._graph.threads = 1
        nodes = [self._graph.add("buffer", buffer_arguments(frame))]
        nodes += [self._graph.add(name, arguments) for name, arguments in steps]
        nodes.append(self._graph.add("buffersink"))
        self._graph.link_nodes(*nodes)
        self._graph.configure()

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        # only `to_sdr` converts these, not swscale
        frame.color_trc = frame.color_primaries = _UNSPECIFIED_SPACE
        self._graph.vpush(frame)
        picture = self._graph.vpull().to_ndarray()
        if self._transfer:
            return to_sdr(cast("NDArray[np.uint16]", picture), self._transfer)
        return cast("NDArray[np.uint8]", picture)


def buffer_arguments(frame: VideoFrame) -> str:
    """The arguments of a filter graph's source for frames like `frame`."""
    parts = [
        f"video_size={frame.width}x{frame.height}",
        f"pix_fmt={frame.format.name}",
        "time_base=1/1000000",
        "pixel_aspect=1/1",
    ]
    if space := COLOUR_MATRICES.get(frame.colorspace):
        parts.append(f"colorspace={space}")
    if kind := COLOUR_RANGES.get(frame.color_range):
        parts.append(f"range={kind}")
    return ":".join(parts)


def rotate_upright(picture: NDArray[np.uint8], orientation: Orientation) -> NDArray[np.uint8]:
    """`picture` [H, W, C] upright, as a view of the same memory."""
    if orientation.transpose:
        picture = picture.transpose(1, 0, 2)
    if orientation.mirror_x:
        picture = picture[:, ::-1]
    if orientation.mirror_y:
        picture = picture[::-1]
    return picture
