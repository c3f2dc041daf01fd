"""The sound of a video from a given time on, as AAC without gaps, in step with the picture."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, cast

import av
import av.error
import numpy as np
from numpy.typing import NDArray

from vtag.engine.video.read.container import open_container
from vtag.engine.video.read.probe import PacketReader, StreamInfo
from vtag.engine.video.read.restarts import on_one_clock, seek

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.stream import AudioStream
    from av.packet import Packet

RATE = 48000  # samples a second of what is encoded
_SEEK_MARGIN_S = 1  # decoders need some packets before the first exact sample
_STEP_S = Fraction(3, 50)  # a smaller difference between claimed and counted time is an inexact timestamp
_BLOCK = 1024  # samples of inserted silence at a time; AAC's frame


class SoundSource:
    """Decodes one audio stream; `packets()` encodes it from `start_us` to `end_us` of the picture's time."""

    def __init__(self, path: bytes, stream_index: int, stream_info: StreamInfo) -> None:
        self._path = path
        self._index = stream_index
        self._first_s = stream_info.first_pts * stream_info.time_base
        self._restarts = stream_info.restarts

    def packets(self, encoder: AudioStream, start_us: int, end_us: int) -> Iterator[Packet]:
        """The encoded sound. Silence fills what the file leaves out, up to `end_us`."""
        for block in self._blocks(start_us * RATE // 1_000_000, end_us * RATE // 1_000_000):
            yield from encoder.encode(block)
        yield from encoder.encode(None)

    def _blocks(self, first: int, end: int) -> Iterator[AudioFrame]:
        """Frames of samples without gaps, from sample `first` to sample `end` of the picture's time."""
        position = first
        for claimed, samples in self._decoded(Fraction(first, RATE)):
            late = 0 if claimed is None else claimed - position
            if late > _STEP_S * RATE:
                yield from _silence(position, min(position + late, end))
                position = min(position + late, end)
            elif late < -_STEP_S * RATE or position == first:  # the beginning is exact
                samples = samples[:, max(0, -late) :]
            samples = samples[:, : max(0, end - position)]
            if samples.shape[1]:
                yield _frame(samples, position)
                position += samples.shape[1]
            if position >= end:
                return
        yield from _silence(position, end)

    def _decoded(self, start_s: Fraction) -> Iterator[tuple[int | None, NDArray[np.float32]]]:
        """Decoded samples float32 [2, N], each with the sample number that its timestamp claims."""
        with open_container(self._path) as container:
            stream = next(s for s in container.streams.audio if s.index == self._index)
            if start_s > 0:
                seek(container, stream, start_s + self._first_s - _SEEK_MARGIN_S, self._restarts)
            resampler = _Resampler()
            for packet in on_one_clock(PacketReader(container, stream), self._restarts):
                try:
                    frames = cast("list[AudioFrame]", packet.decode())
                except av.error.EOFError:
                    break
                except (av.error.FFmpegError, OSError):
                    continue
                for frame in frames:
                    for resampled in resampler.resample(frame):
                        samples = cast("NDArray[np.float32]", resampled.to_ndarray())
                        yield self._claimed_sample(resampled), samples

    def _claimed_sample(self, frame: AudioFrame) -> int | None:
        if frame.pts is None or frame.time_base is None:
            return None
        return round((frame.pts * Fraction(frame.time_base) - self._first_s) * RATE)


class _Resampler:
    """Resamples to stereo at RATE, even if the stream changes its format midway."""

    def __init__(self) -> None:
        self._key: tuple[object, ...] = ()
        self._resampler: av.AudioResampler | None = None

    def resample(self, frame: AudioFrame) -> list[AudioFrame]:
        key = frame.format.name, frame.layout.name, frame.sample_rate
        if self._resampler is None or key != self._key:
            self._resampler, self._key = av.AudioResampler("fltp", "stereo", RATE), key
        return self._resampler.resample(frame)


def _silence(start: int, end: int) -> Iterator[AudioFrame]:
    for position in range(start, end, _BLOCK):
        yield _frame(np.zeros((2, min(_BLOCK, end - position)), np.float32), position)


def _frame(samples: NDArray[np.float32], position: int) -> AudioFrame:
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="stereo")
    frame.sample_rate, frame.pts, frame.time_base = RATE, position, Fraction(1, RATE)
    return frame
