"""The log file of `--log-file`: one JSON object a line, with the id of the run that wrote it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import time
from pathlib import Path
from typing import Any

from vtag.engine.errors import VtagError
from vtag.engine.text import display_path, to_json

LOG_VARIABLE = "VTAG_LOG_FILE"  # the file, for the commands that this one starts
_RUN_VARIABLE = "VTAG_LOG_RUN"  # the id of the run that started this one


class LogFile:
    """An open log. Each line is written at once, so that several processes can write to the same file."""

    def __init__(self, path: Path) -> None:
        """Raises VtagError if the file cannot be written."""
        self._run = secrets.token_hex(6)
        self._parent = os.environ.get(_RUN_VARIABLE)
        self._started = time.monotonic()
        try:
            self._descriptor = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
        except OSError as error:
            raise VtagError(f"{display_path(path)} cannot be written: {error.strerror}") from error
        os.environ[LOG_VARIABLE] = str(path.absolute())
        os.environ[_RUN_VARIABLE] = self._run

    def write(self, kind: str, **fields: Any) -> None:
        """Add a line: time (UTC), run, process, seconds since its start, the kind, and `fields`."""
        now = time.time()
        line = {
            "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03}Z",
            "run": self._run,
            **({"started_by": self._parent} if self._parent else {}),
            "pid": os.getpid(),
            "seconds": round(time.monotonic() - self._started, 3),
            "kind": kind,
            **fields,
        }
        text = to_json(line, default=_as_json)
        with contextlib.suppress(OSError):  # a full disk does not end what is logged
            os.write(self._descriptor, (text + "\n").encode("utf-8", "backslashreplace"))


_log: LogFile | None = None


def open_log(path: Path) -> None:
    """Write what happens from here on into the file at `path`. Raises VtagError if it cannot be written."""
    global _log
    _log = LogFile(path)


def log(kind: str, **fields: Any) -> None:
    """Add a line to the log, if there is one."""
    if _log is not None:
        _log.write(kind, **fields)


def log_event(event: Any) -> None:
    """Add an event of the engine, a frozen record, to the log, if there is one."""
    if _log is not None:
        _log.write(type(event).__name__, **_fields(event))


def _fields(record: Any) -> dict[str, Any]:
    """The fields of a record. One of the same name as a field of the line gets a prefix."""
    taken = {"time", "run", "started_by", "pid", "seconds", "kind"}
    return {
        f"event_{field.name}" if field.name in taken else field.name: getattr(record, field.name)
        for field in dataclasses.fields(record)
    }


def _as_json(value: Any) -> Any:
    if isinstance(value, bytes):
        return display_path(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return str(value)
