"""Attention within windows, for inference: one tensor of queries, keys and values, and one of biases and masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

_SCORES_BYTES = (
    5 << 19
)  # 2.5 MB of scores at a time stay in a core's second-level cache and its share of the third
_MIN_SUM, _MAX_SUM = 2.0**-60, 2.0**60  # between these, sums of powers of two lose nothing to float32's range


def fused_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """Attention with torch's fused kernel: [windows, tokens, 3, heads, d] -> [windows, tokens, heads, d]."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    return F.scaled_dot_product_attention(q, k, v, bias[None]).transpose(1, 2)


def exp2_attention(qkv: Tensor, bias: Tensor) -> Tensor:
    """As `fused_attention`, for scores to base 2. Computes as many windows at a time as fit the cache."""
    windows, tokens, _, heads, d = qkv.shape
    q, k, v = qkv.permute(2, 0, 3, 1, 4).contiguous()
    k = k.transpose(2, 3)
    out = qkv.new_empty((windows, tokens, heads, d))
    max_pairs = max(1, _SCORES_BYTES // (tokens * tokens * qkv.element_size()))  # pairs of window and head
    head_step = min(heads, max_pairs)
    window_step = max(1, max_pairs // heads)
    for window in range(0, windows, window_step):
        for head in range(0, heads, head_step):
            part = slice(window, window + window_step), slice(head, head + head_step)
            _attend_part(q[part], k[part], v[part], bias[part[1]], out[part[0], :, part[1]])
    return out


def _attend_part(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, out: Tensor) -> None:
    """Attention of [windows, heads, tokens, d] into `out` [windows, tokens, heads, d].

    The softmax does not subtract the maximum of each row, and its division comes last, on a smaller tensor. That
    halves the time. If a sum leaves the range of floats, the usual softmax is computed instead.
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
    if not (low > _MIN_SUM and high < _MAX_SUM):
        scores = torch.baddbmm(bias.repeat(shape[0], 1, 1), q, k).float().mul_(math.log(2))
        scores, total = scores.softmax(-1).to(q.dtype), torch.ones_like(total)
    mixed = torch.bmm(scores, v)
    torch.div(mixed.view(shape).transpose(1, 2), total.view(*shape[:-1], 1).transpose(1, 2), out=out)
