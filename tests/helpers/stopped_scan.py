"""Stops a scan by SIGSTOP while it has videos under way, as a share that stalls would."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from helpers.warm_process import WarmProcess
from vtag.engine.library.database import observations_path

_PATIENCE_S = 600.0


def stop_with_videos(scans: Sequence[WarmProcess], library: Path, *, stored: int = 0) -> WarmProcess:
    """Stop one of the scans that has claimed videos and is not writing just now, once `stored` videos are stored.

    Returns it. A stopped writer would make others wait for the library, not for a video.
    """
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        assert any(scan.poll() is None for scan in scans), "they were over before: it needs longer footage"
        holders = claim_holders(library)
        if holders and stored_videos(library) >= stored:
            for scan in scans:
                if scan.pid in holders and _stop(scan, library):
                    return scan
        time.sleep(0.02)
    raise AssertionError("no scan had a video under way")


def _stop(scan: WarmProcess, library: Path) -> bool:
    scan.send_signal(signal.SIGSTOP)
    while scan.poll() is None and _state(scan.pid) != "T":
        time.sleep(0.001)
    if scan.pid in claim_holders(library) and not is_written(library):
        return True
    scan.send_signal(signal.SIGCONT)
    return False


def _state(pid: int) -> str:
    """One letter, as `ps` has it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def claim_holders(library: Path) -> set[int]:
    """The processes that have claimed videos, as Linux tells: locks of bytes of the claim file for writing."""
    try:
        inode = library.with_name(f"{library.name}.scans").stat().st_ino
    except FileNotFoundError:
        return set()
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    # number, POSIX, ADVISORY, WRITE, process, device and inode, start, end; a waiting one has an arrow more
    return {int(lock[4]) for lock in locks if lock[3] == "WRITE" and lock[5].endswith(f":{inode}")}


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
