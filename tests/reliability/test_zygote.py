"""A test that ends while a command of it runs leaves the next test its own answers, and no process behind."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from helpers.zygote import Zygote

pytestmark = pytest.mark.reliability
SLEEPER = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(300)"


class Interrupted(Exception):
    """What a test's time limit raises in the middle of it."""


def interrupt_when_written(file: Path) -> None:
    """Raise Interrupted in this thread once the file has something in it."""

    def look(*_: object) -> None:
        if file.exists() and file.read_text():
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise Interrupted

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)


def test_an_answer_belongs_to_its_question(tmp_path: Path) -> None:
    number = tmp_path / "number"
    before = signal.getsignal(signal.SIGALRM)
    with Zygote(tmp_path, is_warm=False) as zygote:
        assert zygote.run("1", code="import sys; print(sys.argv[1])").stdout == "1\n"
        try:
            interrupt_when_written(number)
            with pytest.raises(Interrupted):
                zygote.run(number, code=SLEEPER)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert zygote.run("2", code="import sys; print(sys.argv[1])").stdout == "2\n"
        assert has_ended(int(number.read_text()))
        number.unlink()
        started = time.monotonic()
        assert zygote.run(number, code=SLEEPER, timeout=0.5).was_killed
        assert zygote.run("3", code="import sys; print(sys.argv[1])").stdout == "3\n"
        assert time.monotonic() - started < 120


def test_a_command_writes_to_a_terminal(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(os.isatty(1), os.isatty(2), file=sys.stderr); sys.stdout.write('x' * 100_000)"
    )
    with Zygote(tmp_path, is_warm=False) as zygote:
        assert zygote.run(code=code, at_terminal=True).stdout == "True True\r\n" + "x" * 100_000


def has_ended(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
