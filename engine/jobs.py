"""A scan as a process of its own, so that whoever asked for it stays small and can end it; it writes a `runs` row."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from vtag.engine.errors import VtagError
from vtag.engine.library.database import open_reader
from vtag.engine.library.runs import Run, recent
from vtag.engine.paths import private_dir
from vtag.engine.text import printable

_STARTS_WITHIN_S = 60.0
_LOG = "job.log"  # beside the library: the last job's messages


def start_scan(library: Path, paths: Sequence[str], model: str | None = None) -> subprocess.Popen[bytes]:
    """Scan `paths` into `library` in a process of its own; returns when it works or has ended by itself.

    Raises VtagError where another job runs, nothing is at a path, or it ends at once (with its last line).
    """
    if running := running_jobs(library):
        raise VtagError(f"a {running[0].kind} is running already (process {running[0].pid}): one at a time")
    if not paths:
        raise VtagError("name a folder to scan")
    for path in paths:
        if not os.path.isabs(path) or not os.path.exists(path):
            raise VtagError(f"there is no {printable(path)!r} on this machine: give a folder's whole path")
    command = [sys.executable, "-P", "-m", "vtag.app", "scan", "--db", str(library)]
    if model:
        command += ["--model", model]
    private_dir(library.parent)
    with open(library.parent / _LOG, "wb") as log:
        job = subprocess.Popen(
            [*command, "--", *paths],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,  # Ctrl-C at the server is not meant for it
        )
    threading.Thread(
        target=job.wait, daemon=True
    ).start()  # a child that nobody waits for seems to run for ever
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while job.poll() is None and time.monotonic() < deadline:
        if any(run.pid == job.pid for run in running_jobs(library)):
            return job
        time.sleep(0.1)
    if job.poll() not in (None, 0, 3):
        raise VtagError(last_words(library) or "the scan ended at once")
    return job


def running_jobs(library: Path) -> list[Run]:
    """Scans and trainings that are under way in any process."""
    with closing(open_reader(library)) as reader:
        return [run for run in recent(reader) if run.state == "running"]


def cancel(library: Path, run_id: int) -> bool:
    """Interrupt a running job, as Ctrl-C does: what it finished is kept. False where it does not run any more."""
    for run in running_jobs(library):
        if run.id == run_id and run.host == platform.node():
            os.kill(run.pid, signal.SIGINT)
            return True
    return False


def last_words(library: Path) -> str:
    """The last line that the last job said."""
    try:
        lines = (library.parent / _LOG).read_text("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return printable(lines[-1]).removeprefix("vtag: ") if lines else ""
