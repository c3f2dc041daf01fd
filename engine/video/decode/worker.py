"""A decoding process: takes one video after the other from its parent, writes the clips into shared memory.

Lines of JSON on its stdin and stdout. It imports no model, ends when its parent does, and is expendable: the pool
kills it when it hangs or swells. Run by `pool.py` alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any, BinaryIO

import av.logging
import numpy as np
from numpy.typing import NDArray

from vtag.engine.errors import VideoError
from vtag.engine.text import printable
from vtag.engine.video.decode import arena
from vtag.engine.video.read.container import UnusableVideo
from vtag.engine.video.read.packets import fingerprint
from vtag.engine.video.read.probe import VideoInfo, claimed_ms
from vtag.engine.video.read.published import predict_clip, training_clip
from vtag.engine.video.read.reader import read_clips
from vtag.engine.video.read.sampling import Sampling, place_of

_TICK_S = 0.25  # how often progress is told
_WALL = 2  # times the limit
_MEGABYTE = 1 << 20


def main(handle: str, arena_bytes: int, memory_bytes: int) -> None:
    """Serve until the parent closes our stdin. Called with the pool's shared memory and the limit of our own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to decide
    av.logging.set_level(None)
    commands, answers = _take_over_pipes()
    _wall_off(memory_bytes)
    worker = _Worker(arena.attach(handle, arena_bytes), answers, memory_bytes)
    threading.Thread(target=worker.listen, args=(commands,), daemon=True).start()
    worker.serve()


class _Worker:
    def __init__(self, memory: Any, answers: BinaryIO, memory_bytes: int) -> None:
        self._memory = memory
        self._answers = answers
        self._memory_bytes = memory_bytes
        self._jobs: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._grants: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ticked = 0.0
        self._parent = os.getppid()

    def listen(self, commands: BinaryIO) -> None:
        """Sort what the parent says; when it falls silent for good, so do we, whatever libav is doing."""
        for line in commands:
            message = json.loads(line)
            if "grant" in message:
                self._grants.put(message["grant"])
            else:
                self._jobs.put(message)
        os._exit(0)

    def serve(self) -> None:
        self._say(say="ready")
        while True:
            job = self._jobs.get()
            self._say(say="begun")
            try:
                self._look(job)
            except UnusableVideo as error:
                self._say(say="failed", reason=error.reason)
            except VideoError as error:
                self._say(say="failed", reason=str(error))
            except MemoryError:
                self._say(say="failed", reason=swollen(self._memory_bytes), crashed=True)
                os._exit(0)  # what is left of the memory is in pieces: a new process is better
            except Exception as error:  # a mistake of ours must not cost the other files
                self._say(say="failed", reason=printable(f"unexpected {type(error).__name__}: {error}"))

    def _look(self, job: dict[str, Any]) -> None:
        look = {
            "windows": self._look_at_windows,
            "window": self._look_at_one_window,
            "published": self._look_as_published,
            "length": self._ask_length,
            "training": self._look_for_training,
        }
        look[job["look"]](job)

    def _ask_length(self, job: dict[str, Any]) -> None:
        self._say(say="length", claimed_ms=claimed_ms(bytes.fromhex(job["path"])))

    def _look_at_windows(self, job: dict[str, Any]) -> None:
        place: list[int] = []

        def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
            offset, pixels = self._allocate(shape)
            place[:] = [offset]
            return pixels

        reader = read_clips(
            bytes.fromhex(job["path"]),
            Sampling(**job["sampling"]),
            skip=_skip(job["skip"], job["only"]),
            threads=job["threads"],
            allocate=allocate,
            tick=self._tick,
            on_broken=self._on_broken,
        )
        self._say(say="opened", duration_ms=reader.info.duration_ms)
        if job["recognise"]:
            known_by = fingerprint(bytes.fromhex(job["path"]), reader.facts)
            self._say(say="known", info=asdict(reader.info), known_by=known_by)
            if not self._grants.get():
                reader.close()
                self._say(say="left", memory=private_bytes())
                return
        for clip in reader:
            self._give(place[0], clip.pixels.shape, clip.start_ms, clip.end_ms)
        self._done(reader.info, reader.broken_packets, reader.looked, reader.empty, reader.note)

    def _look_at_one_window(self, job: dict[str, Any]) -> None:
        """A file may claim a length that it has not: then what decoding found says where the window is."""
        told, start, share = Sampling(**job["sampling"]), job["start_ms"], job["share"]
        sampling = replace(told, stride_ms=start or max(1, round(1000 / told.rate)))
        place: list[int] = []
        wanted: list[int] = []

        def allocate(shape: tuple[int, ...]) -> NDArray[np.uint8]:
            offset, pixels = self._allocate(shape)
            place[:] = [offset]
            return pixels

        duration_ms = 0
        while True:
            reader = read_clips(
                bytes.fromhex(job["path"]),
                sampling,
                skip=lambda start_ms: start_ms not in wanted,
                threads=job["threads"],
                allocate=allocate,
                tick=self._tick,
                on_broken=self._on_broken,
            )
            duration_ms = duration_ms or reader.info.duration_ms
            wanted[:] = [start if start is not None else place_of(share, duration_ms, sampling)]
            self._say(say="opened", duration_ms=duration_ms)
            clip = next(iter(reader), None)
            if clip is not None or reader.info.duration_ms >= duration_ms:
                break
            duration_ms = reader.info.duration_ms
        if clip is not None:
            self._give(place[0], clip.pixels.shape, clip.start_ms, clip.end_ms)
        reader.close()
        self._done(reader.info, reader.broken_packets, reader.looked, reader.empty, reader.note)

    def _look_as_published(self, job: dict[str, Any]) -> None:
        numbers = {key: job[key] for key in ("protocol", "frames", "short_side", "crop")}
        self._look_by_index(job, lambda path, **watched: predict_clip(path, **numbers, **watched))

    def _look_for_training(self, job: dict[str, Any]) -> None:
        numbers = {key: job[key] for key in ("share", "frames", "step", "short_side", "crop")}
        self._look_by_index(job, lambda path, **watched: training_clip(path, **numbers, **watched)[None])

    def _look_by_index(self, job: dict[str, Any], look: Callable[..., NDArray[np.uint8]]) -> None:
        held: list[VideoInfo] = []

        def opened(info: VideoInfo) -> None:
            held.append(info)
            self._say(say="opened", duration_ms=info.duration_ms)

        clips = look(bytes.fromhex(job["path"]), threads=job["threads"], opened=opened, tick=self._tick)
        offset, pixels = self._allocate(clips.shape)
        pixels[...] = clips
        self._give(offset, clips.shape, 0, held[0].duration_ms)
        self._done(held[0], 0, 1, 0, "")

    def _allocate(self, shape: tuple[int, ...]) -> tuple[int, NDArray[np.uint8]]:
        """A place in the shared memory, once there is one, and the array there."""
        self._say(say="want", bytes=int(np.prod(shape)))
        offset = self._grants.get()
        if offset < 0:
            raise VideoError("one clip of it is larger than the memory for clips")
        return offset, arena.view(self._memory, offset, shape)

    def _give(self, offset: int, shape: tuple[int, ...], start_ms: int, end_ms: int) -> None:
        self._say(say="clip", offset=offset, shape=shape, start_ms=start_ms, end_ms=end_ms)

    def _done(self, info: VideoInfo, broken: int, looked: int, empty: int, note: str) -> None:
        self._say(
            say="done",
            info=asdict(info),
            broken_packets=broken,
            looked=looked,
            empty=empty,
            note=note,
            memory=private_bytes(),
        )

    def _on_broken(self) -> None:
        """A decoder that got no memory often says only that a packet is broken."""
        if private_bytes() > self._memory_bytes:
            raise MemoryError

    def _tick(self, at_ms: int) -> None:
        now = time.monotonic()
        if now - self._ticked >= _TICK_S:
            self._ticked = now
            if os.getppid() != self._parent:  # somebody else holds our pipes open
                os._exit(0)
            self._say(say="at", at_ms=at_ms, memory=private_bytes())

    def _say(self, **message: Any) -> None:
        try:
            self._answers.write(json.dumps(message).encode() + b"\n")
            self._answers.flush()
        except OSError:  # the parent is gone
            os._exit(0)


def swollen(memory_bytes: int) -> str:
    """What is said of a video that needs more memory than it may have."""
    return f"decoding it needs more than {memory_bytes // _MEGABYTE} MB of memory"


def _skip(skip: list[int], only: list[int] | None) -> Callable[[int], bool]:
    known = frozenset(skip)
    if only is None:
        return known.__contains__
    wanted = frozenset(only)
    return lambda start_ms: start_ms in known or start_ms not in wanted


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Our end of the two pipes; whatever a library prints goes to stderr from now on, and it can read nothing."""
    commands, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_RDONLY)
    os.dup2(silence, 0)
    os.close(silence)
    os.dup2(2, 1)
    return commands, answers


def _wall_off(memory_bytes: int) -> None:
    """Let the system refuse memory far beyond the limit; the pool looks at the limit itself, but only now and then.

    RLIMIT_DATA counts what is private and writable (Linux), the stacks of threads too.
    """
    if sys.platform == "win32":
        return
    import resource  # noqa: PLC0415  # not on Windows

    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        wall = _WALL * memory_bytes
        soft = wall if hard == resource.RLIM_INFINITY else min(wall, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def private_bytes(pid: int | str = "self") -> int:
    """Resident memory of a process that is its alone; 0 where the system does not tell."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            _, resident, shared, *_ = file.read().split()
        return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")
    except (OSError, ValueError):
        return 0
