"""The long calls of the page that are under way, for the bar of what runs. They end with the page that began them."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass
class Activity:
    """A call that works on many files: how many are done, of how many, and the name of the one under way."""

    number: int
    title: str
    done: int = 0
    of: int = 0
    what: str = ""
    is_stopped: bool = False


class Activities:
    """The activities of one server. Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._active: dict[int, Activity] = {}

    @contextmanager
    def begin(self, title: str) -> Iterator[Activity]:
        """An activity that is listed, from its first progress on, until the block ends."""
        activity = Activity(next(self._numbers), title)
        with self._lock:
            self._active[activity.number] = activity
        try:
            yield activity
        finally:
            with self._lock:
                del self._active[activity.number]

    def listed(self) -> list[dict[str, Any]]:
        """What is under way, as JSON."""
        with self._lock:
            return [
                {
                    "number": each.number,
                    "title": each.title,
                    "done": each.done,
                    "of": each.of,
                    "what": each.what,
                }
                for each in self._active.values()
                if each.of
            ]

    def stop(self, number: int) -> bool:
        """Let an activity end before its next step. False if it is over."""
        with self._lock:
            if number in self._active:
                self._active[number].is_stopped = True
            return number in self._active
