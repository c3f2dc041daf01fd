"""Writes a video from a given time on as fragmented MP4, whose times are those of the video."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, BinaryIO

import av

from vtag.engine.video.play.picture import US, PictureConverter, copy_packets
from vtag.engine.video.play.plan import CONVERTED_SIDE, STREAM_OFFSET_S, Way, best_audio
from vtag.engine.video.play.sound import RATE, SoundSource
from vtag.engine.video.read.container import open_container, video_stream
from vtag.engine.video.read.probe import probe_stream

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

# fragments that can be played one after the other as they come, with the times of the video
_MOVFLAGS = "+".join(["frag_keyframe", "empty_moov", "default_base_moof", "frag_discont", "skip_trailer"])
_FRAGMENT_US = 1_000_000  # longest fragment
_SOUND_BITS = 160_000  # a second


def write_stream(
    path: bytes, way: Way, start_ms: int, out: BinaryIO, *, short_side: int = CONVERTED_SIDE
) -> None:
    """Write picture and sound of `path` from `start_ms` to its end to `out`, STREAM_OFFSET_S later.

    A copied picture begins with the key frame before `start_ms`. Raises VideoError.
    """
    stream_info = probe_stream(path)
    start_us = start_ms * 1000
    options = {
        "movflags": _MOVFLAGS,
        "frag_duration": str(_FRAGMENT_US),
        "use_editlist": "0",  # or its times would be those of the first display time
        "avoid_negative_ts": "disabled",  # the muxer would let the stream begin at 0
    }
    with open_container(path) as source:
        audio = best_audio(source)
        target = av.open(out, "w", format="mp4", options=options)
        if way is Way.COPY:
            template = video_stream(source, stream_info.stream_index)
            video: Stream = target.add_stream_from_template(template, opaque=True)
            video.time_base = US
            if template.codec_context.codec.canonical_name == "hevc":
                video.codec_context.codec_tag = (
                    "hvc1"  # the parameters are in the header; Safari plays no other
                )
            pictures = copy_packets(path, stream_info, start_us)
        else:
            converter = PictureConverter(target, stream_info, short_side)
            video, pictures = converter.stream, converter.packets(path, start_us)
        streams = [_on(video, pictures)]
        if audio is not None:
            encoder = target.add_stream("aac", rate=RATE, layout="stereo", bit_rate=_SOUND_BITS)
            sound = SoundSource(path, audio.index, stream_info)
            streams.append(_on(encoder, sound.packets(encoder, start_us, stream_info.end_us)))
        for packet in heapq.merge(*streams, key=_time_s):
            target.mux(_shifted(packet))
        target.close()


def _on(stream: Stream, packets: Iterator[Packet]) -> Iterator[Packet]:
    for packet in packets:
        packet.stream = stream
        yield packet


def _time_s(packet: Packet) -> Fraction:
    assert packet.dts is not None
    return packet.dts * Fraction(packet.time_base)


def _shifted(packet: Packet) -> Packet:
    """`packet`, STREAM_OFFSET_S later."""
    offset = round(STREAM_OFFSET_S / Fraction(packet.time_base))
    packet.pts = None if packet.pts is None else packet.pts + offset
    packet.dts = None if packet.dts is None else packet.dts + offset
    return packet
