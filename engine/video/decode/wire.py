"""The lines of JSON between the pool and its decoding processes, as typed messages.

JSON and not pickle: a hostile video may take over a decoder, and nothing that a decoder sends is executed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any

from vtag.engine.video.decode.messages import (
    DecodeDone,
    DecodeFailed,
    DecodeRequest,
    DecodeSkipped,
    DurationRead,
    DurationRequest,
    FinalEvent,
    FingerprintReady,
    ProbeRequest,
    ProtocolRequest,
    SingleWindowRequest,
    TrainingClipRequest,
    VideoProbed,
    WindowsRequest,
)
from vtag.engine.video.read.fingerprint import Fingerprint
from vtag.engine.video.read.probe import VideoInfo
from vtag.engine.video.read.sampling import Sampling
from vtag.engine.video_clock import ClockStretch, Timecode, VideoClock

# --- from the pool to a process --------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodeJob:
    """A request for a process to work on."""

    id: int
    request: DecodeRequest
    threads: int  # of the decoder
    with_fingerprint: bool  # send a `FingerprintReady` and wait for a `Decision` before decoding


@dataclass(frozen=True)
class Decision:
    """The answer to a `FingerprintReady`."""

    is_decoded: bool


@dataclass(frozen=True)
class MemoryGrant:
    """The answer to a `MemoryRequest`: the offset of the range, or None if the arena is too small for it."""

    offset: int | None


ToWorker = DecodeJob | Decision | MemoryGrant

# --- from a process to the pool --------------------------------------------------------------------------------


@dataclass(frozen=True)
class WorkerReady:
    """The process has started and waits for its first job."""


@dataclass(frozen=True)
class JobStarted:
    """The process has taken a job. If it dies from here on, the video may be the reason."""


@dataclass(frozen=True)
class VideoOpened:
    """The file is a video of this duration, as far as is known before decoding."""

    duration_ms: int


@dataclass(frozen=True)
class Heartbeat:
    """The decoder makes progress; `memory_bytes` of it are its alone."""

    memory_bytes: int


@dataclass(frozen=True)
class MemoryRequest:
    """The process needs a range of the arena for a clip, and waits for a `MemoryGrant`."""

    length: int  # bytes


@dataclass(frozen=True)
class ClipWritten:
    """The granted range at `offset` holds a clip of this shape [V, T, H, W, 3]."""

    offset: int
    shape: tuple[int, ...]
    start_ms: int
    end_ms: int


FromWorker = (
    WorkerReady
    | JobStarted
    | VideoOpened
    | Heartbeat
    | MemoryRequest
    | ClipWritten
    | FingerprintReady
    | FinalEvent
)

# --- the encoding ----------------------------------------------------------------------------------------------

_TYPES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(DecodeJob, Decision, MemoryGrant),
        *(WorkerReady, JobStarted, VideoOpened, Heartbeat, MemoryRequest, ClipWritten),
        *(FingerprintReady, DecodeDone, DecodeSkipped, DecodeFailed, DurationRead, VideoProbed),
        *(WindowsRequest, SingleWindowRequest, ProtocolRequest, TrainingClipRequest, DurationRequest),
        ProbeRequest,
        *(Sampling, VideoInfo, VideoClock, ClockStretch, Timecode, Fingerprint),
    )
}


def encode(message: ToWorker | FromWorker) -> bytes:
    """`message` as one line."""
    return json.dumps(_to_json(message)).encode() + b"\n"


def decode_request(line: bytes) -> ToWorker:
    """The message that `encode` wrote, in the process. Collections come back as tuples."""
    message: ToWorker = json.loads(line, object_hook=_from_json)
    return message


def decode_answer(line: bytes) -> FromWorker:
    """The message that `encode` wrote, in the pool. Collections come back as tuples."""
    message: FromWorker = json.loads(line, object_hook=_from_json)
    return message


def _to_json(value: Any) -> Any:
    name = type(value).__name__
    if isinstance(value, bytes):
        return {"type": "bytes", "hex": value.hex()}
    if isinstance(value, Fraction):
        return {"type": name, "value": str(value)}
    if isinstance(value, Fingerprint):
        return {"type": name, **value._asdict()}
    if name in _TYPES:
        return {"type": name, **{f.name: _to_json(getattr(value, f.name)) for f in fields(value)}}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return [_to_json(element) for element in value]


def _from_json(values: dict[str, Any]) -> Any:
    name = values.pop("type")
    if name == "bytes":
        return bytes.fromhex(values["hex"])
    if name == "Fraction":
        return Fraction(values["value"])
    return _TYPES[name](**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})
