"""Runs a vtag command as a child process, so that the server itself loads no model and opens no video."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from vtag.engine.errors import VtagError


def run_for_json(arguments: Sequence[str], *, timeout_s: float, timeout_message: str) -> dict[str, Any]:
    """The JSON output of `vtag ARGUMENTS`. Raises VtagError with the command's error or `timeout_message`."""
    try:
        process = subprocess.run(
            [sys.executable, "-P", "-m", "vtag.app", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise VtagError(timeout_message) from None
    if process.returncode:
        message = process.stderr.strip().rpartition("\n")[2].removeprefix("vtag: ")
        raise VtagError(message or f"it ended with {process.returncode}")
    output: dict[str, Any] = json.loads(process.stdout)
    return output
