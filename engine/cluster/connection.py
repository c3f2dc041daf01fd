"""Connects to a Ray cluster. The only module that imports ray."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from vtag.engine.errors import ClusterError
from vtag.engine.system.signals import delay_interrupts
from vtag.engine.text import printable


def require_ray() -> None:
    """Raise ClusterError if ray is not installed."""
    if find_spec("ray") is None:
        raise ClusterError("a cluster needs Ray, which is not installed here: pip install 'vtag[cluster]'")


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """The module `ray`, connected to the cluster at `address` (`auto`, `HOST:6379`, `ray://HOST:10001`).

    Raises ClusterError if ray is not installed, or if no cluster answers.
    """
    require_ray()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
    with delay_interrupts():
        import ray
        import ray.util.scheduling_strategies

    try:
        # what workers print is not for this terminal
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, namespace="vtag")
    except (ConnectionError, RuntimeError, ValueError, TimeoutError, AssertionError) as error:
        if address == "auto":
            raise ClusterError(
                "there is no Ray cluster here: `ray start --head` starts one, or name it with --cluster ray://HOST:10001"
            ) from error
        text = " ".join(str(error).split())[:200]
        raise ClusterError(f"there is no Ray cluster at {printable(address)}: {printable(text)}") from error
    try:
        with _silent_raylets(ray):
            yield ray
    finally:
        ray.shutdown()


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
