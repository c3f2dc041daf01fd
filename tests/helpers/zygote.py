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
import pty
import random
import select
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
_IMPORTED = [
    *("av", "matplotlib.figure", "torch._dynamo"),  # what a training imports late, too
    *("vtag.app.cli", "vtag.engine.scan.scan", "vtag.trainer.network.train_recipe"),
]
_awaited: list[int] = []  # in a zygote: the child that it waits for
_IMPORTS_S = 120.0  # the longest that a process imports what the last child did, on a busy machine


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
    stdout: Path
    stderr: Path  # what it said so far
    modules: Path


class _Terminal:
    """A terminal that keeps what was written to it."""

    def __init__(self) -> None:
        self._screen, self._line = pty.openpty()
        self.path = os.ttyname(self._line)
        self._output = b""
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # so Linux says that nobody has it open any more
            while chunk := os.read(self._screen, 1 << 16):
                self._output += chunk

    def close(self) -> str:
        """What was written."""
        os.close(self._line)
        self._reading.join(30)
        os.close(self._screen)
        return self._output.decode("utf-8", "surrogateescape")


class Zygote:
    """A process whose children run vtag. A context manager."""

    def __init__(self, folder: Path, *, is_warm: bool = True) -> None:
        """`is_warm` False: with nothing imported yet."""
        self._folder = folder
        self._is_warm = is_warm
        self._started = 0
        self._process = _start_process(is_warm)

    def run(
        self,
        *arguments: str | Path,
        kill: Kill | None = None,
        code: str = "",
        is_counted: bool = False,
        at_terminal: bool = False,
        timeout: float = _PATIENCE_S,
        **environment: str,
    ) -> Ran:
        """Run `vtag ARGUMENTS`, or `code` with them as sys.argv, and kill it if it gets as far as `kill` says.

        With `is_counted` the calls that count are noted, which makes it slower. With `at_terminal` it writes to a
        terminal, and `stdout` of the answer is all that came there. It has the environment of this process, with
        the variables of `environment`, and its current folder.
        """
        outputs = [str(self._folder / name) for name in ("stdout", "stderr", "points", "modules")]
        terminal = _Terminal() if at_terminal else None
        if terminal:
            outputs[:2] = terminal.path, terminal.path
            environment = {"TERM": "xterm-256color", "COLUMNS": "200", **environment}
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
        try:
            status = self._ask(line, timeout + _IMPORTS_S)
        finally:
            screen_text = terminal.close() if terminal else ""
        points = Path(outputs[2]).read_text("utf-8").split()
        if terminal:
            return Ran(status, screen_text, "", points)
        stdout, stderr = (Path(path).read_text("utf-8", "replace") for path in outputs[:2])
        return Ran(status, stdout, stderr, points)

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
        stdout, stderr, _, modules = map(Path, outputs)
        return Running(self._ask(line, _IMPORTS_S), stdout, stderr, modules)

    def wait(self, running: Running, timeout: float) -> int | None:
        """The exit status of what was started; None if it still runs after `timeout` seconds."""
        line = {"pid": running.pid, "timeout": timeout, "modules": str(running.modules)}
        status: int | None = self._ask(line, timeout + _IMPORTS_S)
        return status

    def _ask(self, line: dict[str, Any], timeout: float) -> Any:
        """The answer to a line.

        If none comes in time, or if the test ends while it waits, the process is replaced: the next line would get
        the answer to this one.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(line) + "\n")
            self._process.stdin.flush()
            if not select.select([self._process.stdout], [], [], timeout)[0]:
                raise TimeoutError(f"no answer within {timeout:.0f} s to {line}")
            return json.loads(self._process.stdout.readline())
        except BaseException:  # a test's time limit, too
            self._replace()
            raise

    def _replace(self) -> None:
        self._process.terminate()  # it kills the child that it waits for
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = _start_process(self._is_warm)

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


def _start_process(is_warm: bool) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "helpers.zygote", *([] if is_warm else ["cold"])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    )


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
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.chdir(line["folder"])
        for name in os.environ.keys() - line["environment"].keys():
            del os.environ[name]
        os.environ.update(line["environment"])
        for number, path in ((1, line["outputs"][0]), (2, line["outputs"][1])):
            flags = os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOCTTY
            os.dup2(os.open(path, flags, 0o600), number)
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


def _end_with_child(*_: object) -> None:
    """At SIGTERM: end, and leave no child behind that is waited for."""
    if _awaited:
        os.kill(_awaited[0], signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Serve lines until stdin ends."""
    signal.signal(signal.SIGTERM, _end_with_child)
    os.environ["OMP_NUM_THREADS"] = "1"
    if "cold" not in sys.argv:
        _import_all(_IMPORTED)
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
        try:
            ended, status = os.waitpid(child, os.WNOHANG)
        except ChildProcessError:  # a child of a process that was replaced: its status cannot be known
            ended, status = _has_ended(child), 0
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            return None
        time.sleep(0.002)


def _has_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _wait_or_kill(child: int, line: dict[str, Any]) -> int:
    _awaited.append(child)
    after_s = Kill(*line["kill"]).after_s if line["kill"] else -1.0
    status = _wait(child, time.monotonic() + (after_s if after_s >= 0 else line["timeout"]))
    if status is None:
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    _awaited.clear()
    return status


if __name__ == "__main__":
    main()
