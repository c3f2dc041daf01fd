"""Runs vtag again and again in children of one process that has imported it, and kills them at chosen points.

`python -m helpers.zygote` reads a JSON line for each child from stdin and answers with one. A child is a real process
that runs the real command line; a profile function sees its calls of the operating system and of SQLite, and ends it
by SIGKILL before, within or after the call that the line names. What a child imports, the parent imports afterwards,
so that the next child has it.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import io
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

# calls after which something may be there for good
DURABLE = ("commit", "fsync", "replace", "rename", "link", "backup")
_POINTS = frozenset(
    (*DURABLE, "execute", "executemany", "write", "unlink", "mkdir", "truncate", "open", "rmdir")
)
_PATIENCE_S = 300.0


class Kill(NamedTuple):
    """When a child is killed: at the n-th call that counts (from 0), or after some time."""

    at: int = -1
    how: str = "before"  # before, within or after the call
    after_s: float = -1.0


class Ran(NamedTuple):
    """How a child ended: its exit status as of `subprocess`, what it said, and the calls that counted, in order."""

    status: int
    stdout: str
    stderr: str
    points: list[str]

    @property
    def returncode(self) -> int:
        """As of `subprocess.CompletedProcess`."""
        return self.status

    @property
    def was_killed(self) -> bool:
        return self.status == -signal.SIGKILL


class Running(NamedTuple):
    """A child that was left running."""

    pid: int
    stderr: Path  # what it said so far
    modules: Path


class Zygote:
    """A process whose children run vtag. A context manager."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
        )

    def run(
        self,
        *arguments: str | Path,
        kill: Kill | None = None,
        code: str = "",
        is_counted: bool = False,
        timeout: float = _PATIENCE_S,
        **environment: str,
    ) -> Ran:
        """Run `vtag ARGUMENTS`, or `code` with them as sys.argv, and kill it if it gets as far as `kill` says.

        With `is_counted` the calls that count are noted, which makes it slower. It has the environment of this
        process, with the variables of `environment`, and its current folder.
        """
        outputs = [str(self._folder / name) for name in ("stdout", "stderr", "points", "modules")]
        line = {
            "arguments": [*map(os.fspath, arguments)],
            "code": code,
            "environment": {**os.environ, **environment},
            "folder": os.getcwd(),
            "timeout": timeout,
            "is_counted": is_counted,
            "kill": kill,
            "outputs": outputs,
        }
        status = self._ask(line)
        stdout, stderr, points = (Path(path).read_text("utf-8", "replace") for path in outputs[:3])
        return Ran(status, stdout, stderr, points.split())

    def start(self, *arguments: str | Path, environment: dict[str, str]) -> Running:
        """Start `vtag ARGUMENTS`, and leave it running."""
        self._started += 1
        outputs = [
            str(self._folder / f"{name}-{self._started}")
            for name in ("stdout", "stderr", "points", "modules")
        ]
        line = {
            "arguments": [*map(os.fspath, arguments)],
            "code": "",
            "environment": environment,
            "folder": os.getcwd(),
            "kill": None,
            "is_counted": False,
            "outputs": outputs,
            "is_left": True,
        }
        return Running(self._ask(line), Path(outputs[1]), Path(outputs[3]))

    def wait(self, running: Running, timeout: float) -> int | None:
        """The exit status of what was started; None if it still runs after `timeout` seconds."""
        status: int | None = self._ask(
            {"pid": running.pid, "timeout": timeout, "modules": str(running.modules)}
        )
        return status

    def _ask(self, line: dict[str, Any]) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def stdout_bytes(self) -> bytes:
        """What the last child wrote to stdout."""
        return (self._folder / "stdout").read_bytes()

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@cache
def shared_zygote() -> Zygote:
    """The one of this process, which ends with it."""
    folder = tempfile.TemporaryDirectory(prefix="vtag-zygote-")
    atexit.register(folder.cleanup)
    return Zygote(Path(folder.name))


def choose_kills(points: list[str], wall_s: float, count: int, seed: int) -> Iterator[Kill]:
    """So many kills of a run with these `points`: half at calls that make something durable, the rest anywhere."""
    rng = random.Random(seed)
    durable = [number for number, name in enumerate(points) if name in DURABLE]
    for number in range(count):
        how = ("before", "within", "after")[number % 3]
        if number % 4 == 3 or not points:
            yield Kill(after_s=rng.uniform(0.0, 0.8 * wall_s))
        elif number % 4 == 2 or not durable:
            yield Kill(rng.randrange(len(points)), how)
        else:
            yield Kill(rng.choice(durable), how)


def _watch(kill: Kill | None, points: list[str]) -> Callable[[FrameType, str, Any], None]:
    """A profile function that notes the calls that count, and kills this process at one of them."""

    def profile(frame: FrameType, event: str, function: Any) -> None:
        if event not in ("c_call", "c_return") or function.__name__ not in _POINTS:
            return
        owner = getattr(function, "__self__", None)  # texts have a `replace`, too
        if not isinstance(owner, sqlite3.Connection | types.ModuleType | io.BufferedWriter | io.FileIO):
            return
        if event == "c_call":
            points.append(function.__name__)
        if kill is None or len(points) - 1 != kill.at:
            return
        if kill.how == "within" and event == "c_call":
            threading.Thread(target=_die, args=(random.uniform(0, 2e-3),), daemon=True).start()
        elif (kill.how == "before") == (event == "c_call"):
            _die(0)

    return profile


def _die(after_s: float) -> None:
    time.sleep(after_s)
    os.kill(os.getpid(), signal.SIGKILL)


def _be_child(line: dict[str, Any]) -> None:
    """Run vtag with the outputs of `line`, and never return."""
    kill = Kill(*line["kill"]) if line["kill"] else None
    status, points = 1, list[str]()
    try:
        os.setsid()
        os.chdir(line["folder"])
        for name in os.environ.keys() - line["environment"].keys():
            del os.environ[name]
        os.environ.update(line["environment"])
        for number, path in ((1, line["outputs"][0]), (2, line["outputs"][1])):
            os.dup2(os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o600), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = ["vtag", *line["arguments"]]
        if line["is_counted"] or (kill and kill.at >= 0):
            sys.setprofile(_watch(kill, points))
        if line["code"]:
            exec(line["code"], {"__name__": "__main__"})
            status = 0
        else:
            from vtag.app.cli import main

            main()
            status = 0
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else 1 if done.code else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.setprofile(None)
        with contextlib.suppress(Exception):
            threading._shutdown()  # type: ignore[attr-defined]  # as the interpreter does at its end
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            Path(line["outputs"][2]).write_text("\n".join(points))
            Path(line["outputs"][3]).write_text("\n".join(sys.modules))
        os._exit(status)


def _import_all(names: list[str]) -> None:
    for name in names:
        if name not in sys.modules and name != "__main__":
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.collect()


def main() -> None:
    """Serve lines until stdin ends."""
    os.environ["OMP_NUM_THREADS"] = "1"
    import av  # noqa: F401
    import matplotlib.figure  # noqa: F401
    import torch._dynamo  # noqa: F401  # what a training imports late

    import vtag.app.cli  # noqa: F401
    from vtag.engine.scan import scan  # noqa: F401
    from vtag.trainer.network import train_recipe  # noqa: F401

    for text in sys.stdin:
        line = json.loads(text)
        if "pid" in line:  # a child that was left running
            answer = _wait(line["pid"], time.monotonic() + line["timeout"])
            modules = line["modules"]
        else:
            for output in line["outputs"]:
                Path(output).write_text("")
            gc.freeze()  # else the first collection in a child copies all of these pages
            child = os.fork()
            if child == 0:
                _be_child(line)
            answer, modules = child, line["outputs"][3]
            if not line.get("is_left"):
                answer = _wait_or_kill(child, line)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
        _import_all(Path(modules).read_text().split())


def _wait(child: int, deadline: float) -> int | None:
    """The exit status of a child; None if it still runs at the deadline."""
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def _wait_or_kill(child: int, line: dict[str, Any]) -> int:
    after_s = Kill(*line["kill"]).after_s if line["kill"] else -1.0
    status = _wait(child, time.monotonic() + (after_s if after_s >= 0 else line["timeout"]))
    if status is None:
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status


if __name__ == "__main__":
    main()
