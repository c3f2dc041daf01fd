"""Cuts a moment out of a video: copies packets from the key frame before it, or encodes it again, exactly."""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import av.error

from vtag.engine.errors import VideoError
from vtag.engine.system.atomic_write import move_new
from vtag.engine.system.locks import LockHeldError, lock_file
from vtag.engine.text import display_path
from vtag.engine.video.read.container import UnusableVideo, error_text, open_container, video_stream
from vtag.engine.video.read.probe import StreamInfo, probe_stream
from vtag.engine.video.read.restarts import on_one_clock, seek
from vtag.engine.video.write.encode import encode
from vtag.engine.video.write.losses import list_losses
from vtag.engine.video.write.streams import (
    MOV_SUFFIXES,
    copy_chapters,
    copy_codec_tag,
    copy_container_tags,
    copy_pixel_aspect,
    copy_start_timecode,
    copy_stream_tags,
    has_aspect_in_container,
)

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_SEEK_MARGINS_S = (0, 3, 12, 60)  # seeking may lead to any packet; then an earlier target has to be tried
_AUDIO_LAG_S = 2  # how far behind the video packets those of sound and subtitles may be in a file
_LONG_SUBTITLE_S = 10  # how long before the clip a subtitle in it may begin
# no other container helps against these
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)
_LOCK_SUFFIX = b".part.lock"
_ENCODED_SUFFIX = ".mp4"
_COMMON_SUFFIXES = (".mp4", ".mov", ".m4v", ".mkv", ".webm")
_FORMATS = {  # suffix: libavformat's name of the container
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".wmv": "asf",
    ".flv": "flv", ".ogv": "ogg", ".ts": "mpegts", ".m2ts": "mpegts", ".mts": "mpegts", ".mpg": "mpeg",
    ".3gp": "3gp", ".gif": "gif",
}  # fmt: skip


class CutClip(NamedTuple):
    """A clip that was written: its file, and its start and end in the video."""

    path: bytes
    start_ms: int  # of the key frame if packets were copied
    end_ms: int
    not_kept: tuple[str, ...]  # what the clip lacks of the video's streams, in words


def candidate_suffixes(source: bytes, *, reencode: bool) -> tuple[str, ...]:
    """Suffixes of the containers to try for a clip of `source`, best first."""
    if reencode:
        return (_ENCODED_SUFFIX,)
    source_suffix = os.path.splitext(source)[1].lower().decode("ascii", "replace")
    first_choice = (source_suffix,) if source_suffix in _COMMON_SUFFIXES else ()
    last_choice = (source_suffix,) if source_suffix in _FORMATS else ()
    return tuple(dict.fromkeys((*first_choice, ".mkv", ".mp4", *last_choice)))


def cut(source: bytes, start_ms: int, end_ms: int, stem: bytes, *, reencode: bool = False) -> CutClip:
    """Write the clip from `start_ms` to `end_ms` of `source` to `stem` plus the suffix of its container.

    The clip has the sound, rotation and metadata of the video. Its file appears when it is complete, and never
    replaces another one. Raises VideoError.
    """
    try:
        with lock_file(Path(os.fsdecode(stem + _LOCK_SUFFIX))):
            return _cut_alone(source, start_ms, end_ms, stem, reencode=reencode)
    except LockHeldError as error:
        raise VideoError(f"{display_path(stem)} is being written by {error.holder}") from None
    except OSError as error:  # of the lock
        raise _write_error(stem, error) from error


def _cut_alone(source: bytes, start_ms: int, end_ms: int, stem: bytes, *, reencode: bool) -> CutClip:
    """`cut`, while no other process writes the same clip."""
    stream_info = probe_stream(source)
    start_ms, end_ms = max(0, start_ms), min(end_ms, max(1, stream_info.video.duration_ms))
    if start_ms >= end_ms:
        start_s = stream_info.video.clock.player_ms(start_ms) / 1000
        raise VideoError(f"{display_path(source)}: it ends before {start_s:.1f} s")
    failure: Exception | None = None
    suffixes = _suffixes_for_aspect(source, stream_info, candidate_suffixes(source, reencode=reencode))
    # a container may refuse the codec tag of another one
    for suffix, keep_codec_tags in itertools.product(suffixes, (True, False)[: 1 if reencode else 2]):
        target = stem + suffix.encode()
        part = stem + b".part" + suffix.encode()
        try:
            with _open_target(part) as container:
                if reencode:
                    encode(source, stream_info, start_ms, end_ms, container)
                    written_start_ms = start_ms
                else:
                    written_start_ms = _copy(
                        source, stream_info, start_ms, end_ms, container, keep_codec_tags=keep_codec_tags
                    )
            # reads the clip: some containers accept what cannot be read again
            not_kept = tuple(list_losses(source, stream_info.stream_index, part))
            move_new(part, target)
            return CutClip(target, written_start_ms, end_ms, not_kept)
        except (av.error.FFmpegError, UnusableVideo, ValueError) as error:
            if getattr(error, "errno", 0) in _DISK_ERRORS:
                raise _write_error(target, error) from error
            failure = failure or error
        except OSError as error:
            raise _write_error(target, error) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    assert failure is not None
    advice = "" if reencode else "; --reencode may do it"
    raise VideoError(f"{display_path(source)} cannot be cut ({error_text(failure)}){advice}") from failure


def _suffixes_for_aspect(
    source: bytes, stream_info: StreamInfo, suffixes: tuple[str, ...]
) -> tuple[str, ...]:
    """`suffixes`, those first that can keep an aspect of pixels that only the container says."""
    with open_container(source) as container:
        if not has_aspect_in_container(video_stream(container, stream_info.stream_index)):
            return suffixes
    return tuple(sorted(suffixes, key=lambda suffix: suffix not in MOV_SUFFIXES))


def _write_error(target: bytes, error: Exception) -> VideoError:
    return VideoError(f"{display_path(target)} cannot be written: {getattr(error, 'strerror', '') or error}")


def _open_target(part: bytes) -> OutputContainer:
    suffix = Path(os.fsdecode(part)).suffix
    # unofficial: the boxes of Dolby Vision, of 360 degrees and of stereo
    options = {"movflags": "use_metadata_tags", "strict": "unofficial"} if suffix in MOV_SUFFIXES else {}
    name = f"file:{os.path.abspath(os.fsdecode(part))}"  # so that libav takes concat:x as a file name
    with suppress(FileNotFoundError):  # of a process that was killed
        os.unlink(part)
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return av.open(name, "w", format=_FORMATS[suffix], options=options)


def _copy(
    source: bytes,
    stream_info: StreamInfo,
    start_ms: int,
    end_ms: int,
    target: OutputContainer,
    *,
    keep_codec_tags: bool,
) -> int:
    """Copy packets from the key frame at or before `start_ms` on; returns the key frame's time in the video (ms)."""
    first_s = stream_info.first_pts * stream_info.time_base
    key_s, seek_s = find_key_frame(source, stream_info, first_s + Fraction(start_ms, 1000))
    end_s = first_s + Fraction(end_ms, 1000)
    with open_container(source, generate_times=True) as container:
        video = video_stream(container, stream_info.stream_index)
        copies = {video.index: _add_copy(target, video, keep_codec_tags=keep_codec_tags)}
        others = [s for s in (*container.streams.audio, *container.streams.subtitles) if s.codec_context]
        for stream in others:
            with (
                suppress(ValueError) if stream.type == "subtitle" else nullcontext()
            ):  # not in every container
                copies[stream.index] = _add_copy(target, stream, keep_codec_tags=keep_codec_tags)
        others = [stream for stream in others if stream.index in copies]
        copy_start_timecode(stream_info.video.clock, _ms_after(first_s, key_s), copies[video.index])
        copy_container_tags(container, target)
        copy_chapters(container, target, key_s, end_s)
        if seek_s is not None:
            early_s = _LONG_SUBTITLE_S if any(s.type == "subtitle" for s in others) else 0
            seek(container, video, seek_s - early_s, stream_info.restarts)
        packets = on_one_clock(container.demux([video, *others]), stream_info.restarts)
        for packet in with_dts(_select_packets(packets, video, others, key_s, end_s)):
            offset = round(key_s / Fraction(packet.time_base))
            packet.pts = display_time(packet) - offset
            packet.dts = decode_time(packet) - offset
            packet.stream = copies[packet.stream_index]
            target.mux(packet)
    return _ms_after(first_s, key_s)


def _ms_after(first_s: Fraction, time_s: Fraction) -> int:
    return max(0, round((time_s - first_s) * 1000))


def _add_copy(target: OutputContainer, source: Stream, *, keep_codec_tags: bool) -> Stream:
    """A stream of `target` for the packets of `source`."""
    copy = target.add_stream_from_template(source, opaque=True)
    copy_stream_tags(source, copy)
    copy_pixel_aspect(source, copy)
    if keep_codec_tags:
        copy_codec_tag(source, copy)
    return copy


def with_dts(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The packets, each with a decoding time. In Matroska the first packets of a stream have none."""
    waiting: dict[int, list[Packet]] = {}  # packets without a decoding time, by stream
    for packet in packets:
        without_dts = waiting.setdefault(packet.stream_index, [])
        if packet.dts is None:
            without_dts.append(packet)
            continue
        for distance, earlier in enumerate(reversed(without_dts), 1):
            earlier.dts = packet.dts - distance
        yield from without_dts
        without_dts.clear()
        yield packet
    for without_dts in waiting.values():  # a stream of one picture
        yield from without_dts


def _select_packets(
    packets: Iterator[Packet],
    video: VideoStream,
    others: Sequence[Stream],
    key_s: Fraction,
    end_s: Fraction,
) -> Iterator[Packet]:
    """The packets from the key frame at `key_s` on that are needed to display everything before `end_s`."""
    has_begun, open_streams = False, {s.index for s in (video, *others)}
    behind_end: list[Packet] = []  # displayed after the end; needed if an earlier picture depends on them
    for packet in packets:
        if packet.size == 0 or (packet.pts is None and packet.dts is None) or not packet.time_base:
            continue
        time_base = Fraction(packet.time_base)
        decode_s = decode_time(packet) * time_base
        if decode_s >= end_s:
            open_streams.discard(packet.stream_index)
            if not open_streams or (video.index not in open_streams and decode_s > end_s + _AUDIO_LAG_S):
                break
            continue
        display_s = display_time(packet) * time_base
        if packet.stream_index == video.index:
            has_begun |= packet.is_keyframe and display_s >= key_s
            if not has_begun or display_s < key_s:  # depends on pictures before the key frame
                continue
            behind_end.append(packet)
            if display_s < end_s:
                yield from behind_end
                behind_end.clear()
            continue
        if packet.stream.type == "subtitle":
            _shorten(packet, key_s, end_s)
            display_s = display_time(packet) * time_base
        if key_s <= display_s < end_s:
            yield packet


def _shorten(packet: Packet, start_s: Fraction, end_s: Fraction) -> None:
    """Let a subtitle that is displayed at `start_s` begin there, and end at `end_s` at the latest."""
    if not packet.duration:
        return
    time_base, first = Fraction(packet.time_base), display_time(packet)
    last = min(first + packet.duration, int(end_s / time_base))
    if (start := math.ceil(start_s / time_base)) < last:
        packet.pts = packet.dts = max(first, start)
        packet.duration = last - packet.pts


class _KeyFrame(NamedTuple):
    """A key frame: its display time, and where to seek to find it (None: read from the beginning)."""

    display_s: Fraction
    seek_s: Fraction | None


def find_key_frame(source: bytes, stream_info: StreamInfo, time_s: Fraction) -> _KeyFrame:
    """The last key frame at or before `time_s`; the first one if all are later."""
    for seek_s in (*(time_s - margin for margin in _SEEK_MARGINS_S), None):
        with open_container(source, generate_times=True) as container:
            video = video_stream(container, stream_info.stream_index)
            if seek_s is not None and not seek(container, video, seek_s, stream_info.restarts):
                continue
            packets = on_one_clock(container.demux(video), stream_info.restarts)
            first, last = _key_frame_times(packets, time_s)
        if last is not None:
            return _KeyFrame(last, seek_s)
        if seek_s is None and first is not None:
            return _KeyFrame(first, None)
    raise UnusableVideo(source, "no key frame to begin with")


def _key_frame_times(packets: Iterator[Packet], time_s: Fraction) -> tuple[Fraction | None, Fraction | None]:
    """Times of the first key frame among `packets`, and of the last one at or before `time_s`."""
    first = last = None
    for packet in packets:
        if packet.size == 0 or (packet.pts is None and packet.dts is None):
            continue
        time_base = Fraction(packet.time_base)
        display_s = display_time(packet) * time_base
        if packet.is_keyframe:
            first = display_s if first is None else first
            if display_s <= time_s:
                last = display_s
        if first is not None and decode_time(packet) * time_base > time_s:
            break
    return first, last


def display_time(packet: Packet) -> int:
    """The presentation time of a packet; its decoding time if it has none."""
    time = packet.pts if packet.pts is not None else packet.dts
    assert time is not None
    return time


def decode_time(packet: Packet) -> int:
    """The decoding time of a packet; its presentation time if it has none."""
    return packet.dts if packet.dts is not None else display_time(packet)
