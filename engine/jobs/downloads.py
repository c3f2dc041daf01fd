"""Downloads of models as processes of their own: `vtag models pull`, and how far each has come."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from vtag.engine.errors import ModelError
from vtag.engine.jobs.job_queue import last_line, start_process
from vtag.engine.models.catalog import CatalogueEntry, catalogue
from vtag.engine.models.registry import DOWNLOADS, is_here
from vtag.engine.paths import make_private_dir, models_dir

_INTERRUPTED = 130  # the exit code of what a person ended
_FRESH_S = 20.0  # a part that grew within this time is being downloaded by somebody


class Pulling(NamedTuple):
    """A download: `ours` where this process can stop it; `said` is why one failed that runs no more, or nothing."""

    name: str
    have_bytes: int
    running: bool
    ours: bool
    said: str = ""


class Pulls:
    """The downloads that a page asked for, and those that others are at; to be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def start(self, name: str) -> None:
        """Download a model of the catalogue. Raises ModelError where there is no such model."""
        if name not in catalogue():
            raise ModelError("the catalogue has no such model")
        with self._lock:
            if is_here(name) or (name in self._started and self._started[name][0].poll() is None):
                return
            log = make_private_dir(models_dir() / DOWNLOADS) / f"{name}.log"
            with open(log, "wb") as opened:
                self._started[name] = (start_process(["models", "pull", name], opened.fileno()), log)

    def stop(self, name: str) -> None:
        """End a download; what came is kept, and the next one goes on from there."""
        with self._lock:
            if name in self._started and self._started[name][0].poll() is None:
                self._started[name][0].send_signal(signal.SIGINT)

    def state(self) -> list[Pulling]:
        """The downloads that are under way, failed, or were left midway; a model that is here is none of them."""
        with self._lock:
            found = [self._of(entry) for entry in catalogue().values()]
        return [pulling for pulling in found if pulling]

    def _of(self, entry: CatalogueEntry) -> Pulling | None:
        process, log = self._started.get(entry.name, (None, None))
        have, age_s = _part(entry)
        if process is not None and process.poll() is None:
            return Pulling(entry.name, have, True, True)
        if is_here(entry.name):
            return None
        if process is None or log is None or process.returncode == _INTERRUPTED:
            running = process is None and age_s < _FRESH_S
            return Pulling(entry.name, have, running, False) if have else None
        return Pulling(entry.name, have, False, False, last_line(log) or "the download ended at once")


def _part(entry: CatalogueEntry) -> tuple[int, float]:
    """How much of a download is here, and how long ago it grew, in seconds."""
    folder = models_dir() / DOWNLOADS
    for file in (folder / entry.file_name, folder / f"{entry.file_name}.part"):
        try:
            info = file.stat()
        except OSError:
            continue
        return info.st_size, time.time() - info.st_mtime
    return 0, float("inf")
