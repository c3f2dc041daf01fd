"""Attention within windows, for inference: queries, keys and values side by side, and one tensor of bias and mask."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_SCORES_BYTES = 5 << 19  # in work at one time: 2.5 MB stay in a second-level cache and its share
_SMALLEST, _LARGEST = 2.0**-60, 2.0**60  # sums of powers of two that lost nothing to float32's range


def fused(qkv: Tensor, bias: Tensor) -> Tensor:
    """[windows, tokens, 3, heads, d] -> [windows, tokens, heads, d]"""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v, bias[None]).transpose(1, 2)


def by_hand(qkv: Tensor, bias: Tensor) -> Tensor:
    """As `fused`, for scores to base 2; so many windows at once as the cache holds."""
    windows, tokens, _, heads, d = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous()
    k = k.transpose(2, 3)
    out = qkv.new_empty((windows, tokens, heads, d))
    most = max(1, _SCORES_BYTES // (tokens * tokens * qkv.element_size()))  # pairs of window and head
    some_heads = min(heads, most)
    step = max(1, most // heads)
    for at in range(0, windows, step):
        for head in range(0, heads, some_heads):
            part = slice(at, at + step), slice(head, head + some_heads)
            _some_by_hand(q[part], k[part], v[part], bias[part[1]], out[part[0], :, part[1]])
    return out


def _some_by_hand(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, out: Tensor) -> None:
    """Attention of [windows, heads, tokens, d] into `out` [windows, tokens, heads, d].

    The softmax is taken without subtracting each row's maximum and divided out at the end, where there is less of it:
    half the time. Should that leave the range of floats, it is done again in the usual way.
    """
    shape = q.shape
    pairs, tokens = shape[0] * shape[1], shape[2]
    q, k, v = (x.reshape(pairs, *x.shape[2:]) for x in (q, k, v))
    scores = bias.expand(shape[0], *bias.shape).reshape(pairs, tokens, tokens)
    if scores.data_ptr() == bias.data_ptr():
        scores = scores.clone()
    scores.baddbmm_(q, k).exp2_()
    total = scores.sum(-1, keepdim=True)
    low, high = torch.aminmax(total)
    if not (low > _SMALLEST and high < _LARGEST):
        scores = torch.baddbmm(bias.repeat(shape[0], 1, 1), q, k).float().mul_(math.log(2))
        scores, total = scores.softmax(-1).to(q.dtype), torch.ones_like(total)
    mixed = torch.bmm(scores, v)
    torch.div(mixed.view(shape).transpose(1, 2), total.view(*shape[:-1], 1).transpose(1, 2), out=out)
