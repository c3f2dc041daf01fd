"""Several processes that train one network: the rank of this process, and sums over all of them.

Data parallel, as torch's DistributedDataParallel: every process holds the network and trains on its part of a batch,
and the gradients are summed before each step. The sum is one call over one buffer at the end of the backward pass.
A process takes part in it even if none of its clips could be read, which DistributedDataParallel does not allow.
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

_TIMEOUT = datetime.timedelta(minutes=30)  # for the slowest process of a step, including a validation


class ProcessLost(VtagError):
    """Another process of this training is gone; the message says how to continue."""


class DistributedContext(NamedTuple):
    """The rank of this process among `world_size`; `local_rank` is its number on its machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    def all_reduce_sum(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Each of `values` summed over all processes."""
        if self.world_size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64, device=device)
        with _process_lost_errors():
            dist.all_reduce(sums)
        return [float(value) for value in sums]

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes; a missing gradient counts as zero."""
        if self.world_size == 1:
            return
        trainable = [p for p in parameters if p.requires_grad]
        flat = torch.cat(
            [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in trainable]
        )
        with _process_lost_errors():
            dist.all_reduce(flat)
        for parameter, gradient in zip(trainable, flat.split([p.numel() for p in trainable]), strict=True):
            parameter.grad = gradient.view_as(parameter)

    def require_same(self, description: str, digest: int, device: torch.device) -> None:
        """Raise VtagError if `digest` (below 2^31) is not the same in all processes.

        `description` says in the message what differs.
        """
        if self.world_size == 1:
            return
        extremes = torch.tensor([digest, -digest], dtype=torch.int64, device=device)
        with _process_lost_errors():
            dist.all_reduce(extremes, dist.ReduceOp.MAX)
        if int(extremes[0]) != -int(extremes[1]):
            raise VtagError(
                f"the processes of this training see different {description}: give all machines the same"
            )

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite `tensors` in every process with the values of the first process."""
        if self.world_size > 1:
            with _process_lost_errors():
                for tensor in tensors:
                    dist.broadcast(tensor, 0)


@contextlib.contextmanager
def init_distributed(device: str) -> Iterator[DistributedContext]:
    """Join the processes that torchrun started together with this one; without torchrun, this one trains alone.

    Raises VtagError if a machine has fewer CUDA devices than processes, or if another process is gone.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        yield DistributedContext()
        return
    uses_cuda = device in ("auto", "cuda") and torch.cuda.is_available()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    if uses_cuda:
        if local_rank >= torch.cuda.device_count():
            raise VtagError(
                f"there are {torch.cuda.device_count()} CUDA cards here, too few for process {local_rank}: "
                "use a smaller --nproc-per-node"
            )
        torch.cuda.set_device(local_rank)
    with _process_lost_errors():
        dist.init_process_group("nccl" if uses_cuda else "gloo", timeout=_TIMEOUT)
    try:
        yield DistributedContext(dist.get_rank(), world_size, local_rank)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _process_lost_errors() -> Iterator[None]:
    """Turn the errors of gloo and NCCL about broken connections into ProcessLost."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ProcessLost(
            "another process of this training is gone (its own output says why): start all again with --resume"
        ) from error
