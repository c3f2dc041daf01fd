"""Downloads of models as child processes (`vtag models pull`), and how far each has come."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import NamedTuple

from vtag.engine.errors import ModelError
from vtag.engine.jobs.job_queue import last_line, start_process
from vtag.engine.models.catalog import CatalogEntry, read_catalog
from vtag.engine.models.registry import DOWNLOADS, is_installed
from vtag.engine.paths import make_private_dir, models_dir

_INTERRUPTED = 130  # exit code after Ctrl-C
_RECENT_S = 20.0  # a partial file that grew within this time belongs to a running download


class DownloadState(NamedTuple):
    """How far a download is. `can_stop`: this process started it. `failure`: why it failed, or nothing."""

    name: str
    downloaded_bytes: int
    is_running: bool
    can_stop: bool
    failure: str = ""


class ModelDownloads:
    """The downloads that this process started, and those of other processes. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._started: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}

    def start(self, name: str) -> None:
        """Download a model of the catalog. Raises ModelError if there is no such model."""
        if name not in read_catalog():
            raise ModelError("the catalogue has no such model")
        with self._lock:
            if is_installed(name) or self._running_process(name):
                return
            log = make_private_dir(models_dir() / DOWNLOADS) / f"{name}.log"
            with open(log, "wb") as stream:
                self._started[name] = (start_process(["models", "pull", name], stream.fileno()), log)

    def stop(self, name: str) -> None:
        """End a download. The next one continues from the bytes that were received."""
        with self._lock:
            if process := self._running_process(name):
                process.send_signal(signal.SIGINT)

    def states(self) -> list[DownloadState]:
        """The downloads that run, failed, or were interrupted; without those of models that are installed."""
        with self._lock:
            states = [self._state(entry) for entry in read_catalog().values()]
        return [state for state in states if state]

    def _running_process(self, name: str) -> subprocess.Popen[bytes] | None:
        process, _ = self._started.get(name, (None, None))
        return process if process is not None and process.poll() is None else None

    def _state(self, entry: CatalogEntry) -> DownloadState | None:
        process, log = self._started.get(entry.name, (None, None))
        size_bytes, age_s = _partial_file(entry)
        if process is not None and process.poll() is None:
            return DownloadState(entry.name, size_bytes, True, True)
        if is_installed(entry.name):
            return None
        if process is None or log is None or process.returncode == _INTERRUPTED:
            is_running = process is None and age_s < _RECENT_S
            return DownloadState(entry.name, size_bytes, is_running, False) if size_bytes else None
        return DownloadState(
            entry.name, size_bytes, False, False, last_line(log) or "the download ended at once"
        )


def _partial_file(entry: CatalogEntry) -> tuple[int, float]:
    """The size of a partial download in bytes, and how long ago it grew, in seconds."""
    folder = models_dir() / DOWNLOADS
    for file in (folder / entry.file_name, folder / f"{entry.file_name}.part"):
        try:
            info = file.stat()
        except OSError:
            continue
        return info.st_size, time.time() - info.st_mtime
    return 0, float("inf")
