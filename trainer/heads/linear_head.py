"""A linear head on frozen features: multinomial logistic regression, with weight decay by cross-validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

Floats = NDArray[np.float32]

DECAYS = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3)  # of the squared weights, on features of unit variance
_MAX_STEPS = 100  # of LBFGS, which converges before
_BACKGROUND_SHARE = 0.5  # of all weight in the loss: most windows of a scan show none of the labels


class FittedHead(NamedTuple):
    """A head with `weight` [K, D] and `bias` [K], and scores from heads that were trained without a sample's fold."""

    weight: Floats
    bias: Floats
    held_out_scores: NDArray[np.float64]  # [N, K] probabilities
    decay: float

    def scores(self, features: Floats) -> NDArray[np.float64]:
        """Probabilities [N, K] of features [N, D]."""
        return _softmax(features @ self.weight.T + self.bias)


def fit_head(
    features: Floats,
    labels: NDArray[np.int64],
    fold: NDArray[np.int64],
    classes: int,
    *,
    background: int | None = None,
    emphasis: Floats | None = None,
    decays: Sequence[float] = DECAYS,
) -> FittedHead:
    """Fit a head; its decay is the one of `decays` with the lowest cross-validation loss.

    Args:
        features: [N, D].
        labels: class of each sample [N].
        fold: cross-validation fold of each sample [N]; all samples of a source are in one fold.
        classes: number of classes K.
        background: the class that weighs as much as all others together.
        emphasis: weight of each sample [N] among those of its class.
    """
    sample_weights = np.ones(len(labels), np.float32) if emphasis is None else emphasis
    weights = _weights(labels, classes, background, sample_weights)
    best: tuple[float, float, NDArray[np.float64]] | None = None
    for decay in decays:
        held_out_scores = np.full((len(labels), classes), 1 / classes)
        for k in np.unique(fold):
            is_training = fold != k
            if len(np.unique(labels[is_training])) < 2:
                continue
            weight, bias = _solve(
                features[is_training], labels[is_training], weights[is_training], classes, decay
            )
            held_out_scores[~is_training] = _softmax(features[~is_training] @ weight.T + bias)
        loss = float(
            -(weights * np.log(held_out_scores[np.arange(len(labels)), labels] + 1e-9)).sum() / weights.sum()
        )
        if best is None or loss < best[0]:
            best = (loss, decay, held_out_scores)
    assert best is not None
    weight, bias = _solve(features, labels, weights, classes, best[1])
    return FittedHead(weight, bias, best[2], best[1])


def _weights(labels: NDArray[np.int64], classes: int, background: int | None, emphasis: Floats) -> Floats:
    """The weight of each sample [N] in the loss: every class counts the same, however many samples it has."""
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
    """`weight` [K, D] and `bias` [K] that minimise the weighted loss, for features as they are (not standardised)."""
    mean, std = features.mean(0), features.std(0) + 1e-4
    x = torch.from_numpy((features - mean) / std)
    y, share = torch.from_numpy(labels), torch.from_numpy(weights / weights.sum())
    weight = torch.zeros(classes, x.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=_MAX_STEPS, line_search_fn="strong_wolfe")

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
