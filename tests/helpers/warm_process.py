"""A command that runs beside a test, from the process that has imported it: it is under way in half a second."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

from helpers.zygote import shared_zygote

_PATIENCE_S = 900.0


class WarmProcess:
    """A running `vtag ARGUMENTS`, in the manner of `subprocess.Popen`."""

    def __init__(self, *arguments: str | Path) -> None:
        self._zygote = shared_zygote()
        self._running = self._zygote.start(*arguments, environment=dict(os.environ))
        self.pid = self._running.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status; None while it runs."""
        if self.returncode is None:
            self.returncode = self._zygote.wait(self._running, 0)
        return self.returncode

    def communicate(self, timeout: float = _PATIENCE_S) -> tuple[str, str]:
        """What it wrote to stdout and stderr, once it has ended. Raises TimeoutExpired, after killing it."""
        if self.returncode is None:
            self.returncode = self._zygote.wait(self._running, timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired("vtag", timeout)
        return self._running.stdout.read_text(), self._running.stderr.read_text()

    def wait_for_message(self, text: str) -> str:
        """The line of stderr that has `text`, once it is there. Kills the process if it does not come."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            messages = self._running.stderr.read_text()
            if line := next((line for line in messages.splitlines() if text in line), ""):
                return line
            if self.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"it did not say {text!r}: {messages}")
            time.sleep(0.02)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)
