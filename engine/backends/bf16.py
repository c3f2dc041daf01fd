"""Whether bfloat16 pays on this processor: measured once and kept, so that a scan computes as the one before it.

A machine that is busy with something else would give one answer now and another one later, and scores that differ.
"""

from __future__ import annotations

import hashlib
import os
import platform
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vtag.engine.backends.protocol import usable_processors
from vtag.engine.paths import home, make_private_dir

_PAYS = 1.2  # so much faster have bf16's products to be than fp32's, before its rounding is accepted
_ROUNDS = 16


def processor_has_bf16() -> bool:
    """Whether the processor multiplies matrices of bfloat16 itself: AVX512-BF16, AMX, or ARM's units.

    Not what oneDNN calls supported: that is true for any AVX-512, where it computes in fp32 with conversions.
    """
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(told.get(unit) for unit in ("avx512_bf16", "amx_bf16", "bf16", "arm_bf16", "sve_bf16"))


def pays() -> bool:
    """Whether this processor has bf16 units, and products of matrices were seen to be faster on them."""
    if not processor_has_bf16():
        return False
    file = _file()
    try:
        gain = float(file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        gain = _measured_gain()
        with suppress(OSError):  # where it cannot be kept it is measured again
            make_private_dir(file.parent)
            with open(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as kept:
                kept.write(f"{gain:.2f}")
    return gain > _PAYS


def _measured_gain() -> float:
    """How much faster bf16 is: by turns, the best of each, 50 ms."""
    works = []
    for dtype in (torch.float32, torch.bfloat16):
        one, other = torch.ones(512, 384, dtype=dtype), torch.ones(384, 384, dtype=dtype)
        works.append(partial(torch.mm, one, other))
        works[-1]()
    rounds = [[_seconds(work) for work in works] for _ in range(_ROUNDS)]
    fp32_s, bf16_s = map(min, zip(*rounds, strict=True))
    return float(fp32_s / max(bf16_s, 1e-9))


def _seconds(work: partial[torch.Tensor]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _file() -> Path:
    """Where the gain is kept for this computer and this torch."""
    machine = f"{platform.node()} {usable_processors()} torch {torch.__version__}"
    return home() / "cache" / f"bf16-{hashlib.blake2b(machine.encode(), digest_size=6).hexdigest()}"
