"""Which clips an epoch looks at, in which order: drawn from the seed and the epoch's number alone."""

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

    Without `shares` every item comes once; with them the classes do in these shares of `length` draws (by default as
    many as there are items), and an item comes again only when all of its class did. The last step is filled up from
    the beginning.
    """
    rng = np.random.default_rng((seed, epoch, 0))
    order = (
        rng.permutation(len(labels))
        if shares is None
        else _drawn(np.asarray(labels), shares, length or len(labels), rng)
    )
    steps = -(-len(order) // batch_size)
    return np.resize(order, (steps, batch_size)).astype(np.int64)


def items_of_rank(items: NDArray[np.int64], rank: int, world: int) -> NDArray[np.int64]:
    """The part of a step's items that one of `world` processes looks at."""
    return items[rank::world]


def _drawn(
    labels: NDArray[np.int64], shares: Sequence[float], length: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    wanted = np.array(shares, np.float64) * np.array([(labels == k).any() for k in range(len(shares))])
    counts = np.floor(np.cumsum(wanted / wanted.sum()) * length + 1e-9).astype(int)
    parts = [
        _again(np.flatnonzero(labels == k), int(count), rng)
        for k, count in enumerate(np.diff(counts, prepend=0))
    ]
    return np.asarray(rng.permutation(np.concatenate(parts)))


def _again(items: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of `items`, each once before any comes twice."""
    if not count:
        return items[:0]
    rounds = -(-count // len(items))
    return np.concatenate([rng.permutation(items) for _ in range(rounds)])[:count]
