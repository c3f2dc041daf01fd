"""A decoding process: takes one job after the other from the pool and writes the clips into shared memory.

It reads and writes lines of JSON on stdin and stdout, imports no model, and ends when its parent does. It is
expendable: the pool kills it if it hangs or uses too much memory. Only `process.py` starts it.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, BinaryIO

import av.logging
import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import VideoError
from vtag.engine.text import printable
from vtag.engine.video.decode import arena
from vtag.engine.video.decode.messages import (
    DecodeDone,
    DecodeFailed,
    DecodeSkipped,
    DurationRead,
    DurationRequest,
    FingerprintReady,
    ProbeRequest,
    ProtocolRequest,
    SingleWindowRequest,
    TrainingClipRequest,
    VideoProbed,
    WindowsRequest,
)
from vtag.engine.video.decode.wire import (
    ClipWritten,
    Decision,
    DecodeJob,
    FromWorker,
    Heartbeat,
    JobStarted,
    MemoryGrant,
    MemoryRequest,
    VideoOpened,
    WorkerReady,
    decode_request,
    encode,
)
from vtag.engine.video.read.card_decoder import keep_card_open, requested_card
from vtag.engine.video.read.container import UnusableVideo
from vtag.engine.video.read.fingerprint import compute_fingerprint
from vtag.engine.video.read.probe import VideoInfo, probe, read_claimed_ms
from vtag.engine.video.read.published import read_protocol_views, read_training_clip
from vtag.engine.video.read.reader import ClipReader, read_clips
from vtag.engine.video.read.sampling import Sampling, window_start_at

_HEARTBEAT_S = 0.25
_HARD_LIMIT_FACTOR = 2  # times the limit that the pool enforces
_MEGABYTE = 1 << 20


def main(handle: str, arena_bytes: int, memory_bytes: int) -> None:
    """Decode until the parent closes our stdin.

    Args:
        handle: of the pool's shared memory.
        arena_bytes: its size.
        memory_bytes: how much memory of its own this process may use.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    av.logging.set_level(None)
    commands, answers = _take_over_pipes()
    if requested_card() is None:  # a card's driver maps more memory than this limit allows
        _limit_memory(memory_bytes)
    worker = _Worker(arena.attach(handle, arena_bytes), answers, memory_bytes)
    threading.Thread(target=worker.receive, args=(commands,), daemon=True).start()
    worker.serve()


class _Worker:
    def __init__(self, memory: Any, answers: BinaryIO, memory_bytes: int) -> None:
        self._memory = memory
        self._answers = answers
        self._memory_bytes = memory_bytes
        self._jobs: queue.SimpleQueue[DecodeJob] = queue.SimpleQueue()
        self._grants: queue.SimpleQueue[MemoryGrant] = queue.SimpleQueue()
        self._decisions: queue.SimpleQueue[Decision] = queue.SimpleQueue()
        self._offset = 0  # of the range of shared memory that was granted last
        self._last_heartbeat_s = 0.0
        self._parent = os.getppid()

    def receive(self, commands: BinaryIO) -> None:
        """Sort the parent's messages, in a thread; when its pipe closes, exit, whatever libav is doing."""
        for line in commands:
            match message := decode_request(line):
                case MemoryGrant():
                    self._grants.put(message)
                case Decision():
                    self._decisions.put(message)
                case DecodeJob():
                    self._jobs.put(message)
        os._exit(0)

    def serve(self) -> None:
        self._send(WorkerReady())
        while True:
            job = self._jobs.get()
            self._send(JobStarted())
            try:
                self._run(job)
            except UnusableVideo as error:
                self._send(DecodeFailed(job.id, error.reason))
            except VideoError as error:
                self._send(DecodeFailed(job.id, str(error)))
            except MemoryError:
                self._send(DecodeFailed(job.id, memory_limit_reason(self._memory_bytes), crashed=True))
                os._exit(0)  # the memory is fragmented by now: a new process is better
            except Exception as error:  # a bug of ours must not cost the other files
                reason = printable(f"unexpected {type(error).__name__}: {error}")
                self._send(DecodeFailed(job.id, reason))

    def _run(self, job: DecodeJob) -> None:
        path = os.fsencode(job.request.path)
        match request := job.request:
            case WindowsRequest():
                self._decode_windows(job, request, path)
            case SingleWindowRequest():
                self._decode_single_window(job, request, path)
            case ProtocolRequest():
                self._decode_by_index(job, partial(_protocol_views, request, path))
            case TrainingClipRequest():
                self._decode_by_index(job, partial(_training_view, request, path))
            case DurationRequest():
                self._send(DurationRead(job.id, read_claimed_ms(path)))
            case ProbeRequest():
                self._send(VideoProbed(job.id, probe(path, self._on_progress)))

    def _decode_windows(self, job: DecodeJob, request: WindowsRequest, path: bytes) -> None:
        skip = _window_filter(request.skip_starts, request.only_starts)
        reader = self._open(job, path, request.sampling, skip)
        self._send(VideoOpened(reader.info.duration_ms))
        if job.with_fingerprint:
            self._send(FingerprintReady(job.id, reader.info, compute_fingerprint(path, reader.stream_info)))
            if not self._decisions.get().is_decoded:
                reader.close()
                self._send_heartbeat()
                self._send(DecodeSkipped(job.id))
                return
        for clip in reader:
            self._send_clip(clip.pixels.shape, clip.start_ms, clip.end_ms)
        self._send_done(job, reader)

    def _decode_single_window(self, job: DecodeJob, request: SingleWindowRequest, path: bytes) -> None:
        """If a file is shorter than it claims, the position follows from the duration that decoding found."""
        start_ms = request.start_ms
        stride_ms = start_ms or max(1, round(1000 / request.sampling.rate))
        sampling = replace(request.sampling, stride_ms=stride_ms)
        duration_ms = window_ms = 0

        def skip(window_start_ms: int) -> bool:
            return window_start_ms != window_ms

        while True:
            reader = self._open(job, path, sampling, skip)
            duration_ms = duration_ms or reader.info.duration_ms
            window_ms = (
                window_start_at(request.share, duration_ms, sampling) if start_ms is None else start_ms
            )
            self._send(VideoOpened(duration_ms))
            clip = next(iter(reader), None)
            if clip is not None or reader.info.duration_ms >= duration_ms:
                break
            duration_ms = reader.info.duration_ms
        if clip is not None:
            self._send_clip(clip.pixels.shape, clip.start_ms, clip.end_ms)
        reader.close()
        self._send_done(job, reader)

    def _open(
        self, job: DecodeJob, path: bytes, sampling: Sampling, skip: Callable[[int], bool]
    ) -> ClipReader:
        card = requested_card()
        return read_clips(
            path,
            sampling,
            skip=skip,
            threads=job.threads,
            card=card if card is not None and keep_card_open(card) else None,
            allocate=self._allocate,
            on_progress=self._on_progress,
            on_broken=self._on_broken,
        )

    def _decode_by_index(self, job: DecodeJob, decode: Callable[..., NDArray[np.uint8]]) -> None:
        opened_info: list[VideoInfo] = []

        def on_open(info: VideoInfo) -> None:
            opened_info.append(info)
            self._send(VideoOpened(info.duration_ms))

        clips = decode(threads=job.threads, on_open=on_open, on_progress=self._on_progress)
        self._allocate(clips.shape)[...] = clips
        (info,) = opened_info
        self._send_clip(clips.shape, 0, info.duration_ms)
        self._send_heartbeat()
        self._send(DecodeDone(job.id, info, broken_packets=0, clips=1, empty_windows=0))

    def _allocate(self, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """Shared memory of `shape`, once there is enough. Raises VideoError if there can never be."""
        self._send(MemoryRequest(int(np.prod(shape))))
        offset = self._grants.get().offset
        if offset is None:
            raise VideoError("one clip of it is larger than the memory for clips")
        self._offset = offset
        return arena.view(self._memory, offset, shape)

    def _send_clip(self, shape: tuple[int, ...], start_ms: int, end_ms: int) -> None:
        self._send(ClipWritten(self._offset, shape, start_ms, end_ms))

    def _send_done(self, job: DecodeJob, reader: ClipReader) -> None:
        self._send_heartbeat()
        self._send(
            DecodeDone(
                job.id,
                reader.info,
                reader.broken_packets,
                reader.clip_count,
                reader.empty_windows,
                reader.note,
            )
        )

    def _on_broken(self) -> None:
        """A decoder that is out of memory often only reports a broken packet."""
        if private_bytes() > self._memory_bytes:
            raise MemoryError

    def _on_progress(self, position_ms: int) -> None:
        now = time.monotonic()
        if now - self._last_heartbeat_s >= _HEARTBEAT_S:
            self._last_heartbeat_s = now
            if os.getppid() != self._parent:  # the parent is dead, and another process holds our pipes open
                os._exit(0)
            self._send_heartbeat()

    def _send_heartbeat(self) -> None:
        self._send(Heartbeat(private_bytes()))

    def _send(self, message: FromWorker) -> None:
        try:
            self._answers.write(encode(message))
            self._answers.flush()
        except OSError:  # the parent is gone
            os._exit(0)


def _protocol_views(request: ProtocolRequest, path: bytes, **callbacks: Any) -> NDArray[np.uint8]:
    """uint8 [V, T, H, W, 3]."""
    return read_protocol_views(
        path,
        protocol=request.protocol,
        frames=request.frames,
        short_side=request.short_side,
        crop=request.crop,
        **callbacks,
    )


def _training_view(request: TrainingClipRequest, path: bytes, **callbacks: Any) -> NDArray[np.uint8]:
    """uint8 [1, T, H, W, 3]."""
    clip = read_training_clip(
        path,
        share=request.share,
        frames=request.frames,
        step=request.step,
        short_side=request.short_side,
        crop=request.crop,
        **callbacks,
    )
    return clip[None]


def memory_limit_reason(memory_bytes: int) -> str:
    """Why a video fails that needs more than `memory_bytes`."""
    return f"decoding it needs more than {memory_bytes // _MEGABYTE} MB of memory"


def _window_filter(
    skip_starts: Collection[int], only_starts: Collection[int] | None
) -> Callable[[int], bool]:
    """Whether the window at a start (ms) is skipped."""
    skipped = frozenset(skip_starts)
    if only_starts is None:
        return skipped.__contains__
    requested = frozenset(only_starts)
    return lambda start_ms: start_ms in skipped or start_ms not in requested


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our end of the two pipes. From now on libraries print to stderr, and find stdin empty."""
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return commands, answers


def _limit_memory(memory_bytes: int) -> None:
    """Have the system refuse memory far beyond the limit. The pool enforces the limit itself, but only at its ticks.

    RLIMIT_DATA counts private writable memory (Linux), including the stacks of threads.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # not on Windows

    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = _HARD_LIMIT_FACTOR * memory_bytes
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def private_bytes(pid: int | str = "self") -> int:
    """Resident memory that a process does not share; 0 if the system does not say."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError):
        return 0
