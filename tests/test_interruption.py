"""Ctrl-C where Python loses it, and where it would do harm."""

from __future__ import annotations

import signal
import sys
import weakref

import pytest

from vtag.engine import interruption


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
    with interruption.heard():
        interruption.check()
        interrupted_as_it_ends()
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
    interruption.check()  # it was heard: another scan may begin
    assert capfd.readouterr().err == ""


def test_other_lost_errors_are_said_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    told = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: told.append(what.exc_type))
    with interruption.heard():
        thing = Thing()
        reference = weakref.ref(thing, lambda _: 1 // 0)
        del thing
    assert reference() is None and told == [ZeroDivisionError]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_waits_until_a_library_is_loaded(number: signal.Signals) -> None:
    done = []
    with interruption.heard():
        with pytest.raises(KeyboardInterrupt), interruption.held():
            signal.raise_signal(number)
            done.append("loaded")
        assert done == ["loaded"]
        with pytest.raises(KeyboardInterrupt):
            interruption.check()
    with pytest.raises(KeyboardInterrupt), interruption.held():  # where only Python itself listens
        signal.raise_signal(signal.SIGINT)
        done.append("again")
    assert done == ["loaded", "again"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_both_signals_interrupt(number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), interruption.heard():
        signal.raise_signal(number)
