"""Knows a video by its packets, so that a container that a tagger rewrote is not taken for another video."""

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

_FIRST, _MIDDLE, _LAST = 64, 4, 16  # packets that are looked at in a large file, at each of its places
_PLACES = (0.25, 0.5, 0.75)
_TAIL_BYTES = 64 << 20  # read behind the last seek, at most


class Fingerprint(NamedTuple):
    """What stays when a container is rewritten.

    `packets` is a hash of the coded video; `shown_as` says how it is to be turned and stretched. Where both are the
    same, and the duration, a video looks the same.
    """

    packets: str  # empty where it could not be read
    appearance: str


NO_FINGERPRINT = Fingerprint("", "")


def compute_fingerprint(path: bytes, facts: StreamInfo) -> Fingerprint:
    """The fingerprint of the file at `path`, of which `facts` are known. Reads at most what `examine` read."""
    orientation = facts.orientation
    turned = "".join(
        str(int(way)) for way in (orientation.transpose, orientation.mirror_x, orientation.mirror_y)
    )
    width, height = facts.stored_size
    appearance = f"{width}x{height} {facts.aspect} {turned} {facts.info.hdr:d} {facts.interval_us}"
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open_container(path) as container:
            stream = video_stream(container, facts.stream_index)
            packets = PacketReader(container, stream)
            whole = os.path.getsize(path) <= FULL_READ_BYTES
            for number, packet in enumerate(packets):
                _add(digest, packet)
                if not whole and number >= _FIRST:
                    break
            if not whole:
                _add_places(digest, container, facts)
    except (av.error.FFmpegError, OSError, ValueError):
        return Fingerprint("", appearance)
    return Fingerprint(digest.hexdigest(), appearance)


def _add_places(digest: hashlib.blake2b, container: InputContainer, facts: StreamInfo) -> None:
    """Some packets from within, and the last ones."""
    stream = video_stream(container, facts.stream_index)
    for place in (*_PLACES, 1.0):
        at_us = round(place * facts.end_us)
        target = facts.first_pts + round(at_us / 1_000_000 / facts.time_base)
        with contextlib.suppress(av.error.FFmpegError, OSError):
            container.seek(target, stream=stream)
        kept: deque[Packet] = deque(maxlen=_LAST)
        bytes_read = 0
        for number, packet in enumerate(PacketReader(container, stream)):
            kept.append(packet)
            bytes_read += packet.size
            if (place < 1 and number + 1 >= _MIDDLE) or bytes_read > _TAIL_BYTES:
                break
        for packet in kept:
            _add(digest, packet)


def _add(digest: hashlib.blake2b, packet: Packet) -> None:
    if packet.size:
        digest.update(packet.size.to_bytes(8, "little"))
        digest.update(packet)
