"""Opens video files, for all of vtag: the containers it accepts, and which of their streams is the video."""

from __future__ import annotations

import contextlib
import os
import stat
from collections import Counter
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import av.error

from vtag.engine.errors import VideoError
from vtag.engine.text import display_path, printable
from vtag.engine.video.read.data_end import data_end

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers that hold their own video. Left out on purpose: formats that name other files or addresses (hls, concat,
# dash, image2, imf, sdp, rtsp, vobsub, vapoursynth ...), devices, still pictures, audio, subtitles, and text drawn as
# pictures (tty). A protocol whitelist would not keep a playlist from opening other files. The names are those of
# libavformat. The names of one demuxer are one entry, because libavformat compares the list with each of them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2",
    "matroska,webm",
    "avi",
    "mpegts",
    "mpeg",
    "mpegvideo",
    "m4v",
    "h261",
    "h263",
    "h264",
    "hevc",
    "vvc",
    "av1",
    "obu",
    "ivf",
    "vc1",
    "dirac",
    "cavsvideo",
    "mjpeg",
    "flv",
    "asf",
    "asf_o",
    "ogg",
    "gif",
    "apng",
    "wtv",
    "mxf",
    "gxf",
    "dv",
    "rm",
    "nut",
    "yuv4mpegpipe",
    "dhav",
    "ty",
)
FORMAT_WHITELIST = ",".join(_FORMATS)
# A larger picture than 16K x 8K is a broken header; one frame of it would need 200 MB and more.
MAX_PIXELS = 16384 * 8192
_MAX_FRAME_RATE = 480  # frames a second; a higher claim is not believed
_SNIFFED_PACKETS = 400  # of all video streams together, if a file has several

_GENERATE_TIMES = 0x0001  # AVFMT_FLAG_GENPTS, which PyAV sets

NO_PICTURE = "no usable picture"

VideoPath = str | bytes | os.PathLike[str]


class UnusableVideo(VideoError):
    """A file that cannot be used as a video. `reason` says why, without the file's name."""

    def __init__(self, path: VideoPath, reason: str) -> None:
        self.path = os.fsencode(path)
        self.reason = reason
        super().__init__(f"{display_path(path)}: {reason}")


@contextlib.contextmanager
def open_container(
    path: VideoPath, *, generate_times: bool = False, accelerator: HWAccel | None = None
) -> Iterator[InputContainer]:
    """The open container of the file at `path`, closed at the end of the block.

    The content decides about the format, not the name. No other file is read.

    Args:
        path: the file.
        generate_times: whether libav makes up missing presentation times. AVI has none, but most other containers
            need them. They jump back and forth, so for decoding the decoding times are better.
        accelerator: decodes on a card.

    Raises:
        UnusableVideo: if `path` is not a file, its format is not accepted, or the accelerator cannot be opened.
    """
    name = os.fsdecode(path)
    try:
        info = os.stat(path)
        end = data_end(path) if stat.S_ISREG(info.st_mode) else 0  # its error is better than libav's
    except (OSError, ValueError) as error:
        raise UnusableVideo(
            path, f"cannot be opened ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not stat.S_ISREG(info.st_mode):  # a named pipe would block forever
        raise UnusableVideo(path, "not a file")
    if not info.st_size:
        raise UnusableVideo(path, f"{NO_PICTURE} (the file is empty)")
    try:
        container = av.open(
            _url(name, end if end < info.st_size else None),
            metadata_errors="replace",
            hwaccel=accelerator,
            options={
                "format_whitelist": FORMAT_WHITELIST,
                "enable_drefs": "0",
                "max_pixels": str(MAX_PIXELS),
            },
        )
    except MemoryError:
        raise
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise UnusableVideo(path, f"{NO_PICTURE} (not a video file that vtag reads)") from error
    with container:
        if not generate_times:
            container.flags &= ~_GENERATE_TIMES
        yield container


def _url(name: str, end: int | None) -> str:
    """libav's address of a file, of the part before `end`; with a protocol, so that concat:x is a file name."""
    path = os.path.abspath(name)
    return f"file:{path}" if end is None else f"subfile,,start,0,end,{end},,:file:{path}"


def choose_stream(container: InputContainer, path: VideoPath) -> tuple[VideoStream, bool]:
    """The video stream, and whether packets were read to find it (then reopen the file before decoding).

    Cover pictures do not count. Streams with more than one frame come first, then the one marked as default, then
    the one that libav considers best.

    Raises:
        UnusableVideo: if there is no video stream, or FFmpeg lacks its codec.
    """
    streams = [s for s in container.streams.video if not _is_picture(s)]
    if not streams:
        has_cover = any(True for _ in container.streams.video)
        reason = "only a cover picture" if has_cover else "no video stream"
        raise UnusableVideo(path, f"{NO_PICTURE} ({reason})")
    readable = [s for s in streams if s.codec_context is not None]
    if not readable:
        raise UnusableVideo(path, f"{NO_PICTURE} (its codec is not known to this FFmpeg)")
    if len(readable) == 1:
        return readable[0], False
    frames = _frame_counts(container, readable)
    best = container.streams.best("video")
    chosen = max(
        readable,
        key=lambda s: (
            frames[s.index] > 1,
            bool(s.disposition & av.stream.Disposition.default),
            best is not None and s.index == best.index,
            (s.width or 0) * (s.height or 0),
            -s.index,
        ),
    )
    return chosen, True


def _is_picture(stream: VideoStream) -> bool:
    return bool(
        stream.disposition & (av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails)
    )


def _frame_counts(container: InputContainer, streams: list[VideoStream]) -> Counter[int]:
    """How many frames each stream has: what the container says, else counted in its first packets."""
    counts = Counter({s.index: s.frames for s in streams if s.frames})
    if len(counts) == len(streams):
        return counts
    sniffed: Counter[int] = Counter()
    try:
        for number, packet in enumerate(container.demux(streams)):
            sniffed[packet.stream_index] += packet.size > 0
            if number >= _SNIFFED_PACKETS or all(sniffed[s.index] > 1 for s in streams):
                break
    except (av.error.FFmpegError, OSError, IndexError):
        pass  # the packets before the error decide
    return Counter({s.index: max(counts[s.index], sniffed[s.index]) for s in streams})


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """The video stream at `index`, as `choose_stream` found it."""
    return next(s for s in container.streams.video if s.index == index)


def frame_rate(stream: VideoStream) -> Fraction | None:
    """Frames a second on average; None if the file's claims are not believable."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 1000) <= rate <= _MAX_FRAME_RATE:  # libav says 1000 if it does not know
            return Fraction(rate)
    return None


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 if the file does not say or says nonsense."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 100) <= aspect <= 100 else Fraction(1)


def error_text(error: BaseException) -> str:
    """libav's message for an error, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(text))
