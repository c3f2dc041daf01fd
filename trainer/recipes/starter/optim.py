"""Steps in bf16 with float32 master weights, a schedule by the clock, and states that survive a break."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vtag.engine.system.atomic_write import atomic_path

WEIGHT_DECAY = 0.05
WARM_UP = 0.04  # of the time
LONGEST_STEP_S = 60.0  # what takes longer was a pause: a process that was stopped for a while


class Trainee:
    """A network that computes in bf16 and learns in float32: Muon for the matrices of its blocks, AdamW else.

    `ema` is the running mean of the master weights (None until `ema_decay` is given).
    """

    def __init__(self, model: nn.Module, *, muon: bool = True, ema_decay: float | None = None) -> None:
        self.master = {name: p.detach().float().clone() for name, p in model.named_parameters()}
        self.model = model.to(torch.bfloat16)
        matrices = [n for n, p in self.master.items() if muon and p.ndim == 2 and _is_block_matrix(n)]
        decayed = [n for n, p in self.master.items() if p.ndim > 1 and "bias_table" not in n]
        rest = [n for n in self.master if n not in matrices]
        for p in self.master.values():
            p.grad = torch.zeros_like(p)
        self.optimizers: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [
                    {"params": [self.master[n] for n in rest if n in decayed], "weight_decay": WEIGHT_DECAY},
                    {"params": [self.master[n] for n in rest if n not in decayed], "weight_decay": 0.0},
                ],
                betas=(0.9, 0.98),
            )
        ]
        if matrices:
            self.optimizers.append(
                torch.optim.Muon(
                    [self.master[n] for n in matrices],
                    weight_decay=WEIGHT_DECAY,
                    adjust_lr_fn="match_rms_adamw",
                )
            )
        self.ema_decay = ema_decay
        self.ema = {n: p.clone() for n, p in self.master.items()} if ema_decay else None

    def step(self, loss: Tensor, lr: float) -> None:
        """One step of all weights down `loss`, the gradient's norm cut at 5."""
        loss.backward()
        named = dict(self.model.named_parameters())
        for name, p in self.master.items():
            grad = named[name].grad
            p.grad = torch.zeros_like(p) if grad is None else grad.float()
        nn.utils.clip_grad_norm_(list(self.master.values()), 5.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        self.model.zero_grad(set_to_none=True)
        self._copy_to_model(self.master)
        if self.ema is not None and self.ema_decay is not None:
            for name, p in self.master.items():
                self.ema[name].lerp_(p, 1 - self.ema_decay)

    def use(self, which: str) -> None:
        """Put the `ema` or the `master` weights into the network (rounded to bf16)."""
        self._copy_to_model(self.ema if which == "ema" and self.ema is not None else self.master)

    def state(self) -> dict[str, Any]:
        """All that a later run needs to go on."""
        return {
            "master": self.master,
            "ema": self.ema,
            "optimizers": [o.state_dict() for o in self.optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from `state`."""
        for name, p in state["master"].items():
            self.master[name].data.copy_(p)
        if self.ema is not None and state["ema"] is not None:
            for name, p in state["ema"].items():
                self.ema[name].copy_(p)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._copy_to_model(self.master)

    def _copy_to_model(self, weights: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, p in self.model.named_parameters():
                p.copy_(weights[name])


def _is_block_matrix(name: str) -> bool:
    """Whether Muon may have it: the matrices inside the network, not its ends or bias tables."""
    return "stages." in name and name.endswith("weight") and "norm" not in name


@dataclass
class Clock:
    """How much of a stage's training time is over; only time spent training counts, over all runs."""

    total_s: float
    spent_s: float = 0.0
    _last: float = field(default_factory=time.monotonic)

    def tick(self) -> float:
        """The share of the time that is over, 0 to 1 or a little more."""
        now = time.monotonic()
        self.spent_s += min(now - self._last, LONGEST_STEP_S)
        self._last = now
        return self.spent_s / self.total_s

    def pause(self) -> None:
        """Start counting again from here: what went before (evaluation) is not training."""
        self._last = time.monotonic()


def learning_rate(peak: float, share: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth of `peak`."""
    if share < WARM_UP:
        return peak * max(share, 0.002) / WARM_UP
    rest = min((share - WARM_UP) / (1 - WARM_UP), 1.0)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * rest)))


def save_atomically(value: object, path: Path) -> None:
    """Write `value`; a killed run leaves the older file whole."""
    with atomic_path(path) as part:
        torch.save(value, part)
