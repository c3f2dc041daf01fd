"""The state of a training in one file that is written atomically: weights, optimiser moments, history."""

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

from vtag.engine.checkpoints.safe_open import prefix_errors
from vtag.engine.errors import ModelError
from vtag.engine.system.atomic_write import write_atomically
from vtag.trainer.loop.state_paths import STATE_FILE

_METADATA_KEY = "told"  # of the file; the JSON below it has the fingerprint and the progress
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # AdamW's state of a parameter


@dataclass(frozen=True)
class EpochMetrics:
    """One line of the history; None for what was not measured. The names are the columns of history.csv."""

    epoch: int  # from 1
    learning_rate: float  # of the head, at the epoch's last step
    loss: float
    accuracy: float
    val_loss: float | None = None
    val_accuracy: float | None = None


@dataclass
class TrainingProgress:
    """The next step of a training, and sums over the current epoch. The names are keys in the state file."""

    epoch: int = 0  # from 0
    step: int = 0  # the next one in this epoch
    loss: float = 0.0  # sum over clips
    right: float = 0.0  # clips with the right answer
    clips: float = 0.0  # that could be read
    best_epoch: int = 0  # from 1; 0: none yet
    stale: int = 0  # validated epochs since the best
    over: bool = False  # the training is finished
    history: list[EpochMetrics] = field(default_factory=list)


def save_state(
    folder: Path, progress: TrainingProgress, tensors: Mapping[str, Tensor], *, fingerprint: str
) -> None:
    """Write the state to `folder`; if that fails, the previous state stays. Raises ModelError."""
    metadata = json.dumps({"fingerprint": fingerprint, "progress": asdict(progress)})
    with prefix_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        write_atomically(folder / STATE_FILE, save(arrays, {_METADATA_KEY: metadata}))


def load_state(folder: Path, *, fingerprint: str) -> tuple[TrainingProgress, dict[str, Tensor]] | None:
    """The state in `folder`, None if there is none. Raises ModelError if it is damaged or of another training."""
    file = folder / STATE_FILE
    if not file.exists():
        return None
    with prefix_errors(file):
        try:
            with safe_open(file, "pt") as state:
                metadata = json.loads((state.metadata() or {})[_METADATA_KEY])
                tensors = {name: state.get_tensor(name) for name in state.keys()}  # noqa: SIM118
            progress = _parse_progress(metadata["progress"])
            saved_fingerprint = metadata["fingerprint"]
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ModelError("no state of a training, or a damaged one: delete it to begin anew") from error
        if saved_fingerprint != fingerprint:
            raise ModelError("it is of other clips or other settings: delete it, or resume with the same")
    return progress, tensors


def is_finished(folder: Path) -> bool:
    """Whether the state in `folder` is of a finished training; False if it cannot be read."""
    try:
        with safe_open(folder / STATE_FILE, "pt") as state:
            return bool(json.loads((state.metadata() or {})[_METADATA_KEY])["progress"].get("over"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError):
        return False


def _parse_progress(fields: dict[str, Any]) -> TrainingProgress:
    return TrainingProgress(**{**fields, "history": [EpochMetrics(**row) for row in fields["history"]]})


def optimizer_tensors(optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str]) -> dict[str, Tensor]:
    """The optimiser's state of every parameter, as `KEY NAME` -> tensor."""
    return {
        f"{key} {names[parameter]}": value
        for parameter, moments in optimizer.state.items()
        for key, value in moments.items()
    }


def restore_optimizer(
    optimizer: torch.optim.Optimizer, names: Mapping[Tensor, str], tensors: Mapping[str, Tensor]
) -> None:
    """Set the optimiser's state to what `optimizer_tensors` returned; other tensors are ignored."""
    by_name = {name: parameter for parameter, name in names.items()}
    for key, value in tensors.items():
        moment, _, name = key.partition(" ")
        if name in by_name and moment in _MOMENTS:
            device = "cpu" if moment == "step" else by_name[name].device
            optimizer.state[by_name[name]][moment] = value.to(device)
