"""A decoding process seen from its parent: started anew, spoken to in lines of JSON, killed when it has to be."""

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
from dataclasses import dataclass
from typing import IO, Any, Protocol

from vtag.engine.text import printable
from vtag.engine.video.decode.arena import Arena

END_S = 0.5  # how long a process may take to end by itself
_DYING_S = 30.0
LEAST_LIMIT_S = 120.0  # a file may take this long; the pool adds to it by the video's length
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from vtag.engine.video.decode.worker import main; main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))"
)


@dataclass(frozen=True)
class Job:
    """A video to be read; `message` is what the process is told."""

    id: int
    message: dict[str, Any]


class Owner(Protocol):
    """Who hears what a process says, from the process's own thread."""

    def hear(self, worker: Process, message: dict[str, Any]) -> None: ...

    def hear_end(self, worker: Process) -> None: ...


class Process:
    """One decoding process, seen from the parent; its pipe is read by a thread of its own."""

    def __init__(self, owner: Owner, arena: Arena, memory_bytes: int) -> None:
        self.ready = False
        self.job: Job | None = None
        self.begun = False  # it took the video: what happens to it from here on, the video may have caused
        self.wants = False  # waits for memory, which is not its fault
        self.granted: int | None = None  # the range it fills
        self.idle_s = 0.0  # since it last said something
        self.busy_s = 0.0  # with this video, waiting apart
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
        self._told: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(owner,), daemon=True).start()
        threading.Thread(target=self._talk, daemon=True).start()

    def _listen(self, owner: Owner) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as answers:
            for line in answers:
                if line.endswith(b"\n"):  # else it died while it spoke
                    owner.hear(self, json.loads(line))
        owner.hear_end(self)
        self.tell(None)

    def _talk(self) -> None:
        """Write what there is to tell: a process that stands still must not make us stand still."""
        assert self.process.stdin is not None
        with (
            contextlib.suppress(OSError),
            self.process.stdin as commands,
        ):  # a dead worker is noticed elsewhere
            while (message := self._told.get()) is not None:
                commands.write(json.dumps(message).encode() + b"\n")
                commands.flush()

    def begin(self, job: Job) -> None:
        """Have the worker read a video."""
        self.job, self.begun = job, False
        self.idle_s = self.busy_s = 0.0
        self.limit_s = LEAST_LIMIT_S
        self.tell(job.message)

    def tell(self, message: dict[str, Any] | None) -> None:
        """Send a message; None closes the worker's stdin, at which it ends."""
        self._told.put(message)

    def wait(self, patience_s: float) -> int:
        """The exit status once the process has ended, within `patience_s`; 0 where it has not."""
        try:
            return self.process.wait(patience_s)
        except subprocess.TimeoutExpired:  # the system ends it when it can (a disk that hangs)
            return 0

    def ended(self) -> int:
        """The exit status of a process that closed its pipe: it is dying, which takes a while on a busy machine."""
        code = self.wait(END_S)
        if code == 0:  # or not yet
            self.process.kill()
            code = self.wait(_DYING_S)
        return code

    def last_words(self) -> str:
        """The last line the process wrote on stderr."""
        self._errors.seek(0)
        lines = self._errors.read()[-4000:].decode(errors="replace").strip().splitlines()
        return printable(lines[-1]) if lines else ""


def signal_name(code: int) -> str:
    """An exit status in words."""
    try:
        return signal.Signals(-code).name if code < 0 else f"exit status {code}"
    except ValueError:
        return f"signal {-code}"
