"""A linear head on frozen features: regularised multinomial logistic regression, chosen over held-out sources."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Floats = NDArray[np.float32]

DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)  # of the squared weights, on features of unit variance
_STEPS = 100  # of LBFGS; it stops by itself before
_BACKGROUND_SHARE = 0.5  # of all weight in the loss: most of what a scan sees shows none of the labels


class FittedHead(NamedTuple):
    """A head: `weight` [K, D], `bias` [K]; and what heads that had not seen a sample's source say of it."""

    weight: Floats
    bias: Floats
    held_out_scores: NDArray[np.float64]  # [N, K] probabilities
    decay: float


def fit_head(
    features: Floats,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    classes: int,
    *,
    background: int | None = None,
    emphasis: Floats | None = None,
) -> FittedHead:
    """Fit a head on `features` [N, D] with `labels` [N] of `classes` classes; `fold` [N] holds sources together.

    The decay is the one under which heads trained without a fold explain that fold best. `background` is the class
    that weighs as much as all others together. `emphasis` [N] says how much more a sample counts than others of its
    class.
    """
    each = np.ones(len(labels), np.float32) if emphasis is None else emphasis
    weights = _weights(labels, classes, background, each)
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for decay in DECAYS:
        held_out_scores = np.full((len(labels), classes), 1 / classes)
        for k in np.unique(fold):
            rest = fold != k
            if len(np.unique(labels[rest])) < 2:
                continue
            weight, bias = _solve(features[rest], labels[rest], weights[rest], classes, decay)
            held_out_scores[~rest] = _softmax(features[~rest] @ weight.T + bias)
        loss = float(
            -(weights * np.log(held_out_scores[np.arange(len(labels)), labels] + 1e-9)).sum() / weights.sum()
        )
        if best is None or loss < best[0]:
            best = (loss, decay, held_out_scores)
    assert best is not None
    weight, bias = _solve(features, labels, weights, classes, best[1])
    return FittedHead(weight, bias, best[2], best[1])


def _weights(labels: NDArray[np.int64], classes: int, background: int | None, emphasis: Floats) -> Floats:
    """Of each sample in the loss: every action counts the same, however many samples it has."""
    counts = np.bincount(labels, weights=emphasis, minlength=classes)
    shares = np.zeros(classes)
    shares[counts > 0] = 1.0
    if background is not None and counts[background]:
        shares[background] = 0.0
        shares[background] = max(shares.sum(), 1.0) * _BACKGROUND_SHARE / (1 - _BACKGROUND_SHARE)
    shares /= shares.sum()
    return (shares / np.maximum(counts, 1e-9))[labels].astype(np.float32) * emphasis


def _solve(
    features: Floats, labels: NDArray[np.int64], weights: Floats, classes: int, decay: float
) -> tuple[Floats, Floats]:
    mean, std = features.mean(0), features.std(0) + 1e-4
    x = torch.from_numpy((features - mean) / std)
    y, share = torch.from_numpy(labels), torch.from_numpy(weights / weights.sum())
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = (F.cross_entropy(x @ weight.T + bias, y, reduction="none") * share).sum()
        loss = loss + decay * weight.pow(2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    scaled = (weight.detach().numpy() / std).astype(np.float32)
    return scaled, (bias.detach().numpy() - scaled @ mean).astype(np.float32)


def _softmax(logits: Floats) -> NDArray[np.float64]:
    shifted = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
