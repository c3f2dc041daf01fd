"""Recognises a video by its packets, so that a file whose metadata a tagger rewrote is not a new video."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import av.error

from vtag.engine.video.read.container import open_container, video_stream
from vtag.engine.video.read.probe import FULL_READ_BYTES, PacketReader, StreamInfo

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet

_HEAD_PACKETS, _MIDDLE_PACKETS, _TAIL_PACKETS = 64, 4, 16  # that are hashed of a large file
_MIDDLE_POSITIONS = (0.25, 0.5, 0.75)  # of the duration
_MAX_TAIL_BYTES = 64 << 20  # read behind the last seek


class Fingerprint(NamedTuple):
    """What stays the same if a container is rewritten.

    Two files with the same fingerprint and duration show the same video.
    """

    packets: str  # hash of the coded video; empty if it could not be read
    appearance: str  # how it is displayed: size, pixel aspect, orientation, HDR, frame interval


NO_FINGERPRINT = Fingerprint("", "")


def compute_fingerprint(path: bytes, stream_info: StreamInfo) -> Fingerprint:
    """The fingerprint of the file at `path`. Reads no more of the file than `probe_stream` did."""
    orientation = stream_info.orientation
    flags = (orientation.transpose, orientation.mirror_x, orientation.mirror_y)
    turn = "".join(str(int(flag)) for flag in flags)
    width, height = stream_info.stored_size
    hdr = f"{stream_info.video.hdr:d}"
    appearance = f"{width}x{height} {stream_info.aspect} {turn} {hdr} {stream_info.interval_us}"
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_container(path) as container:
            stream = video_stream(container, stream_info.stream_index)
            is_small = os.path.getsize(path) <= FULL_READ_BYTES
            for number, packet in enumerate(PacketReader(container, stream)):
                _add(digest, packet)
                if not is_small and number >= _HEAD_PACKETS:
                    break
            if not is_small:
                _add_samples(digest, container, stream_info)
    except (av.error.FFmpegError, OSError, ValueError):
        return Fingerprint("", appearance)
    return Fingerprint(digest.hexdigest(), appearance)


def _add_samples(digest: hashlib.blake2b, container: InputContainer, stream_info: StreamInfo) -> None:
    """Add some packets from the middle of the file, and the last ones."""
    stream = video_stream(container, stream_info.stream_index)
    for position in (*_MIDDLE_POSITIONS, 1.0):
        time_us = round(position * stream_info.end_us)
        target = stream_info.first_pts + round(time_us / 1_000_000 / stream_info.time_base)
        with contextlib.suppress(av.error.FFmpegError, OSError):
            container.seek(target, stream=stream)
        samples: deque[Packet] = deque(maxlen=_TAIL_PACKETS)
        bytes_read = 0
        for number, packet in enumerate(PacketReader(container, stream)):
            samples.append(packet)
            bytes_read += packet.size
            if (position < 1 and number + 1 >= _MIDDLE_PACKETS) or bytes_read > _MAX_TAIL_BYTES:
                break
        for packet in samples:
            _add(digest, packet)


def _add(digest: hashlib.blake2b, packet: Packet) -> None:
    if packet.size:
        digest.update(packet.size.to_bytes(8, "little"))
        digest.update(packet)
