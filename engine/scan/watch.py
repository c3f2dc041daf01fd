"""Watches folders: scans them once, and again when a file was added or changed and is no longer being written."""

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
from vtag.engine.library.database import LibraryWriter
from vtag.engine.scan.discover import EXTENSIONS, DiscoveredFile
from vtag.engine.scan.events import ScanEvent, ScanFinished, ScanPlanned, WatchStatus
from vtag.engine.scan.ignore import IGNORE_FILE
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.engine.system import signals

if TYPE_CHECKING:
    from watchfiles import Change

REST_S = 5.0  # a file that did not change for this long counts as completely written
POLL_S = 60.0  # between two walks of the folders, if the system reports no changes
_TICK_S = 1.0  # how soon a folder that vanished or came back is noticed
_MAX_INTERVAL_S = 3600.0  # between two walks if the system reports changes, since reports may be lost


def watch(
    library: LibraryWriter,
    paths: list[bytes],
    checkpoint: Checkpoint,
    options: ScanOptions,
    *,
    poll: bool = False,
    rest_s: float = REST_S,
    poll_s: float = POLL_S,
) -> Iterator[ScanEvent]:
    """Scan `paths` again and again until the generator is closed; yields the events of scans with something to do.

    A path that does not exist (an offline share) is waited for, and its videos are not marked as missing meanwhile.
    With `poll`, or if the system cannot report changes, the folders are walked every `poll_s` seconds.
    """
    rest_filter = _RestFilter(rest_s)
    options = replace(options, postpone=rest_filter.postpones, is_watch=True)
    status, last_error = None, ""
    while True:
        present = _stat_present(paths)
        changes = None if poll or not present else _report_changes(list(present), library.path.parent)
        absent = tuple(path for path in paths if path not in present)
        new_status = WatchStatus(tuple(present), absent, polling=changes is None)
        if new_status != status:
            status = new_status
            yield status
        try:
            while present == _stat_present(paths):
                rest_filter.begin_walk()
                if present:
                    yield from _unless_idle(scan(library, list(present), checkpoint, options))
                    last_error = ""
                    options = replace(options, force=False, retry_failed=False)  # meant for the first scan
                interval_s = poll_s if changes is None else _MAX_INTERVAL_S
                if rest_filter.has_postponed:
                    _wait(paths, present, None, rest_s)
                else:
                    _wait(paths, present, changes, interval_s)
        except LibraryError as error:
            # an error that repeats with the same folders present has another cause than a share that flaps
            if present == _stat_present(paths) and last_error == str(error):
                raise
            last_error = str(error)
        finally:
            if changes is not None:
                changes.close()


def _stat_present(paths: list[bytes]) -> dict[bytes, tuple[int, int]]:
    """The paths that exist, with device and inode: an empty mount point is not the folder that the share was."""
    present = {}
    for path in paths:
        with contextlib.suppress(OSError):
            info = os.stat(path)
            present[path] = (info.st_dev, info.st_ino)
    return present


class _RestFilter:
    """Postpones files that changed a short while ago. Holds about 300 bytes for each file."""

    def __init__(self, rest_s: float) -> None:
        self._rest_s = rest_s
        self._files: dict[bytes, tuple[int, int, float]] = {}  # size, mtime_ns, unchanged since
        self._is_first_walk = True
        self.has_postponed = False  # whether the last walk postponed a file

    def begin_walk(self) -> None:
        """Prepare for the next walk over the folders."""
        self._is_first_walk = not self._files
        self.has_postponed = False

    def postpones(self, file: DiscoveredFile) -> bool:
        """Whether to postpone a file, since it is new or changed less than `rest_s` ago."""
        size_bytes, mtime_ns, since = self._files.get(file.path, (-1, -1, 0.0))
        now_s = time.monotonic()
        if (size_bytes, mtime_ns) != (file.size_bytes, file.mtime_ns):
            # the date counts only for files from before the watch: the clocks of shares may be wrong
            is_old = self._is_first_walk and time.time() - file.mtime_ns / 1e9 > self._rest_s
            since = now_s - self._rest_s if is_old else now_s
            self._files[file.path] = (file.size_bytes, file.mtime_ns, since)
        if now_s - since >= self._rest_s:
            return False
        self.has_postponed = True
        return True


_Changes = Generator[set[tuple["Change", str]], None, None]


def _report_changes(folders: list[bytes], home: Path) -> _Changes | None:
    """The changes in `folders` from now on, without our own below `home`; None if the system cannot report them."""
    from watchfiles import Change, watch
    from watchfiles._rust_notify import WatchfilesRustInternalError

    own_prefix = os.path.join(str(home), "")

    def is_relevant(change: Change, path: str) -> bool:
        if path.startswith(own_prefix):
            return False
        extension = os.fsencode(os.path.splitext(path)[1].lower())
        return (
            extension in EXTENSIONS
            or os.path.basename(path) == os.fsdecode(IGNORE_FILE)
            or change == Change.deleted  # of a folder, perhaps
            or os.path.isdir(path)
        )

    changes = watch(
        *map(os.fsdecode, folders),
        watch_filter=is_relevant,
        rust_timeout=int(_TICK_S * 1000),
        yield_on_timeout=True,
        force_polling=False,
        ignore_permission_denied=True,
    )
    try:
        next(changes)  # starts to watch: from here on no change is missed
    # too many folders, or names that are not text
    except (OSError, UnicodeError, WatchfilesRustInternalError, StopIteration):
        changes.close()
        return None
    return changes


def _wait(
    paths: list[bytes], present: dict[bytes, tuple[int, int]], changes: _Changes | None, max_s: float
) -> None:
    """Wait until there is a reason to walk again: a change, a path that vanished or came back, or `max_s` seconds."""
    started = time.monotonic()
    while (left_s := max_s - (time.monotonic() - started)) > 0 and present == _stat_present(paths):
        signals.raise_if_interrupted()
        if changes is None:
            time.sleep(min(_TICK_S, left_s))
        elif next(changes):
            return


def _unless_idle(events: Iterator[ScanEvent]) -> Iterator[ScanEvent]:
    """The events of a scan. If there is nothing new to scan, only a summary with failures is yielded."""
    is_idle = False
    for event in events:
        if isinstance(event, ScanPlanned):
            is_idle = not event.videos
        if not is_idle or (isinstance(event, ScanFinished) and event.failed):
            yield event
