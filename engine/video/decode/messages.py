"""Requests to a pool of decoding processes, and the events that answer them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import VideoPath
from vtag.engine.video.read.fingerprint import Fingerprint
from vtag.engine.video.read.probe import VideoInfo
from vtag.engine.video.read.sampling import PublishedProtocol, Sampling

# --- requests ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class WindowsRequest:
    """Decode the windows of a video: all, or those that begin at `only_starts`, less those at `skip_starts` (ms)."""

    path: VideoPath
    sampling: Sampling
    skip_starts: Collection[int] = ()
    only_starts: Collection[int] | None = None


@dataclass(frozen=True)
class SingleWindowRequest:
    """Decode one window: the one at `start_ms`, else the one at `share` of the possible positions.

    The stride of `sampling` does not matter.
    """

    path: VideoPath
    sampling: Sampling
    start_ms: int | None = None
    share: float = 0.5  # 0: the first position, 1: the last


@dataclass(frozen=True)
class ProtocolRequest:
    """Decode the views of a published protocol (`published.read_protocol_views`); one clip holds all N views."""

    path: VideoPath
    protocol: PublishedProtocol
    frames: int
    short_side: int
    crop: int


@dataclass(frozen=True)
class TrainingClipRequest:
    """Decode one clip by frame index (`published.read_training_clip`)."""

    path: VideoPath
    share: float  # 0: the first possible position, 1: the last
    frames: int
    step: int
    short_side: int
    crop: int | None = None


@dataclass(frozen=True)
class DurationRequest:
    """Read the duration that the container claims, without decoding. The answer is a `DurationRead`."""

    path: VideoPath


@dataclass(frozen=True)
class ProbeRequest:
    """Read what a file says of its video. The answer is a `VideoProbed`."""

    path: VideoPath


DecodeRequest = (
    WindowsRequest
    | SingleWindowRequest
    | ProtocolRequest
    | TrainingClipRequest
    | DurationRequest
    | ProbeRequest
)

# --- events --------------------------------------------------------------------------------------------------


class ClipReady:
    """A clip in shared memory. Call `release()` after its pixels were used or copied: decoding waits for memory."""

    def __init__(
        self, job_id: int, start_ms: int, end_ms: int, pixels: NDArray[np.uint8], free: Callable[[], None]
    ) -> None:
        self.job_id = job_id
        self.start_ms = start_ms
        self.end_ms = end_ms
        self._pixels: NDArray[np.uint8] | None = pixels
        self._free = free

    @property
    def pixels(self) -> NDArray[np.uint8]:
        """uint8 [V, T, H, W, 3], RGB. Raises ValueError after `release()`: another clip may use the memory."""
        if self._pixels is None:
            raise ValueError("the clip was released")
        return self._pixels

    def release(self) -> None:
        """Return the memory to the pool; a second call does nothing."""
        if self._pixels is not None:
            self._pixels = None
            self._free()

    def __repr__(self) -> str:
        return f"ClipReady(job_id={self.job_id}, start_ms={self.start_ms}, end_ms={self.end_ms})"


@dataclass(frozen=True)
class FingerprintReady:
    """The fingerprint of a video, before it is decoded.

    If `needs_decision`, the pool knows the fingerprint and waits for `DecodePool.decode_anyway` or `skip`.
    """

    job_id: int
    info: VideoInfo
    fingerprint: Fingerprint
    needs_decision: bool = False


@dataclass(frozen=True)
class DecodeDone:
    """A request is done. Its clips came before."""

    job_id: int
    info: VideoInfo
    broken_packets: int
    clips: int
    empty_windows: int  # without a frame that begins in them
    note: str = ""  # what was wrong with a video that was decoded all the same


@dataclass(frozen=True)
class DecodeSkipped:
    """A video was not decoded, because `DecodePool.skip` was called."""

    job_id: int


@dataclass(frozen=True)
class DecodeFailed:
    """A video cannot be decoded. Clips that came before are valid."""

    job_id: int
    reason: str  # without the file's name
    crashed: bool = False  # the process died, hung or used too much memory
    is_of_node: bool = False  # a node of a cluster says so of its own disks


@dataclass(frozen=True)
class DurationRead:
    """The duration that a container claims; None if it claims none, or one that cannot be."""

    job_id: int
    claimed_ms: int | None


@dataclass(frozen=True)
class VideoProbed:
    """What a file says of its video."""

    job_id: int
    info: VideoInfo


# the last event of a request
FinalEvent = DecodeDone | DecodeSkipped | DecodeFailed | DurationRead | VideoProbed
DecodeEvent = ClipReady | FingerprintReady | FinalEvent
