"""Ctrl-C where Python loses it, and where it would do harm."""

from __future__ import annotations

import io
import os
import signal
import sys
import weakref
from typing import Any

import pytest

from vtag.app.console import say
from vtag.app.training_view import stop_after_step
from vtag.engine.system import signals


class Thing:
    """Something that can be referred to weakly."""


def interrupted_as_it_ends() -> None:
    """A SIGINT arrives in the callback of a weak reference, as it does in an executor's when a scan is over."""
    thing = Thing()
    reference = weakref.ref(thing, lambda _: signal.raise_signal(signal.SIGINT))
    del thing
    assert reference() is None


def test_an_interruption_that_python_swallows_is_raised_at_the_next_look(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with signals.catch_interrupts():
        signals.raise_if_interrupted()
        interrupted_as_it_ends()
        with pytest.raises(KeyboardInterrupt):
            signals.raise_if_interrupted()
    signals.raise_if_interrupted()  # it was heard: another scan may begin
    assert capfd.readouterr().err == ""


def test_other_lost_errors_are_said_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: reported.append(unraisable.exc_type))
    with signals.catch_interrupts():
        thing = Thing()
        reference = weakref.ref(thing, lambda _: 1 // 0)
        del thing
    assert reference() is None and reported == [ZeroDivisionError]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_until_a_library_is_loaded(number: signal.Signals) -> None:
    done = []
    with signals.catch_interrupts():
        with pytest.raises(KeyboardInterrupt), signals.delay_interrupts():
            signal.raise_signal(number)
            done.append("loaded")
        assert done == ["loaded"]
        with pytest.raises(KeyboardInterrupt):
            signals.raise_if_interrupted()
    with pytest.raises(KeyboardInterrupt), signals.delay_interrupts():  # where only Python itself listens
        signal.raise_signal(signal.SIGINT)
        done.append("again")
    assert done == ["loaded", "again"]


class Interrupted(io.RawIOBase):
    """A terminal at which Ctrl-C is pressed while it is written to, as it often is where it is slow."""

    def __init__(self, descriptor: int) -> None:
        self.pressed = False
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def write(self, data: Any) -> int:
        if not self.pressed:
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return os.write(self._descriptor, data)


def test_a_training_is_ended_also_in_the_middle_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that is being written to takes nothing else from the same thread."""
    read, write = os.pipe()
    terminal = io.TextIOWrapper(io.BufferedWriter(Interrupted(write)), line_buffering=True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with stop_after_step() as stop:
        stop.begin()
        say("epoch 1 of 9")
        assert stop.requested
    os.close(write)
    assert os.read(read, 1000).decode() == "ending after this step; again ends at once\nepoch 1 of 9\n"
    os.close(read)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), signals.catch_interrupts():
        signal.raise_signal(number)
