"""What comes of a video that a pool of decoding processes was given: clips, what it is, how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.packets import Fingerprint
from vtag.engine.video.read.probe import VideoInfo


class ClipReady:
    """A clip in shared memory; `release()` it when its pixels were used or copied, or the decoding comes to rest."""

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
        """uint8 [V, T, H, W, 3], RGB. Raises ValueError after `release()`: the memory is another clip's then."""
        if self._pixels is None:
            raise ValueError("the clip was released")
        return self._pixels

    def release(self) -> None:
        """Give the memory back; a second time does nothing."""
        if self._pixels is not None:
            self._pixels = None
            self._free()

    def __repr__(self) -> str:
        return f"ClipReady(job_id={self.job_id}, start_ms={self.start_ms}, end_ms={self.end_ms})"


@dataclass(frozen=True)
class VideoDone:
    """A video was read to its end; its clips were given out before."""

    job_id: int
    info: VideoInfo
    broken_packets: int
    clips: int
    empty: int  # windows in whose span no frame begins
    note: str = ""  # what was wrong with a video that was read all the same


@dataclass(frozen=True)
class VideoOpened:
    """What a video is known by, before it is decoded; `asks` where it waits for `go_on` or `leave`."""

    job_id: int
    info: VideoInfo
    known_by: Fingerprint
    asks: bool


@dataclass(frozen=True)
class VideoLeft:
    """A video that was recognised and left: nothing more comes of it."""

    job_id: int


@dataclass(frozen=True)
class VideoFailed:
    """A video that cannot be read; clips that were given out before are all there is of it."""

    job_id: int
    reason: str  # without the file's name
    crashed: bool = False  # the process died, hung or swelled, rather than the file being no usable video


@dataclass(frozen=True)
class LengthTold:
    """What a container says of its video's length; None where it says nothing that can be."""

    job_id: int
    claimed_ms: int | None


Event = ClipReady | VideoDone | VideoOpened | VideoLeft | VideoFailed | LengthTold
