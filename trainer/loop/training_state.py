"""A training's state in one file, which is whole or not there: weights, moments of the optimiser, history."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vtag.engine.checkpoints.safe_open import said_of
from vtag.engine.errors import ModelError
from vtag.engine.system.atomic_write import write_atomically
from vtag.trainer.loop.state_paths import STATE_FILE


@dataclass(frozen=True)
class EpochMetrics:
    """One line of the history; what was not measured is None."""

    epoch: int  # from 1
    learning_rate: float  # of the head, at the epoch's last step
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None


@dataclass
class TrainingProgress:
    """Where a training stands: the next step to do, and what the epoch that it is in summed up so far."""

    epoch: int = 0  # from 0
    step: int = 0
    loss: float = 0.0  # sum over clips
    right: float = 0.0
    clips: float = 0.0
    best_epoch: int = 0  # from 1; 0: none yet
    stale: int = 0  # epochs since the best
    over: bool = False  # nothing is left to do
    history: list[EpochMetrics] = field(default_factory=list)


def save_state(
    folder: Path, progress: TrainingProgress, tensors: Mapping[str, Tensor], *, fingerprint: str
) -> None:
    """Write the state; a kill or a full disk leaves the one before. Raises ModelError."""
    told = json.dumps({"fingerprint": fingerprint, "progress": asdict(progress)})
    with said_of(folder):
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(folder / STATE_FILE, save(arrays, {"told": told}))


def load_state(folder: Path, *, fingerprint: str) -> tuple[TrainingProgress, dict[str, Tensor]] | None:
    """The state in `folder`, or None where there is none. Raises ModelError where it is of another training."""
    file = folder / STATE_FILE
    if not file.exists():
        return None
    with said_of(file):
        try:
            with safe_open(file, "pt") as opened:
                told = json.loads((opened.metadata() or {})["told"])
                tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            progress = _progress(told["progress"])
            known = told["fingerprint"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError("no state of a training, or a damaged one: delete it to begin anew") from error
        if known != fingerprint:
            raise ModelError("it is of other clips or other settings: delete it, or resume with the same")
    return progress, tensors


def is_finished(folder: Path) -> bool:
    """Whether the state in `folder` is of a training that came to its end; False for one that cannot be read."""
    try:
        with safe_open(folder / STATE_FILE, "pt") as opened:
            return bool(json.loads((opened.metadata() or {})["told"])["progress"].get("over"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return False


def _progress(told: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(**{**told, "history": [EpochMetrics(**row) for row in told["history"]]})


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """What the optimiser remembers of every parameter, by `KEY NAME`."""
    return {
        f"{key} {names[parameter]}": value
        for parameter, kept in optimizer.state.items()
        for key, value in kept.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Give the optimiser back what it remembered."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        what, _, name = key.partition(" ")
        if name in by_name and what in ("step", "exp_avg", "exp_avg_sq"):
            place = "cpu" if what == "step" else by_name[name].device
            optimizer.state[by_name[name]][what] = value.to(place)
