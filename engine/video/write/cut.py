"""Cuts a moment out of a video: its packets as they are, from the key frame before it, or encoded anew, exactly."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import av
import av.error

from vtag.engine.errors import VideoError
from vtag.engine.system.atomic_write import move_new
from vtag.engine.text import display_path
from vtag.engine.video.read.container import UnusableVideo, error_text, open_container, video_stream
from vtag.engine.video.read.probe import StreamInfo, probe_stream
from vtag.engine.video.write.encode import encode

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_SEEK_MARGINS_S = (0, 3, 12, 60)  # some containers lead to any packet: then a place earlier has to be tried
_LATE_S = 2  # how far behind the video's packets the sound's may lie in a file
_GENERATE_TIMES = 0x0001  # AVFMT_FLAG_GENPTS: AVI has none, and a container that is written needs them
_NO_ROOM = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
)  # no other container changes that
_ENCODED = ".mp4"
_USUAL = (".mp4", ".mov", ".m4v", ".mkv", ".webm")
_KINDS = {  # endings, and libavformat's names for what is written into such a file
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".wmv": "asf",
    ".flv": "flv", ".ogv": "ogg", ".ts": "mpegts", ".m2ts": "mpegts", ".mts": "mpegts", ".mpg": "mpeg",
    ".3gp": "3gp", ".gif": "gif",
}  # fmt: skip


class CutClip(NamedTuple):
    """A clip that was written: where, and where it begins and ends in its video."""

    path: bytes
    start_ms: int  # of a copy the key frame's
    end_ms: int


def candidate_suffixes(source: bytes, *, reencode: bool) -> tuple[str, ...]:
    """The containers that a cut of `source` is tried in: its own where that is a usual one, mkv, mp4, its own."""
    if reencode:
        return (_ENCODED,)
    own = os.path.splitext(source)[1].lower().decode("ascii", "replace")
    usual = (own,) if own in _USUAL else ()
    last = (own,) if own in _KINDS else ()
    return tuple(dict.fromkeys((*usual, ".mkv", ".mp4", *last)))


def cut(source: bytes, start_ms: int, end_ms: int, stem: bytes, *, reencode: bool = False) -> CutClip:
    """Write the clip from `start_ms` to `end_ms` of `source` to `stem` with a container's ending.

    The sound comes along, and so do rotation and metadata. The file appears when it is whole, and never takes the
    place of another. Raises VideoError.
    """
    facts = probe_stream(source)
    start_ms, end_ms = max(0, start_ms), min(end_ms, max(1, facts.info.duration_ms))
    if start_ms >= end_ms:
        raise VideoError(f"{display_path(source)}: it ends before {start_ms / 1000:.1f} s")
    failure: Exception | None = None
    for suffix in candidate_suffixes(source, reencode=reencode):
        target = stem + suffix.encode()
        part = stem + b".part" + suffix.encode()
        try:
            begun_ms = _write(source, facts, start_ms, end_ms, part, reencode=reencode)
            probe_stream(part)  # what a container takes is not always what can be read again
            move_new(part, target)
            return CutClip(target, begun_ms, end_ms)
        except (av.error.FFmpegError, UnusableVideo, ValueError) as error:
            if getattr(error, "errno", 0) in _NO_ROOM:
                raise _unwritten(target, error) from error
            failure = failure or error
        except OSError as error:
            raise _unwritten(target, error) from error
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)
    assert failure is not None
    advice = "" if reencode else "; --reencode may do it"
    raise VideoError(f"{display_path(source)} cannot be cut ({error_text(failure)}){advice}") from failure


def _unwritten(target: bytes, error: Exception) -> VideoError:
    return VideoError(f"{display_path(target)} cannot be written: {getattr(error, 'strerror', '') or error}")


def _open_target(part: bytes) -> OutputContainer:
    options = {"movflags": "use_metadata_tags"} if part.endswith((b".mp4", b".mov", b".m4v")) else {}
    name = f"file:{os.path.abspath(os.fsdecode(part))}"  # a name like concat:x is a name
    os.close(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    return av.open(name, "w", format=_KINDS[Path(os.fsdecode(part)).suffix], options=options)


def _write(
    source: bytes, facts: StreamInfo, start_ms: int, end_ms: int, part: bytes, *, reencode: bool
) -> int:
    """Write the clip; returns when its first picture is shown in the video, milliseconds."""
    with _open_target(part) as target:
        if reencode:
            encode(source, facts, start_ms, end_ms, target)
            return start_ms
        return _copy(source, facts, start_ms, end_ms, target)


def _copy(source: bytes, facts: StreamInfo, start_ms: int, end_ms: int, target: OutputContainer) -> int:
    """Copy packets from the key frame at or before `start_ms` on; returns when that is shown."""
    first_s = facts.first_pts * facts.time_base
    key_s, seek_s = _key_before(source, facts, first_s + Fraction(start_ms, 1000))
    end_s = first_s + Fraction(end_ms, 1000)
    with open_container(source) as container:
        container.flags |= _GENERATE_TIMES
        video = video_stream(container, facts.stream_index)
        sound = [s for s in container.streams.audio if s.codec_context is not None]
        copies = {s.index: target.add_stream_from_template(s, opaque=True) for s in (video, *sound)}
        target.metadata.update(container.metadata)
        if seek_s is not None:
            _seek(container, video, seek_s)
        for packet in _with_order(_between(container, video, sound, key_s, end_s)):
            offset = round(key_s / Fraction(packet.time_base))
            packet.pts = _time(packet) - offset
            packet.dts = (_time(packet) if packet.dts is None else packet.dts) - offset
            packet.stream = copies[packet.stream_index]
            target.mux(packet)
    return max(0, round((key_s - first_s) * 1000))


def _with_order(packets: Iterator[Packet]) -> Iterator[Packet]:
    """The packets, each with a decoding time: Matroska does not tell those of a stream's first."""
    waiting: dict[int, list[Packet]] = {}
    for packet in packets:
        held = waiting.setdefault(packet.stream_index, [])
        if packet.dts is None:
            held.append(packet)
            continue
        for back, earlier in enumerate(reversed(held), 1):
            earlier.dts = packet.dts - back
        yield from held
        held.clear()
        yield packet
    for held in waiting.values():  # a stream of one picture
        yield from held


def _between(
    container: InputContainer, video: VideoStream, sound: list[AudioStream], key_s: Fraction, end_s: Fraction
) -> Iterator[Packet]:
    """The packets from the key frame at `key_s` on that are needed for what is shown before `end_s`."""
    begun, open_streams = False, {s.index for s in (video, *sound)}
    later: list[Packet] = []  # shown after the end: needed where pictures that are shown before it follow
    for packet in container.demux([video, *sound]):
        if packet.size == 0 or (packet.pts is None and packet.dts is None) or not packet.time_base:
            continue
        base = Fraction(packet.time_base)
        order_s = _order(packet) * base
        if order_s >= end_s:
            open_streams.discard(packet.stream_index)
            if not open_streams or (video.index not in open_streams and order_s > end_s + _LATE_S):
                break
            continue
        shown_s = _time(packet) * base
        if packet.stream_index == video.index:
            begun |= packet.is_keyframe and shown_s >= key_s
            if not begun or shown_s < key_s:  # these would be decoded from pictures before the key frame
                continue
            later.append(packet)
            if shown_s < end_s:
                yield from later
                later.clear()
            continue
        if key_s <= shown_s < end_s:
            yield packet


class _Key(NamedTuple):
    """A key frame: when it is shown, and where to seek to find it (None: only from the beginning on)."""

    shown_s: Fraction
    seek_s: Fraction | None


def _key_before(source: bytes, facts: StreamInfo, at_s: Fraction) -> _Key:
    """The last key frame at or before `at_s`; the first of all where none is before."""
    for seek_s in (*(at_s - margin for margin in _SEEK_MARGINS_S), None):
        with open_container(source) as container:
            container.flags |= _GENERATE_TIMES
            video = video_stream(container, facts.stream_index)
            if seek_s is not None and not _seek(container, video, seek_s):
                continue
            first, last = _keys(container, video, at_s)
        if last is not None:
            return _Key(last, seek_s)
        if seek_s is None and first is not None:
            return _Key(first, None)
    raise UnusableVideo(source, "no key frame to begin with")


def _keys(
    container: InputContainer, video: VideoStream, at_s: Fraction
) -> tuple[Fraction | None, Fraction | None]:
    """The first key frame from here on, and the last at or before `at_s`."""
    first = last = None
    for packet in container.demux(video):
        if packet.size == 0 or (packet.pts is None and packet.dts is None):
            continue
        shown_s = _time(packet) * Fraction(packet.time_base)
        if packet.is_keyframe:
            first = shown_s if first is None else first
            if shown_s <= at_s:
                last = shown_s
        if (
            first is not None
            and (packet.dts if packet.dts is not None else _time(packet)) * Fraction(packet.time_base) > at_s
        ):
            break
    return first, last


def _time(packet: Packet) -> int:
    """When a packet is shown, or where the container does not say, its place in the order."""
    time = packet.pts if packet.pts is not None else packet.dts
    assert time is not None
    return time


def _order(packet: Packet) -> int:
    """When a packet is decoded, as far as the container says."""
    return packet.dts if packet.dts is not None else _time(packet)


def _seek(container: InputContainer, video: VideoStream, at_s: Fraction) -> bool:
    """Stand at a key frame before `at_s`; False where the container only begins anew."""
    assert video.time_base is not None
    try:  # before the beginning some containers find the end
        container.seek(max(video.start_time or 0, int(at_s / video.time_base)), stream=video)
    except (av.error.FFmpegError, OSError):
        return False
    return True
