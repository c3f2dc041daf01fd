"""Names of codecs: for a browser's `isTypeSupported` (RFC 6381), and for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.audio.stream import AudioStream
    from av.video.stream import VideoStream

_SPS = b"\x00\x00\x01\x67"  # a sequence parameter set of H.264 in a byte stream
_AUDIO_NAMES = {
    "aac": "mp4a.40.2",
    "mp3": "mp4a.6B",
    "ac3": "ac-3",
    "eac3": "ec-3",
    "opus": "opus",
    "flac": "flac",
    "vorbis": "vorbis",
    "alac": "alac",
}
_PLAIN_NAMES = {
    "h264": "H.264",
    "hevc": "HEVC",
    "vvc": "VVC",
    "av1": "AV1",
    "vp8": "VP8",
    "vp9": "VP9",
    "mpeg1video": "MPEG-1",
    "mpeg2video": "MPEG-2",
    "mpeg4": "MPEG-4 ASP",
    "msmpeg4v2": "MS-MPEG-4",
    "msmpeg4v3": "DivX 3",
    "h263": "H.263",
    "prores": "ProRes",
    "dnxhd": "DNxHD",
    "mjpeg": "Motion JPEG",
    "dvvideo": "DV",
    "theora": "Theora",
    "flv1": "Sorenson H.263",
    "wmv2": "WMV 8",
    "wmv3": "WMV 9",
    "vc1": "VC-1",
    "rawvideo": "raw video",
    "ffv1": "FFV1",
    "gif": "GIF",
    "aac": "AAC",
    "mp3": "MP3",
    "mp2": "MP2",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "dts": "DTS",
    "truehd": "TrueHD",
    "opus": "Opus",
    "flac": "FLAC",
    "vorbis": "Vorbis",
    "amr_nb": "AMR",
    "wmav2": "WMA",
}


def plain_name(codec: str) -> str:
    """A codec's name as people write it, from libav's name."""
    return _PLAIN_NAMES.get(codec, "PCM" if codec.startswith("pcm_") else codec.upper())


def audio_codec_name(stream: AudioStream) -> str | None:
    """The codec of a sound for a browser; None if no browser plays it."""
    return _AUDIO_NAMES.get(stream.codec_context.codec.canonical_name)


def video_codec_name(stream: VideoStream) -> str | None:
    """The codec of a picture for a browser, with profile and level; None if unknown or if no browser plays it."""
    context = stream.codec_context
    header = bytes(context.extradata or b"")
    match context.codec.canonical_name:
        case "h264":
            return _h264_name(header)
        case "hevc":
            return _hevc_name(header)
        case "av1":
            return _av1_name(header)
        case "vp9":
            return _vp9_name(context.pix_fmt or "")
        case "vp8":
            return "vp8"
    return None


def _h264_name(header: bytes) -> str | None:
    """From avcC, or from a byte stream's first parameter set."""
    if header[:1] == b"\x01" and len(header) >= 4:
        return f"avc1.{header[1:4].hex()}"
    start = header.find(_SPS)
    profile = header[start + len(_SPS) : start + len(_SPS) + 3]
    return f"avc1.{profile.hex()}" if start >= 0 and len(profile) == 3 else None


def _hevc_name(header: bytes) -> str | None:
    """From hvcC (ISO 14496-15, annex E.3)."""
    if header[:1] != b"\x01" or len(header) < 13:
        return None
    space = ("", "A", "B", "C")[header[1] >> 6]
    tier = "H" if header[1] & 0x20 else "L"
    compatible = int(f"{int.from_bytes(header[2:6]):032b}"[::-1], 2)
    constraints = "".join(f".{byte:x}" for byte in header[6:12].rstrip(b"\0"))
    return f"hvc1.{space}{header[1] & 0x1F}.{compatible:x}.{tier}{header[12]}{constraints}"


def _av1_name(header: bytes) -> str | None:
    """From av1C."""
    if len(header) < 4 or header[0] != 0x81:
        return None
    bits = 8 if not header[2] & 0x40 else 12 if header[2] & 0x20 else 10
    return f"av01.{header[1] >> 5}.{header[1] & 0x1F:02}{'H' if header[2] & 0x80 else 'M'}.{bits:02}"


def _vp9_name(pix_fmt: str) -> str:
    """From the pixel format. The level is that of any picture up to 4K."""
    is_deep = "10" in pix_fmt or "12" in pix_fmt
    profile = (2 if is_deep else 0) + (0 if "420" in pix_fmt else 1)
    return f"vp09.{profile:02}.51.{12 if '12' in pix_fmt else 10 if is_deep else 8:02}"
