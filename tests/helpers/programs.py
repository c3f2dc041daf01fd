"""Other programs that tests run; a test that needs one that is not installed is skipped, and says so."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest


def require_program(name: str) -> None:
    """Skip the test if there is no such program."""
    if shutil.which(name) is None:
        pytest.skip(f"{name} is not installed")


def run_program(*command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
    """The finished process of a program. Skips the test without the program, fails it with its messages."""
    require_program(str(command[0]))
    run = subprocess.run(
        [str(part) for part in command],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=120,
        **options,
    )  # type: ignore[call-overload]
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run
