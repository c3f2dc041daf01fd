"""What the stages share: the plan, and the states that they leave in the work folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vtag.trainer.recipes.starter.fusion import Opinions
from vtag.trainer.recipes.starter.imitate import Imitator
from vtag.trainer.recipes.starter.optim import Clock, Trainee, save_atomically
from vtag.trainer.recipes.starter.student import Student, student_sizes
from vtag.trainer.recipes.starter.views import ViewSet, read_set

NAMED_FILE, IMITATED_FILE, LOOKED_FILE = (
    "named.pt",
    "imitate.pt",
    "looked.pt",
)  # what the parts of stage 1 leave
SHARES = {NAMED_FILE: 0.3, LOOKED_FILE: 0.7}  # of their weights in what is released
OPINIONS_FILE = "opinions.pt"
SETS = ("whole", "parts")  # of views; those that are there are used


@dataclass(frozen=True)
class Plan:
    """Where the data lies, where states go, and how long each stage may train."""

    shared: Path
    work: Path
    device: torch.device
    out: Path = Path("assets/starter")
    pose: Path | None = None  # the unpacked networks of the teacher of motion
    begin: Path | None = None  # an earlier starter, whose backbone is taught on
    seed: int = 0
    name_s: float = 5280.0
    imitate_s: float = 3600.0
    imitate_batch: int = 192
    imitate_lr: float = 2e-3
    look_s: float = 4200.0
    look_lr: float = 1.2e-3
    tune_s: float = 5400.0
    tune_lr: float = 7e-4
    tune_scale: int = 1  # batches of stage 2: this many times 36 clips and VIEWS_A_STEP views
    ema: float = 0.99
    tuned: bool = False  # whether stage `tune` made what is released, or `head`


def view_sets(plan: Plan) -> list[ViewSet]:
    """The sets of views that stage `views` left."""
    return [read_set(plan.work / "views" / name) for name in SETS if (plan.work / "views" / name).exists()]


def last_part(plan: Plan) -> Path:
    """The state of the last part of stage 1 that was run, of those that name no clip."""
    looked = plan.work / LOOKED_FILE
    return looked if looked.exists() else plan.work / IMITATED_FILE


def read_opinions(plan: Plan) -> Opinions:
    """What stage `teach` left."""
    opinion: Opinions = torch.load(plan.work / OPINIONS_FILE, weights_only=False)
    return opinion


def load_student(path: Path, classes: int) -> Student:
    """The student of a stage's state, in float32."""
    weights = state_weights(path)
    heads = (weights[f"{name}.bias"].numel() for name in ("to_label", "to_action"))
    model = Imitator(Student(student_sizes(classes)), *heads)
    model.load_state_dict(weights)
    return model.student.eval()


def state_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a stage's state, their running mean where there is one, in float32."""
    state = torch.load(path, weights_only=False, map_location="cpu")["trainee"]
    weights: dict[str, Tensor] = state["ema"] or state["master"]
    return weights


def mean_weights(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of networks that went on from one another.

    It sees unseen pictures better than they do (Wortsman et al., 2022).
    """
    return {name: torch.stack([state[name].float() for state in states]).mean(0) for name in states[0]}


def save(path: Path, trainee: Trainee, clock: Clock, count: int) -> None:
    """Keep all that a later run needs to go on."""
    save_atomically({"trainee": trainee.state(), "spent_s": clock.spent_s, "count": count}, path)


def resume(path: Path, trainee: Trainee, clock: Clock) -> int:
    """Go on from what `save` kept; returns its count."""
    state = torch.load(path, weights_only=False)
    trainee.load(state["trainee"])
    clock.spent_s = state["spent_s"]
    return int(state["count"])
