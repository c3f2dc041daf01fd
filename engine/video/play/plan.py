"""Decides how a browser can play a video: the file itself, its packets in another container, or converted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING

from vtag.engine.text import printable
from vtag.engine.video.play.codec_names import audio_codec_name, plain_name, video_codec_name
from vtag.engine.video.read.container import VideoPath, open_container, video_stream
from vtag.engine.video.read.probe import StreamInfo, probe_stream

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer
    from av.video.stream import VideoStream

STREAM_OFFSET_S = 10  # added to all times in a stream, so that no decoding time is negative
CONVERTED_SIDE = 720  # pixels, the longest short side of a converted picture
# what H.264 main profile at level 4.2 and AAC LC are called; write_stream encodes them
_CONVERTED_VIDEO = "avc1.4d402a"
_CONVERTED_AUDIO = "mp4a.40.2"
_MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
_MATROSKA = "matroska,webm"
_MP4_SOUND = {"aac", "mp3", "ac3", "eac3", "opus", "flac", "alac"}
_MP4_PICTURE = {"h264", "hevc", "av1", "vp9"}
_WEBM_SOUND = {"opus", "vorbis"}
_WEBM_PICTURE = {"vp8", "vp9", "av1"}
_COPIED_PICTURE = _MP4_PICTURE
_COPIED_CONTAINERS = {_MP4, _MATROSKA, "mpegts", "flv"}  # whose packets have display times


class Way(StrEnum):
    """How a video is played."""

    FILE = "file"  # as it is, with ranges
    COPY = "copy"  # its pictures in fragmented MP4, its sound as AAC
    CONVERT = "convert"  # H.264 and AAC in fragmented MP4


@dataclass(frozen=True)
class PlayableWay:
    """One way to play a video. The browser takes the first one whose `type` it supports."""

    way: Way
    type: str  # media type with codecs, for canPlayType and isTypeSupported
    message: str  # for people: what is done and why; empty for the file itself


@dataclass(frozen=True)
class PlayPlan:
    """What a player has to know of a video before it plays it."""

    duration_ms: int
    width: int  # upright, with square pixels
    height: int
    frame_rate: float
    has_sound: bool
    file_offset_ms: int  # the first picture's time in the file itself
    ways: tuple[PlayableWay, ...]


def make_plan(path: VideoPath) -> PlayPlan:
    """How the video at `path` can be played. Raises VideoError."""
    stream_info = probe_stream(path)
    with open_container(path) as container:
        video = video_stream(container, stream_info.stream_index)
        audio = best_audio(container)
        ways = (_file_way(path, container, video, audio), _copy_way(path, container, video, audio))
        info = stream_info.video
        return PlayPlan(
            info.duration_ms,
            info.width,
            info.height,
            info.frame_rate,
            audio is not None,
            _file_offset_ms(container, stream_info),
            (*(way for way in ways if way), _convert_way(path, video, audio)),
        )


def best_audio(container: InputContainer) -> AudioStream | None:
    """The sound that is played: the default one of those that can be decoded; None if there is none."""
    streams = [s for s in container.streams.audio if s.codec_context is not None]
    best = container.streams.best("audio")
    return next((s for s in streams if best is not None and s.index == best.index), next(iter(streams), None))


def _file_way(
    path: VideoPath, container: InputContainer, video: VideoStream, audio: AudioStream | None
) -> PlayableWay | None:
    is_webm = os.fsencode(path).lower().endswith(b".webm") and container.format.name == _MATROSKA
    pictures, sounds = (_WEBM_PICTURE, _WEBM_SOUND) if is_webm else (_MP4_PICTURE, _MP4_SOUND)
    if not is_webm and container.format.name != _MP4:
        return None
    if _codec(video) not in pictures or (audio is not None and _codec(audio) not in sounds):
        return None
    if _codec(video) == "hevc" and _tag(video) not in ("hvc1", "hev1"):
        return None
    names = [video_codec_name(video), *([audio_codec_name(audio)] if audio else [])]
    return PlayableWay(Way.FILE, _media_type(names, "webm" if is_webm else "mp4"), "") if all(names) else None


def _copy_way(
    path: VideoPath, container: InputContainer, video: VideoStream, audio: AudioStream | None
) -> PlayableWay | None:
    name = video_codec_name(video)
    if _codec(video) not in _COPIED_PICTURE or container.format.name not in _COPIED_CONTAINERS or not name:
        return None
    sound = (
        ""
        if audio is None or _codec(audio) == "aac"
        else f", its {plain_name(_codec(audio))} sound converted"
    )
    message = f"{_describe(path, video, None)}: repackaged while it plays{sound}"
    return PlayableWay(Way.COPY, _media_type([name, *([_CONVERTED_AUDIO] if audio else [])]), message)


def _convert_way(path: VideoPath, video: VideoStream, audio: AudioStream | None) -> PlayableWay:
    names = [_CONVERTED_VIDEO, *([_CONVERTED_AUDIO] if audio else [])]
    return PlayableWay(
        Way.CONVERT, _media_type(names), f"{_describe(path, video, audio)}: converted while it plays"
    )


def _describe(path: VideoPath, video: VideoStream, audio: AudioStream | None) -> str:
    """As in "mkv with HEVC and AC-3"."""
    suffix = os.path.splitext(os.fsdecode(path))[1][1:].lower()
    codecs = [plain_name(_codec(stream)) for stream in (video, audio) if stream is not None]
    return printable(f"{suffix or 'file'} with {' and '.join(codecs)}")


def _media_type(names: Sequence[str | None], container: str = "mp4") -> str:
    return f'video/{container}; codecs="{",".join(name for name in names if name)}"'


def _codec(stream: VideoStream | AudioStream) -> str:
    name: str = stream.codec_context.codec.canonical_name
    return name


def _tag(stream: VideoStream) -> str:
    tag: str = stream.codec_context.codec_tag
    return tag


def _file_offset_ms(container: InputContainer, stream_info: StreamInfo) -> int:
    """The time at which a browser shows the first picture of the file: it begins at 0, or at an earlier sound."""
    first_s = stream_info.first_pts * stream_info.time_base
    starts_s = [Fraction(0)]
    starts_s += [s.start_time * s.time_base for s in container.streams if s.start_time and s.time_base]
    return round(1000 * (first_s - min(starts_s)))
