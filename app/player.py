"""Plays a video from a moment in the player that is installed; an argument list, never a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from vtag.app.console import say
from vtag.engine.errors import VtagError
from vtag.engine.text import display_path


def play(path: bytes, start_ms: int) -> None:
    """Open `path` (absolute) at a time in mpv, else in vlc, and return at once.

    Raises VtagError where there is neither, or the file is not there.
    """
    if not os.path.isfile(path):
        raise VtagError(f"{display_path(path)} is not there now: connect its disk, and scan it again")
    command = command_for(path, start_ms)
    say(f"playing {display_path(path)} in {Path(os.fsdecode(command[0])).name}")
    nothing = subprocess.DEVNULL
    try:
        subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True)
    except OSError as error:
        raise VtagError(f"the player cannot be started: {error.strerror}") from error


def command_for(path: bytes, start_ms: int) -> list[str | bytes]:
    """The player's arguments. Raises VtagError where no player is installed."""
    at = f"{start_ms / 1000:.3f}"
    if mpv := shutil.which("mpv"):
        # absolute, and behind the end of options: neither an option nor an address
        return [mpv, f"--start={at}", "--", os.path.abspath(path)]
    if vlc := shutil.which("vlc"):
        # as an address: vlc reads options out of what looks like one
        return [vlc, f"--start-time={at}", Path(os.fsdecode(os.path.abspath(path))).as_uri()]
    raise VtagError("neither mpv nor vlc is installed: install one of them to play moments")
