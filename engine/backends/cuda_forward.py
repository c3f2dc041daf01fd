"""Other ways to run the fast network on a CUDA card: replayed as CUDA graphs, or compiled.

`VTAG_FORWARD` selects one: eager (the default), graphs, compile, or compile+graphs. The default stays eager until
`tests/benchmarks/card.py` measured the others on a card.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from vtag.engine.errors import ModelError
from vtag.engine.text import printable

FORWARD_VARIABLE = "VTAG_FORWARD"
FORWARDS = ("eager", "graphs", "compile", "compile+graphs")
_MAX_GRAPHS = 16  # each holds the activations of its batch; further sizes of clips run without
_WARM_UPS = 3  # runs before a capture, in which libraries take their workspaces

log = logging.getLogger(__name__)

Forward = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Recording:
    """A forward pass that `replay` repeats on what is in `clips`, into `features`."""

    clips: Tensor
    features: Tensor
    replay: Callable[[], None]


Record = Callable[[Forward, Tensor], Recording]


def requested_forward() -> str:
    """What `VTAG_FORWARD` selects. Raises ModelError for an unknown value."""
    name = os.environ.get(FORWARD_VARIABLE) or "eager"
    if name not in FORWARDS:
        raise ModelError(
            f"{FORWARD_VARIABLE} is {printable(name)!r}: set it to one of {', '.join(FORWARDS)}, or unset it"
        )
    return name


def cuda_forward(forward: Forward, name: str) -> Forward:
    """`forward` in the way `name`. If that fails on this machine, a line is logged and it runs eagerly."""
    if name.startswith("compile"):
        forward = FallbackForward(torch.compile(forward, dynamic=False), forward, "compiled")
    if name.endswith("graphs"):
        forward = GraphForward(forward)
    return forward if name == "eager" else partial(split_batches, forward)


def split_batches(forward: Forward, clips: Tensor) -> Tensor:
    """`forward` of parts of `clips` whose sizes are powers of two, the largest first.

    A graph and a compilation are for one size. So five of them serve all batches of up to 16 clips, and no clip is
    computed that is thrown away.
    """
    count = len(clips)
    sizes = [1 << bit for bit in reversed(range(count.bit_length())) if count >> bit & 1]
    parts = [forward(part) for part in clips.split(sizes)]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


class FallbackForward:
    """Runs `first`; from its first error on `second`. Errors about memory are passed on."""

    def __init__(self, first: Forward, second: Forward, name: str) -> None:
        self._run, self._second, self._name = first, second, name

    def __call__(self, clips: Tensor) -> Tensor:
        if self._run is self._second:
            return self._second(clips)
        try:
            return self._run(clips)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # a compiler fails in many ways
            log.warning("the network runs eagerly, not %s: %s", self._name, _first_line(error))
            self._run = self._second
            return self._second(clips)


class GraphForward:
    """Replays `forward` from a CUDA graph for each shape of clips: one launch instead of hundreds.

    A shape whose recording fails runs without a graph, and so do all shapes after the first sixteen.
    """

    def __init__(self, forward: Forward, record: Record | None = None) -> None:
        """`record` makes a recording; by default a CUDA graph."""
        self._forward = forward
        self._record = record or CudaGraphRecorder()
        self._recordings: dict[tuple[object, ...], Recording | None] = {}

    def __call__(self, clips: Tensor) -> Tensor:
        key = (clips.dtype, *clips.shape)
        if key not in self._recordings and len(self._recordings) < _MAX_GRAPHS:
            self._recordings[key] = self._try_recording(clips)
        recording = self._recordings.get(key)
        if recording is None:
            return self._forward(clips)
        recording.clips.copy_(clips)
        recording.replay()
        return recording.features.clone()  # the next replay overwrites them

    def _try_recording(self, clips: Tensor) -> Recording | None:
        try:
            return self._record(self._forward, clips)
        except RuntimeError as error:  # too little memory, too
            log.warning("%d clips run without a CUDA graph: %s", len(clips), _first_line(error))
            return None


class CudaGraphRecorder:
    """Records a forward pass as a CUDA graph. All graphs share one pool of memory, since they never run together."""

    def __init__(self) -> None:
        self._pool: Any = None  # torch's handle of it

    def __call__(self, forward: Forward, example: Tensor) -> Recording:
        with torch.cuda.device(example.device):
            return self._record(forward, example.clone())

    def _record(self, forward: Forward, clips: Tensor) -> Recording:
        side_stream = torch.cuda.Stream()
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UPS):
                forward(clips)
        torch.cuda.current_stream().wait_stream(side_stream)
        graph = torch.cuda.CUDAGraph()
        # other threads may use the card meanwhile
        with torch.cuda.graph(graph, self._pool, capture_error_mode="thread_local"):
            features = forward(clips)
        self._pool = self._pool or graph.pool()
        return Recording(clips, features, graph.replay)


def _first_line(error: Exception) -> str:
    text = str(error).strip() or type(error).__name__
    return printable(text.splitlines()[0])[:300]
