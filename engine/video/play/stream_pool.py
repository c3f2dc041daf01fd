"""Streams of videos, each from a process of its own: bounded in number, and killed when nobody takes their bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import IO, NamedTuple

from vtag.engine.errors import VideoError
from vtag.engine.text import printable
from vtag.engine.video.play.plan import CONVERTED_SIDE, Way
from vtag.engine.video.play.stream_worker import UNREADABLE

MAX_STREAMS = 4
IDLE_S = 50.0  # a stream whose bytes nobody takes for so long ends; so does one that brings none
_STALLED_S = 3.0  # a stream that waits for its reader for so long makes room for another
_FAILURE_S = 2.0  # how long a process that closed its stdout may take to end
_REAP_INTERVAL_S = 0.25
_CHUNK_BYTES = 1 << 16
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from vtag.engine.video.play.stream_worker import main; main(*sys.argv[2:])"
)


class StreamRequest(NamedTuple):
    """Which video to stream, how, and from where."""

    path: bytes
    way: Way
    start_ms: int
    player: str = ""  # a player has one stream: its next one replaces it
    short_side: int = CONVERTED_SIDE  # pixels, of a converted picture


class StreamError(VideoError):
    """A stream that cannot begin, and why. `is_busy`: it may later."""

    def __init__(self, reason: str, *, is_busy: bool = False) -> None:
        self.is_busy = is_busy
        super().__init__(reason)


class VideoStream:
    """The bytes of one stream, from a process of its own. `close` it in any case."""

    def __init__(self, request: StreamRequest, threads: ThreadPoolExecutor) -> None:
        self.request = request
        self.last_read_s = time.monotonic()
        self._threads = threads
        self._first: bytes | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # goes with this object
        path = json.dumps([entry for entry in sys.path if entry])
        arguments = [os.fsdecode(request.path), request.way, str(request.start_ms), str(request.short_side)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, path, *arguments],
            stdin=subprocess.PIPE,  # its end ends the process
            stdout=subprocess.PIPE,
            stderr=self._errors,
            bufsize=0,
        )
        self._reading = threading.Lock()

    async def begin(self) -> None:
        """Wait for the first bytes. Raises StreamError if there are none."""
        self._first = await self._read()
        if not self._first:
            raise StreamError(await asyncio.get_running_loop().run_in_executor(self._threads, self._failure))

    async def read(self) -> bytes:
        """The next bytes; none at the end, and if the process failed or hung."""
        first, self._first = self._first, None
        return first if first is not None else await self._read()

    async def _read(self) -> bytes:
        self.last_read_s = time.monotonic()
        reading = asyncio.get_running_loop().run_in_executor(self._threads, self._read_chunk)
        try:
            return await asyncio.wait_for(reading, IDLE_S)
        except TimeoutError:
            self.close()
            return b""

    def _read_chunk(self) -> bytes:
        assert self.process.stdout is not None
        with self._reading:
            if self.process.stdout.closed:
                return b""
            chunk = self.process.stdout.read(_CHUNK_BYTES)
            if not chunk:
                self.process.stdout.close()
            return chunk

    def _failure(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if self.process.wait(_FAILURE_S) == UNREADABLE:
                self._errors.seek(0)
                return printable(self._errors.read().decode(errors="replace").strip())
        return "the decoder crashed or hung over this video"

    @property
    def is_stalled(self) -> bool:
        """Whether its reader has taken nothing for a while."""
        return time.monotonic() - self.last_read_s > _STALLED_S

    def close(self) -> None:
        """End the process at once."""
        self.process.kill()


class StreamPool:
    """Starts streams, at most MAX_STREAMS at a time. A context manager, used in one event loop."""

    def __init__(self) -> None:
        self._streams: set[VideoStream] = set()
        self._threads = ThreadPoolExecutor(2 * MAX_STREAMS, "vtag-stream")
        self._reapers: set[asyncio.Task[None]] = set()

    async def open(self, request: StreamRequest) -> VideoStream:
        """A stream that has begun. Raises StreamError if the video is unreadable or too many streams run."""
        self._make_room(request.player)
        stream = VideoStream(request, self._threads)
        self._streams.add(stream)
        reaper = asyncio.create_task(self._reap(stream))
        self._reapers.add(reaper)
        reaper.add_done_callback(self._reapers.discard)
        try:
            await stream.begin()
        except BaseException:
            stream.close()
            raise
        return stream

    def _make_room(self, player: str) -> None:
        for stream in [s for s in self._streams if player and s.request.player == player]:
            self._drop(stream)
        if len(self._streams) < MAX_STREAMS:
            return
        stalled = [stream for stream in self._streams if stream.is_stalled]
        if not stalled:
            reason = f"{MAX_STREAMS} videos are converted at the same time already: close one of them"
            raise StreamError(reason, is_busy=True)
        self._drop(min(stalled, key=lambda stream: stream.last_read_s))

    def _drop(self, stream: VideoStream) -> None:
        stream.close()
        self._streams.discard(stream)

    async def _reap(self, stream: VideoStream) -> None:
        """Wait for the end of a process; end it if its reader takes nothing for too long."""
        while stream.process.poll() is None:
            await asyncio.sleep(_REAP_INTERVAL_S)
            if time.monotonic() - stream.last_read_s > IDLE_S:
                stream.close()
        assert stream.process.stdin is not None
        stream.process.stdin.close()
        self._streams.discard(stream)

    async def __aenter__(self) -> StreamPool:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for stream in list(self._streams):
            stream.close()
        await asyncio.gather(*self._reapers)
        self._threads.shutdown(wait=False)
