"""Stops a scan by SIGSTOP while it has videos under way, as a share that stalls would."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import struct
import subprocess
import time
from contextlib import closing
from pathlib import Path

from vtag.engine.library.database import observations_path

_NAMES_END = 2**31  # claims are locks of bytes below
_PATIENCE_S = 120.0


def stop_with_videos(scan: subprocess.Popen[str], library: Path, *, stored: int = 0) -> None:
    """Stop a scan that has claimed videos, has stored at least `stored`, and is not writing just now.

    A stopped writer would make others wait for the library, not for a video.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert scan.poll() is None, "the scan was over before it could be stopped: it needs longer footage"
        if has_claims(scan.pid, library) and stored_videos(library) >= stored:
            scan.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, scan.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if has_claims(scan.pid, library) and not is_written(library):
                return
            scan.send_signal(signal.SIGCONT)
        time.sleep(0.02)
    raise AssertionError("the scan had no video under way")


def has_claims(pid: int, library: Path) -> bool:
    """Whether a process has claimed a video, as the system tells."""
    try:
        descriptor = os.open(library.with_name(f"{library.name}.scans"), os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        question = struct.pack("@hhqqi", fcntl.F_WRLCK, os.SEEK_SET, 0, _NAMES_END, 0)
        kind, _, _, _, holder = struct.unpack("@hhqqi", fcntl.fcntl(descriptor, fcntl.F_GETLK, question))
    finally:
        os.close(descriptor)
    return bool(kind == fcntl.F_WRLCK and holder == pid)


def stored_videos(library: Path) -> int:
    """How many videos the scans of a library have stored."""
    with closing(sqlite3.connect(f"{library.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as reader:
        return int(reader.execute("SELECT count(*) FROM derivations").fetchone()[0])


def is_written(library: Path) -> bool:
    """Whether a transaction that writes is open in one of the library's files."""
    for file in (library, observations_path(library)):
        with closing(sqlite3.connect(file, timeout=0, isolation_level=None)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            connection.rollback()
    return False
