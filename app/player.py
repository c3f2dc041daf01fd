"""Plays a moment in an installed player; never through a shell."""

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

    Raises VtagError if neither is installed or the file is missing.
    """
    if not os.path.isfile(path):
        raise VtagError(f"{display_path(path)} is not there now: connect its disk, and scan it again")
    command = player_command(path, start_ms)
    say(f"playing {display_path(path)} in {Path(os.fsdecode(command[0])).name}")
    devnull = subprocess.DEVNULL
    try:
        subprocess.Popen(command, stdin=devnull, stdout=devnull, stderr=devnull, start_new_session=True)
    except OSError as error:
        raise VtagError(f"the player cannot be started: {error.strerror}") from error


def player_command(path: bytes, start_ms: int) -> list[str | bytes]:
    """The player's arguments. Raises VtagError if no player is installed."""
    start_s = f"{start_ms / 1000:.3f}"
    if mpv := shutil.which("mpv"):
        # An absolute path after `--` is taken neither for an option nor for an address
        return [mpv, f"--start={start_s}", "--", os.path.abspath(path)]
    if vlc := shutil.which("vlc"):
        # As an address, since VLC reads options from names that look like options
        return [vlc, f"--start-time={start_s}", Path(os.fsdecode(os.path.abspath(path))).as_uri()]
    raise VtagError("neither mpv nor vlc is installed: install one of them to play moments")
