"""The clips of an epoch and their order; they depend only on the seed and the number of the epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def epoch_order(
    labels: Sequence[int],
    *,
    seed: int,
    epoch: int,
    batch_size: int,
    shares: Sequence[float] | None = None,
    length: int | None = None,
) -> NDArray[np.int64]:
    """The items of one epoch, int64 [steps, batch_size].

    Without `shares` every item occurs once. With them, class k makes up `shares[k]` of `length` draws (default: the
    number of items), and an item repeats only after all other items of its class. The last step is filled up with
    items from the beginning.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    order = (
        rng.permutation(len(labels))
        if shares is None
        else _draw_by_class(np.asarray(labels), shares, length or len(labels), rng)
    )
    steps = -(-len(order) // batch_size)
    return np.resize(order, (steps, batch_size)).astype(np.int64)


def items_of_rank(items: NDArray[np.int64], rank: int, world_size: int) -> NDArray[np.int64]:
    """The part of a step's items that the process `rank` of `world_size` trains on."""
    return items[rank::world_size]


def _draw_by_class(
    labels: NDArray[np.int64], shares: Sequence[float], length: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    class_shares = np.array(shares, np.float64) * np.array([(labels == k).any() for k in range(len(shares))])
    counts = np.floor(np.cumsum(class_shares / class_shares.sum()) * length + 1e-9).astype(int)
    parts = [
        _repeat(np.flatnonzero(labels == k), int(count), rng)
        for k, count in enumerate(np.diff(counts, prepend=0))
    ]
    return np.asarray(rng.permutation(np.concatenate(parts)))


def _repeat(items: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of `items` in random order; none repeats before all others occurred as often."""
    if not count:
        return items[:0]
    rounds = -(-count // len(items))
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[:count]
