"""Other programs that tests run; a test that needs one that is not installed is skipped, and says so."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest


def require_program(name: str, path: str | None = None) -> None:
    """Skip the test if there is no such program on `path`, by default the process's own."""
    if shutil.which(name, path=path) is None:
        pytest.skip(f"{name} is not installed")


def run_program(
    *command: str | Path, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """The finished process of a program. Skips the test without the program, fails it with its messages."""
    require_program(str(command[0]), (env or os.environ).get("PATH"))
    parts = [str(part) for part in command]
    run = subprocess.run(
        parts, env=env, capture_output=True, text=True, errors="replace", timeout=120, **options
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
    return run
