"""What belongs to a container and its streams besides packets: tags, dispositions, codec tags, chapters."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from av.video.stream import VideoStream

from vtag.engine.timecodes import format_timecode
from vtag.engine.video.read.container import pixel_aspect
from vtag.engine.video_clock import VideoClock

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.container.core import Chapter
    from av.stream import Stream

MOV_SUFFIXES = (".mp4", ".mov", ".m4v", ".3gp")
_MOV_FORMATS = ("mov", "mp4", "3gp", "ipod")  # libavformat's names of this family
# Of the container that was read, or of the whole video: untrue of a clip in a new container. A tag that the muxer
# writes itself is the muxer's.
_STALE_TAGS = frozenset(
    ("major_brand", "minor_version", "compatible_brands", "encoder", "vendor_id", "duration", "timecode")
) | frozenset(("rotate", "bps", "number_of_frames", "number_of_bytes", "filesize", "totalframes"))


def copy_container_tags(source: InputContainer, target: OutputContainer) -> None:
    """Give `target` the tags of `source` that are true of a part of it."""
    target.metadata.update(true_tags(source.metadata))


def copy_stream_tags(source: Stream, target: Stream) -> None:
    """Give `target` the language, title and other tags of `source`, and its dispositions (default, forced ...)."""
    tags = true_tags(source.metadata)
    if _is_mov(target) and (title := tags.get("title")):  # where players look for it in MP4
        tags["handler_name"] = title
    target.metadata.update(tags)
    target.disposition = source.disposition


def true_tags(tags: dict[str, str]) -> dict[str, str]:
    """`tags` without those that are untrue of a part of the video in another container."""
    return {
        name: text
        for name, text in tags.items()
        # Matroska's statistics have the language behind the name: BPS-eng
        if name.lower().split("-")[0] not in _STALE_TAGS and not name.startswith("_STATISTICS")
    }


def copy_codec_tag(source: Stream, target: Stream) -> None:
    """Keep the codec tag (hvc1, dvh1 ...) from one MP4 or QuickTime file to another. HEVC becomes hvc1 there.

    libav's own choice for HEVC is hev1, which QuickTime, Safari and Photos do not play.
    """
    if not _is_mov(target):
        return
    own_choice = "hvc1" if source.codec_context.name == "hevc" else ""
    if tag := codec_tag(source) if _is_mov(source) else own_choice:
        target.codec_context.codec_tag = tag


def codec_tag(stream: Stream) -> str:
    """The four characters that name the codec in the container; empty without any."""
    try:
        tag = stream.codec_context.codec_tag if stream.codec_context is not None else ""
    except UnicodeDecodeError:
        return ""
    return tag if tag.strip("\0") else ""


def copy_pixel_aspect(source: Stream, target: Stream) -> None:
    """Keep the aspect of the pixels, which many codecs leave to the container. Only MP4 and QuickTime take it."""
    if isinstance(source, VideoStream) and isinstance(target, VideoStream) and source.sample_aspect_ratio:
        target.codec_context.sample_aspect_ratio = source.sample_aspect_ratio


def has_aspect_in_container(stream: VideoStream) -> bool:
    """Whether the container says another aspect of the pixels than the codec does."""
    return pixel_aspect(stream) != (stream.codec_context.sample_aspect_ratio or 1)


def copy_start_timecode(clock: VideoClock, start_ms: int, target: Stream) -> None:
    """Give `target` the camera's timecode at `start_ms` of the video, where the clip begins."""
    if clock.start_timecode is None or not isinstance(target, VideoStream):
        return
    if not target.codec_context.framerate:  # of ProRes and MJPEG; no timecode is written without it
        target.codec_context.framerate = clock.frame_rate
    target.metadata["timecode"] = format_timecode(clock, clock.player_ms(start_ms))


def _is_mov(stream: Stream) -> bool:
    return bool(set(stream.container.format.name.split(",")) & set(_MOV_FORMATS))


def copy_chapters(
    source: InputContainer, target: OutputContainer, start_s: Fraction, end_s: Fraction
) -> None:
    """Give `target` the chapters of `source` between two times of its clock, cut to them."""
    chapters: list[Chapter] = []
    for chapter in source.chapters():
        base = Fraction(chapter["time_base"] or 1)
        first_s, last_s = max(start_s, chapter["start"] * base), min(end_s, chapter["end"] * base)
        if first_s < last_s:
            first, last = round((first_s - start_s) / base), round((last_s - start_s) / base)
            chapters.append({**chapter, "id": len(chapters) + 1, "start": first, "end": last})
    if chapters:
        target.set_chapters(chapters)
