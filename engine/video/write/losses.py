"""Says what a clip did not keep of its video, by reading both files."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

import av.error
import av.stream

from vtag.engine.text import pluralize, printable
from vtag.engine.video.read.container import NO_PICTURE, UnusableVideo, open_container, pixel_aspect
from vtag.engine.video.read.convert import read_orientation, read_tilt
from vtag.engine.video.read.views import upright_size
from vtag.engine.video.write.streams import true_tags

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.sidedata.sidedata import SideData
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

_SIDE_DATA = {  # of a frame, by PyAV's name
    "MASTERING_DISPLAY_METADATA": "the HDR mastering data",
    "CONTENT_LIGHT_LEVEL": "the HDR light level",
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DOVI_METADATA": "Dolby Vision",
    "SPHERICAL": "the 360° projection",
    "STEREO3D": "the stereo 3D layout",
    "ICC_PROFILE": "the colour profile",
    "A53_CC": "the closed captions",
}
_MARKS = ("default", "dub", "original", "comment", "forced", "hearing_impaired", "visual_impaired")
_MAX_FIRST_FRAME_PACKETS = 500
_MAX_TAG_NAME = 60  # characters
_SAME_SHAPE = 0.03  # relative difference of width over height that an even size can make
_UNSPECIFIED = 2  # of colour primaries, transfer curve and matrix
_RGB_MATRIX = 0


class _StreamFacts(NamedTuple):
    """What a container says of a stream."""

    language: str
    title: str
    names: frozenset[str]  # title and handler: MP4 has the title of a stream there
    marks: frozenset[str]  # default, forced ...
    channels: int  # of a sound


@dataclass(frozen=True)
class _Facts:
    """What a file carries besides pixels and samples."""

    picture: _StreamFacts
    sounds: list[_StreamFacts]
    others: Counter[str]  # the streams that are neither the picture nor a sound, by kind
    chapters: int
    look: dict[str, object]  # what is said of how the picture is displayed
    shape: float  # width over height, as displayed
    bits: int  # of a colour
    side_data: frozenset[str]
    tags: frozenset[str]  # of the container


def list_losses(source: bytes, stream_index: int, clip: bytes) -> list[str]:
    """What `clip` did not keep of the streams of `source`, in words; empty if all was kept.

    `stream_index` is that of the picture in `source`. Raises UnusableVideo if one of them has no picture.
    """
    before, after = _read_facts(source, stream_index), _read_facts(clip)
    losses = [
        pluralize(count - after.others[name], name)
        for name, count in before.others.items()
        if count > after.others[name]
    ]
    if len(after.sounds) < len(before.sounds):
        losses.append(pluralize(len(before.sounds) - len(after.sounds), "sound track"))
    losses += _stream_losses("the picture", before.picture, after.picture)
    for number, (old, new) in enumerate(zip(before.sounds, after.sounds, strict=False), 1):
        losses += _stream_losses("the sound" if len(before.sounds) == 1 else f"sound {number}", old, new)
    losses += [name for name, value in before.look.items() if value and after.look.get(name) != value]
    if abs(before.shape / after.shape - 1) > _SAME_SHAPE:
        losses.append("the aspect of the picture")
    if after.bits < before.bits:
        losses.append(f"{before.bits} bits a colour (now {after.bits})")
    losses += sorted(before.side_data - after.side_data)
    if before.chapters and not after.chapters:
        losses.append("the chapters")
    if missing_tags := sorted(before.tags - after.tags):
        losses.append(f"the {'tag' if len(missing_tags) == 1 else 'tags'} {', '.join(missing_tags)}")
    return losses


def _stream_losses(name: str, old: _StreamFacts, new: _StreamFacts) -> list[str]:
    losses = []
    if old.language not in ("", "und", new.language):
        losses.append(f"the language of {name}")
    if old.title and old.title not in new.names:
        losses.append(f"the title of {name}")
    losses += [f"the mark {mark!r} of {name}" for mark in sorted(old.marks - new.marks)]
    if new.channels < old.channels:
        losses.append(f"{old.channels - new.channels} of {old.channels} channels of {name}")
    return losses


def _read_facts(path: bytes, stream_index: int | None = None) -> _Facts:
    with open_container(path) as container:
        streams = list(container.streams)
        video = next(s for s in container.streams.video if stream_index in (None, s.index))
        others = Counter(_kind(s) for s in streams if s.index != video.index and s.type != "audio")
        chapters = len(container.chapters())
        frame = _first_frame(container, video, path)
        side_data = {data.type.name for data in cast("Iterator[SideData]", iter(frame.side_data))}
        width, height = upright_size(frame.width, frame.height, pixel_aspect(video), read_orientation(frame))
        return _Facts(
            _stream_facts(video),
            [_stream_facts(stream) for stream in container.streams.audio],
            others,
            chapters,
            _look(frame, video),
            width / height,
            max(part.bits for part in frame.format.components),
            frozenset(name for kind, name in _SIDE_DATA.items() if kind in side_data),
            # names are a stranger's text, too, and end on a terminal
            frozenset(printable(name.lower())[:_MAX_TAG_NAME] for name in true_tags(container.metadata)),
        )


def _kind(stream: Stream) -> str:
    """What a stream is, in the singular."""
    if stream.disposition & av.stream.Disposition.attached_pic:
        return "cover picture"
    names = {"video": "picture track", "subtitle": "subtitle track", "attachment": "attachment"}
    return names.get(stream.type, "data track")


def _stream_facts(stream: Stream) -> _StreamFacts:
    title = stream.metadata.get("title", "")
    return _StreamFacts(
        stream.metadata.get("language", ""),
        title,
        frozenset((title, stream.metadata.get("handler_name", ""))),
        frozenset(mark for mark in _MARKS if stream.disposition & av.stream.Disposition[mark]),
        getattr(stream.codec_context, "channels", 0),
    )


def _look(frame: VideoFrame, video: VideoStream) -> dict[str, object]:
    """What is said of how a picture is displayed; nothing, where nothing is said."""

    def colour(value: int) -> int | None:
        return None if value == _UNSPECIFIED or frame.colorspace == _RGB_MATRIX else value

    return {
        "the colour primaries": colour(frame.color_primaries),
        "the transfer curve": colour(frame.color_trc),
        "the colour matrix": colour(frame.colorspace),
        # of WebM beside the packets of the picture, where its decoder does not look
        "the transparency": any(part.is_alpha for part in frame.format.components)
        or any(name.lower() == "alpha_mode" and text == "1" for name, text in video.metadata.items()),
        "the fields of interlaced pictures": frame.interlaced_frame,
        "the tilt of the picture": read_tilt(frame),
    }


def _first_frame(container: InputContainer, video: VideoStream, path: bytes) -> VideoFrame:
    video.thread_type = "NONE"
    for number, packet in enumerate(container.demux(video)):
        with contextlib.suppress(av.error.FFmpegError):
            for frame in packet.decode():
                return frame
        if number > _MAX_FIRST_FRAME_PACKETS:
            break
    raise UnusableVideo(path, NO_PICTURE)
