"""Several processes that train one network: who of how many this is, and sums over all of them.

Data parallel, as torch's DistributedDataParallel: every process holds the network and looks at its part of a batch,
and the gradients are summed before each step. The sum is one call over one buffer at the end of the backward pass:
also a process none of whose clips could be read takes part in it, which DistributedDataParallel does not allow.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch import distributed as dist

from vtag.engine.errors import VtagError

_PATIENCE = datetime.timedelta(minutes=30)  # for the slowest process of a step, a validation by one included


class ProcessLost(VtagError):
    """Another process of this training is gone; says how to go on."""


class DistributedContext(NamedTuple):
    """Which of how many processes this is; `local` is its number on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def all_reduce_sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each of `values` summed over all processes."""
        if self.world_size == 1:
            return list(values)
        told = torch.tensor(values, dtype=torch.float64, device=device)
        with _process_lost_errors():
            dist.all_reduce(told)
        return [float(value) for value in told]

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Every gradient summed over all processes; one that a process lacks counts as zero there."""
        if self.world_size == 1:
            return
        learning = [p for p in parameters if p.requires_grad]
        flat = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in learning]
        )
        with _process_lost_errors():
            dist.all_reduce(flat)
        for parameter, summed in zip(learning, flat.split([p.numel() for p in learning]), strict=True):
            parameter.grad = summed.view_as(parameter)

    def require_same(self, what: str, digest: int, device: torch.device) -> None:
        """Raise VtagError unless all processes come with the same `digest` (below 2^31) of `what`."""
        if self.world_size == 1:
            return
        told = torch.tensor([digest, -digest], dtype=torch.int64, device=device)
        with _process_lost_errors():
            dist.all_reduce(told, dist.ReduceOp.MAX)
        if int(told[0]) != -int(told[1]):
            raise VtagError(
                f"the processes of this training see different {what}: give all machines the same"
            )

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the first one's values."""
        if self.world_size > 1:
            with _process_lost_errors():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)


@contextlib.contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """The processes that torchrun started this one with; alone where it did not. Raises VtagError."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistributedContext()
        return
    on_cards = device in ("auto", "cuda") and torch.cuda.is_available()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if on_cards:
        if local_rank >= torch.cuda.device_count():
            raise VtagError(
                f"there are {torch.cuda.device_count()} CUDA cards here, too few for process {local_rank}: "
                "use a smaller --nproc-per-node"
            )
        torch.cuda.set_device(local_rank)
    with _process_lost_errors():
        dist.init_process_group("nccl" if on_cards else "gloo", timeout=_PATIENCE)
    try:
        yield DistributedContext(dist.get_rank(), world_size, local_rank)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _process_lost_errors() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo and NCCL say in words of their own that a connection broke
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ProcessLost(
            "another process of this training is gone (its own output says why): start all again with --resume"
        ) from error
