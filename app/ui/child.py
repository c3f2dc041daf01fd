"""What a command of vtag says, asked in a process of its own: the server itself loads no model and opens no video."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from vtag.engine.errors import VtagError


def told_by(arguments: Sequence[str], *, within_s: float, too_long: str) -> dict[str, Any]:
    """What `vtag ARGUMENTS` says as JSON. Raises VtagError with its own words, or with `too_long`."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "vtag.app", *arguments],
            capture_output=True,
            text=True,
            timeout=within_s,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        raise VtagError(too_long) from None
    if done.returncode:
        said = done.stderr.strip().rpartition("\n")[2].removeprefix("vtag: ")
        raise VtagError(said or f"it ended with {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout)
    return told
