"""The one place that opens a video file: which containers are read, and which of their streams is the video."""

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

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Containers that people's videos are in and that hold their own bytes. Left out on purpose: whatever names other
# files or addresses (hls, concat, dash, image2, imf, sdp, rtsp, vobsub, vapoursynth ...), devices, still pictures,
# audio, subtitles, and text drawn as pictures (tty). A protocol whitelist does not keep a playlist from its files.
# Names are libavformat's; one demuxer's names stand together, as the list is compared with each of them.
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
# Larger pictures than 16K x 8K are taken for a broken header; a frame of them would need 200 MB and more.
MAX_PIXELS = 16384 * 8192
_FASTEST = 480  # frames a second that are believed
_SNIFFED_PACKETS = 400  # of all video streams together, where a file has several

_GENERATE_TIMES = 0x0001  # AVFMT_FLAG_GENPTS, which PyAV sets

NO_PICTURE = "no usable picture"


class UnusableVideo(VideoError):
    """A file without a picture that can be used; `reason` says why, without the file's name."""

    def __init__(self, path: str | bytes | os.PathLike[str], reason: str) -> None:
        self.path = os.fsencode(path)
        self.reason = reason
        super().__init__(f"{display_path(path)}: {reason}")


@contextlib.contextmanager
def open_container(path: str | bytes | os.PathLike[str]) -> Iterator[InputContainer]:
    """The open container of the file at `path`, closed at the end.

    Content decides what it is, not the name; nothing but the file itself is read. Raises UnusableVideo where it is
    no file, is no container that is read here, or names other files.
    """
    name = os.fsdecode(path)
    try:
        info = os.stat(path)
        if stat.S_ISREG(info.st_mode):
            with open(path, "rb"):  # libav's reasons are not told apart from the system's
                pass
    except (OSError, ValueError) as error:
        raise UnusableVideo(
            path, f"cannot be opened ({getattr(error, 'strerror', None) or error})"
        ) from error
    if not stat.S_ISREG(info.st_mode):  # a named pipe would block for ever
        raise UnusableVideo(path, "not a file")
    if not info.st_size:
        raise UnusableVideo(path, f"{NO_PICTURE} (the file is empty)")
    try:
        container = av.open(
            f"file:{os.path.abspath(name)}",  # so that a name like concat:x or http:x is a name
            metadata_errors="replace",
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
        # Made-up presentation times (AVI has none) jump back and forth; the decoding times are right there.
        container.flags &= ~_GENERATE_TIMES
        yield container


def choose_stream(
    container: InputContainer, path: str | bytes | os.PathLike[str]
) -> tuple[VideoStream, bool]:
    """The video among the streams, and whether packets were read to find it (then reopen before decoding).

    No cover picture; more than one frame rather than one; then what is marked as default, or libav calls the best.
    Raises UnusableVideo where there is none.
    """
    streams = [s for s in container.streams.video if not _is_picture(s)]
    if not streams:
        covers = any(True for _ in container.streams.video)
        what = "only a cover picture" if covers else "no video stream"
        raise UnusableVideo(path, f"{NO_PICTURE} ({what})")
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
    """How many frames each stream has, as far as a look at the beginning tells."""
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
        pass  # what was seen until there decides
    return Counter({s.index: max(counts[s.index], sniffed[s.index]) for s in streams})


def video_stream(container: InputContainer, index: int) -> VideoStream:
    """The video stream that `choose_stream` found at `index`."""
    return next(s for s in container.streams.video if s.index == index)


def frame_rate(stream: VideoStream) -> Fraction | None:
    """The stream's average frames a second, where it is believable."""
    for rate in (stream.average_rate, stream.guessed_rate, stream.base_rate):
        if rate and Fraction(1, 1000) <= rate <= _FASTEST:  # 1000 is what libav says when it does not know
            return Fraction(rate)
    return None


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where the file says nothing or nonsense."""
    aspect = stream.sample_aspect_ratio
    return Fraction(aspect) if aspect and Fraction(1, 100) <= aspect <= 100 else Fraction(1)


def error_text(error: BaseException) -> str:
    """What libav says of a failure, on one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(str(text))
