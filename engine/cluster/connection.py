"""A Ray cluster: connects to it, and runs actors on its nodes. The only module that imports ray."""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vtag.engine.cluster.options import split_address
from vtag.engine.errors import ClusterError
from vtag.engine.system.signals import delay_interrupts
from vtag.engine.text import printable

_CONNECT_S = 10.0  # longest wait for a port to answer; Ray itself would try for two minutes
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_TRACEBACKS = ("ray::", "Traceback (most recent call last)")  # a text with them ends with the error
_ATTEMPTS = 2
# a busy head does not always start the server of a Ray Client within the 30 seconds that Ray waits for it
_NOT_STARTED = "Starting Ray client server failed"


@dataclass(frozen=True)
class NodeInfo:
    """A node of the cluster: its id, host name, and what Ray has to give there."""

    id: str
    host: str
    cpus: int
    gpus: int
    is_alive: bool


class ActorError(Exception):
    """A call of an actor failed: why, in one line, and whether the actor's process died."""

    def __init__(self, reason: str, *, is_death: bool) -> None:
        super().__init__(reason)
        self.reason = reason
        self.is_death = is_death


class RayCluster:
    """A connected cluster. Its methods raise ClusterError if the connection is lost."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def nodes(self) -> list[NodeInfo]:
        """All nodes, those that died among them."""
        with _connection_errors():
            return [
                NodeInfo(
                    node["NodeID"],
                    node["NodeManagerHostname"],
                    int(node["Resources"].get("CPU", 0)),
                    int(node["Resources"].get("GPU", 0)),
                    node["Alive"],
                )
                for node in self._ray.nodes()
            ]

    def put(self, value: object) -> Any:
        """A reference to a value in the object store; each node that reads it gets one copy."""
        with _connection_errors():
            return self._ray.put(value)

    def start_actor(self, kind: type, node_id: str, *, cpus: int, gpus: int, arguments: Sequence[Any]) -> Any:
        """An actor on a node, once the node has so much to give."""
        with _connection_errors():
            strategy = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                node_id, soft=False
            )
            options = {"num_cpus": cpus, "num_gpus": gpus, "scheduling_strategy": strategy}
            return self._ray.remote(kind).options(**options).remote(*arguments)

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """Begin a call of an actor."""
        with _connection_errors():
            return getattr(actor, method).remote(*arguments)

    def finished(self, calls: Sequence[Any], timeout_s: float) -> list[Any]:
        """The calls that are over; if none is, waits for the first."""
        with _connection_errors():
            ready, waiting = self._ray.wait(list(calls), num_returns=1, timeout=timeout_s)
            if waiting:
                ready += self._ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
            return list(ready)

    def result(self, call: Any) -> Any:
        """What a finished call returned. Raises ActorError if it failed."""
        with _connection_errors():
            try:
                return self._ray.get(call)
            except (self._ray.exceptions.RayActorError, self._ray.exceptions.RayTaskError) as error:
                is_death = isinstance(error, self._ray.exceptions.RayActorError)
                raise ActorError(_reason(error), is_death=is_death) from error

    def kill(self, actor: Any) -> None:
        """End an actor, if it has not ended."""
        with _connection_errors(), suppress(self._ray.exceptions.RayError):
            self._ray.kill(actor)


def require_ray() -> None:
    """Raise ClusterError if ray is not installed."""
    if find_spec("ray") is None:
        raise ClusterError("a cluster needs Ray, which is not installed here: pip install 'vtag[cluster]'")


@contextmanager
def connect(address: str) -> Iterator[RayCluster]:
    """The cluster at `address` (`auto`, `HOST:6379`, `ray://HOST:10001`).

    Raises ClusterError if ray is not installed, or if no cluster answers.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"  # else it starts another cluster when the connection is lost
    with delay_interrupts():
        import ray
        import ray.util.scheduling_strategies

    address = _find_running(ray) if address == "auto" else address
    _check_port(address)
    _init(ray, address)
    try:
        with _silent_raylets(ray):
            yield RayCluster(ray)
    finally:
        ray.shutdown()


def _init(ray: Any, address: str) -> None:
    """Connect. Raises ClusterError if the cluster refuses."""
    logging.getLogger("ray").setLevel(logging.ERROR)
    errors: list[Exception] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what matters is raised, too
        while len(errors) < _ATTEMPTS:
            try:
                # what workers print is not for this terminal
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="vtag")
                return
            except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
                errors.append(error)
                if _NOT_STARTED not in str(error):
                    break
    raise ClusterError(
        f"the Ray cluster at {printable(address)} refuses: {_reason(errors[-1])} "
        "(if it was started with a token, set RAY_AUTH_MODE=token)"
    ) from errors[-1]


def _find_running(ray: Any) -> str:
    """The address of the cluster that RAY_ADDRESS names, or of the one on this machine. Raises ClusterError."""
    try:
        # Ray has no public function for it (2.60)
        return str(ray._private.services.get_ray_address_from_environment("auto", None))
    except ConnectionError as error:
        raise ClusterError(
            "there is no Ray cluster here: `ray start --head` starts one, or name it with --cluster ray://HOST:10001"
        ) from error


def _check_port(address: str) -> None:
    """Raise ClusterError if nothing answers at an address."""
    try:
        socket.create_connection(split_address(address), _CONNECT_S).close()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ClusterError(
            f"there is no Ray cluster at {printable(address)} ({printable(reason)}): `ray status` there tells "
            "whether one runs; the port is 10001 for ray://, else 6379"
        ) from error


@contextmanager
def _connection_errors() -> Iterator[None]:
    """Turn whatever Ray raises without a connection into a ClusterError: it has no class for that."""
    try:
        yield
    except (ActorError, ClusterError):
        raise
    except Exception as error:
        text = printable(" ".join(str(error).split())[:200])
        raise ClusterError(
            f"the connection to the Ray cluster is lost ({text}): what is finished is kept, "
            "and the same command goes on"
        ) from error


def _reason(error: Exception) -> str:
    """Why a call failed, in one line."""
    cause = getattr(error, "cause", None) or error  # what the actor's method raised
    text = _ANSI.sub("", str(cause))
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(cause).__name__]
    is_traceback = any(mark in text for mark in _TRACEBACKS)
    return printable(lines[-1 if is_traceback else 0].removesuffix("."))[:200]


@contextmanager
def _silent_raylets(ray: Any) -> Iterator[None]:
    """Within, Ray does not print the log of a node that died. It goes to stdout, where results belong.

    Ray has no switch for it (2.60); where this private function is gone, the log is printed.
    """
    module, name = ray._private.worker, "print_to_stdstream"
    print_log = getattr(module, name, None)
    if print_log is not None:
        setattr(module, name, lambda *_, **__: None)
    try:
        yield
    finally:
        if print_log is not None:
            setattr(module, name, print_log)
