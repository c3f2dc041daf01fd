"""Watches folders: scans them once, and again whenever something changed in them and came to rest."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vtag.engine.checkpoints.load import Checkpoint
from vtag.engine.errors import LibraryError
from vtag.engine.library.database import Library
from vtag.engine.scan.discover import EXTENSIONS, Found
from vtag.engine.scan.events import Event, Finished, Planned, Watching
from vtag.engine.scan.ignore import IGNORE_FILE
from vtag.engine.scan.scan import ScanOptions, scan
from vtag.engine.system import signals

if TYPE_CHECKING:
    from watchfiles import Change

REST_S = 5.0  # a file that did not change for so long is taken to be written
POLL_S = 60.0  # from look to look, where the system tells of no changes
_TICK_S = 1.0  # how soon a folder that went away or came back is noticed
_ANYWAY_S = 3600.0  # events may be lost


def watch(
    library: Library,
    paths: list[bytes],
    checkpoint: Checkpoint,
    options: ScanOptions,
    *,
    poll: bool = False,
    rest_s: float = REST_S,
    poll_s: float = POLL_S,
) -> Iterator[Event]:
    """Scan `paths`, and go on until it is closed: the events of every scan that had something to do.

    A path that is not there (a share that is offline) is waited for; nothing is taken for deleted meanwhile. With
    `poll`, or where the system cannot tell of changes, the folders are walked every `poll_s` seconds.
    """
    rest = _Rest(rest_s)
    options = replace(options, leave=rest.leaves, watching=True)
    told, trouble = None, ""
    while True:
        there = _there(paths)
        changes = None if poll or not there else _changes(list(there), library.path.parent)
        now = Watching(tuple(there), tuple(p for p in paths if p not in there), polling=changes is None)
        if now != told:
            told = now
            yield now
        try:
            while there == _there(paths):
                rest.begin()
                if there:
                    yield from _with_something_to_do(scan(library, list(there), checkpoint, options))
                    trouble = ""
                    options = replace(options, force=False, retry_failed=False)  # that was meant once
                usual_s = poll_s if changes is None else _ANYWAY_S
                _wait(paths, there, None if rest.waiting else changes, rest_s if rest.waiting else usual_s)
        except LibraryError as error:
            if there == _there(paths) and trouble == str(
                error
            ):  # else it may have gone away, and be back already
                raise
            trouble = str(error)
        finally:
            if changes is not None:
                changes.close()


def _there(paths: list[bytes]) -> dict[bytes, tuple[int, int]]:
    """The paths that are there, and what they are: an empty mount point is another folder than the share was."""
    there = {}
    for path in paths:
        with contextlib.suppress(OSError):
            info = os.stat(path)
            there[path] = (info.st_dev, info.st_ino)
    return there


class _Rest:
    """Which files did not change for a while. Holds a stamp a file: about 300 bytes each."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._seen: dict[bytes, tuple[int, int, float]] = {}
        self._first = True
        self.waiting = False  # whether the last walk met files that do not rest

    def begin(self) -> None:
        """Before a walk."""
        self._first = not self._seen
        self.waiting = False

    def leaves(self, found: Found) -> bool:
        """Whether a file is to be left for now: it changed since it was met last, or was met only now."""
        size, mtime_ns, since = self._seen.get(found.path, (-1, -1, 0.0))
        now = time.monotonic()
        if (size, mtime_ns) != (found.size_bytes, found.mtime_ns):
            # what was there before the watch began tells by its date; later clocks of shares are not believed
            old = self._first and time.time() - found.mtime_ns / 1e9 > self._rest_s
            since = now - self._rest_s if old else now
            self._seen[found.path] = (found.size_bytes, found.mtime_ns, since)
        if now - since >= self._rest_s:
            return False
        self.waiting = True
        return True


_Changes = Generator[set[tuple["Change", str]], None, None]


def _changes(folders: list[bytes], home: Path) -> _Changes | None:
    """What the system tells of changes in `folders` from now on, less our own; None where it cannot."""
    from watchfiles import Change, watch
    from watchfiles._rust_notify import WatchfilesRustInternalError

    own = os.path.join(str(home), "")

    def counts(change: Change, path: str) -> bool:
        if path.startswith(own):
            return False
        ending = os.fsencode(os.path.splitext(path)[1].lower())
        return (
            ending in EXTENSIONS
            or os.path.basename(path) == os.fsdecode(IGNORE_FILE)
            or change == Change.deleted  # of a folder, perhaps
            or os.path.isdir(path)
        )

    changes = watch(
        *map(os.fsdecode, folders),
        watch_filter=counts,
        rust_timeout=int(_TICK_S * 1000),
        yield_on_timeout=True,
        force_polling=False,
        ignore_permission_denied=True,
    )
    try:
        next(changes)  # from here on nothing is missed
    except (OSError, UnicodeError, WatchfilesRustInternalError, StopIteration):  # too many folders, odd names
        changes.close()
        return None
    return changes


def _wait(
    paths: list[bytes], there: dict[bytes, tuple[int, int]], changes: _Changes | None, most_s: float
) -> None:
    """Wait for a reason to walk again: `most_s` have passed, something changed, a path went away or came back."""
    began = time.monotonic()
    while (left_s := most_s - (time.monotonic() - began)) > 0 and there == _there(paths):
        signals.raise_if_interrupted()
        if changes is None:
            time.sleep(min(_TICK_S, left_s))
        elif next(changes):
            return


def _with_something_to_do(events: Iterator[Event]) -> Iterator[Event]:
    """The events of a scan, unless it found nothing new."""
    idle = False
    for event in events:
        if isinstance(event, Planned):
            idle = not event.videos
        if not idle or (isinstance(event, Finished) and event.failed):
            yield event
