"""File systems of their own for tests: small, read-only, without shared memory, or on a share that stalls."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(folder: Path, *command: str) -> Iterator[Path]:
    """`folder`, on which `command` mounts a file system; a test is skipped where that is not possible."""
    folder.mkdir(parents=True, exist_ok=True)
    if not shutil.which(command[0]):
        pytest.skip(f"no {command[0]} here")
    if subprocess.run([*command], capture_output=True).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], capture_output=True)


def small_disk(folder: Path, size: str) -> object:
    """A disk of `size` (such as 2m) in memory."""
    return mounted(folder, "mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder))


def remount(folder: Path, options: str) -> None:
    """Change the options of a mounted disk."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True, capture_output=True)


@contextmanager
def share(folder: Path, source: Path, options: str = "direct_io") -> Iterator[subprocess.Popen[bytes]]:
    """`source` as a FUSE file system at `folder`; yields its server, which can be stopped. With `direct_io` its files
    cannot be mapped into memory, as on some network shares."""
    folder.mkdir(parents=True, exist_ok=True)
    source.mkdir(parents=True, exist_ok=True)
    if not shutil.which("bindfs") or not Path("/dev/fuse").exists():
        pytest.skip("no bindfs or FUSE here")
    server = subprocess.Popen(["bindfs", "-f", "-o", options, source, folder], stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if folder.is_mount():
                break
            if server.poll() is not None:
                pytest.skip("mounting is not permitted here")
            signal.sigtimedwait([], 0.05)
        yield server
    finally:
        server.send_signal(signal.SIGCONT)
        subprocess.run(["umount", "-l", folder], capture_output=True)
        server.terminate()
        server.wait(30)
