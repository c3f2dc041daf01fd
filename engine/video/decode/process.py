"""A decoding process as its parent sees it: a new interpreter, sent lines of JSON, killed if necessary."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from typing import IO, Protocol

from vtag.engine.text import printable
from vtag.engine.video.decode.arena import Arena
from vtag.engine.video.decode.wire import DecodeJob, FromWorker, ToWorker, decode_answer, encode

EXIT_S = 0.5  # how long a process may take to end by itself
MIN_TIME_LIMIT_S = 120.0  # for each video; the pool adds to it by the video's duration
_EXIT_AFTER_KILL_S = 30.0
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from vtag.engine.video.decode.worker import main; main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"
)


class WorkerListener(Protocol):
    """Receives what a process sends, in a thread of that process's own."""

    def receive(self, worker: WorkerProcess, message: FromWorker) -> None: ...

    def receive_end(self, worker: WorkerProcess) -> None: ...


class WorkerProcess:
    """One decoding process. Two threads of the parent read from it and write to it."""

    def __init__(self, listener: WorkerListener, arena: Arena, memory_bytes: int) -> None:
        self.is_ready = False
        self.job: DecodeJob | None = None
        self.has_started_job = False  # if it dies from here on, the video may be the reason
        self.is_waiting = False  # for memory or a decision, which is not its fault
        self.granted_offset: int | None = None  # the range of the arena that it fills
        self.idle_s = 0.0  # since its last message
        self.busy_s = 0.0  # with this video, without the waiting
        self.limit_s = math.inf
        self.memory_bytes = 0
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the worker
        path = json.dumps([entry for entry in sys.path if entry])
        arguments = [path, arena.handle, str(arena.size_bytes), str(memory_bytes)]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOTSTRAP, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            pass_fds=arena.inherited,
        )
        self._outbox: queue.SimpleQueue[ToWorker | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(listener,), daemon=True).start()
        threading.Thread(target=self._write, daemon=True).start()

    def _read(self, listener: WorkerListener) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                if line.endswith(b"\n"):  # else it died while it wrote
                    listener.receive(self, decode_answer(line))
        listener.receive_end(self)
        self.send(None)

    def _write(self) -> None:
        """Write what `send` queued. A thread of its own: a process that hangs must not block the pool."""
        assert self.process.stdin is not None
        # a broken pipe: `_read` notices the end of the process
        with contextlib.suppress(OSError), self.process.stdin as commands:
            while (message := self._outbox.get()) is not None:
                commands.write(encode(message))
                commands.flush()

    def begin(self, job: DecodeJob) -> None:
        """Send a job to the process, which is idle."""
        self.job, self.has_started_job = job, False
        self.idle_s = self.busy_s = 0.0
        self.limit_s = MIN_TIME_LIMIT_S
        self.send(job)

    def send(self, message: ToWorker | None) -> None:
        """Queue a message for the process; None closes its stdin, so that it ends."""
        self._outbox.put(message)

    def wait(self, timeout_s: float) -> int:
        """The exit status if the process ends within `timeout_s`, else 0."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:  # it waits for a disk that hangs, and ends when the system lets it
            return 0

    def exit_status(self) -> int:
        """The exit status of a process that closed its pipe. On a busy machine it needs a while to end."""
        code = self.wait(EXIT_S)
        if code == 0:  # or it has not ended
            self.process.kill()
            code = self.wait(_EXIT_AFTER_KILL_S)
        return code

    def last_error_line(self) -> str:
        """The last line that the process wrote to stderr."""
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else ""


def status_text(code: int) -> str:
    """An exit status in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
    except ValueError:
        return f"signal {-code}"
