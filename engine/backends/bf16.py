"""Whether bfloat16 is faster than float32 on this CPU.

It is measured once and stored. A busy machine could give another answer later, and scores would differ.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch

from vtag.engine.backends.measurements import read_bf16_gain, save_bf16_gain

_MIN_GAIN = 1.2  # bf16's products must be faster by this factor to make up for its rounding
_ROUNDS = 16


def processor_has_bf16() -> bool:
    """Whether the CPU has units that multiply matrices of bfloat16: AVX512-BF16, AMX, or ARM's.

    oneDNN also supports bfloat16 with plain AVX-512, but converts it to float32 there.
    """
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16", "sve_bf16"))


def is_bf16_faster() -> bool:
    """Whether this CPU has bf16 units, and matrix products were clearly faster on them when measured."""
    if not processor_has_bf16():
        return False
    gain = read_bf16_gain(torch.__version__)
    if gain is None:
        gain = _measure_gain()
        save_bf16_gain(torch.__version__, gain)
    return gain > _MIN_GAIN


def _measure_gain() -> float:
    """How many times as fast bf16 is: the best of 16 rounds of each, in turn. Takes about 50 ms."""
    products = []
    for dtype in (torch.float32, torch.bfloat16):
        a, b = torch.ones(512, 384, dtype=dtype), torch.ones(384, 384, dtype=dtype)
        products.append(partial(torch.mm, a, b))
        products[-1]()
    rounds = [[_seconds(product) for product in products] for _ in range(_ROUNDS)]
    fp32_s, bf16_s = map(min, zip(*rounds, strict=True))
    return float(fp32_s / max(bf16_s, 1e-9))


def _seconds(product: partial[torch.Tensor]) -> float:
    start = time.perf_counter()
    product()
    return time.perf_counter() - start
