"""Stage 1 of the recipe, in three parts: `name`, `imitate` and `look`; see `vtag.trainer.recipes.starter.imitate`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.trainer.recipes.starter.imitate import Imitator, Views, batches, imitate_step, normalise
from vtag.trainer.recipes.starter.looks import Looks
from vtag.trainer.recipes.starter.material import Footage, known_joints, open_footage, stage_one_views
from vtag.trainer.recipes.starter.optim import Clock, Trainee
from vtag.trainer.recipes.starter.probes import find_looks
from vtag.trainer.recipes.starter.states import (
    IMITATED_FILE,
    LOOKED_FILE,
    NAMED_FILE,
    Plan,
    mean_weights,
    read_opinions,
    resume,
    save,
    state_weights,
    view_sets,
)
from vtag.trainer.recipes.starter.student import CROP, Student, student_sizes
from vtag.trainer.recipes.starter.views import resize

log = logging.getLogger(__name__)

OpenViews = tuple[Views, Tensor, Tensor, list[str]]  # of `stage_one_views`
SAVE_EVERY_S = 120.0
LOG_EVERY = 20  # steps
WATCH_EVERY_S = 300.0
WATCHED = 768  # views that are never taught, of pictures and of clips each


def name(plan: Plan) -> None:
    """Stage `name`: see `vtag.trainer.recipes.starter.imitate`; clips are named as well.

    What is told the names of clips tells actions apart from few clips, and knows those that it was told by heart.
    """
    footage = open_footage(plan.work, seed=plan.seed)
    shown = open_views(plan, footage, clips_named=True)
    learn_views(plan, footage, shown, Part(plan.work / NAMED_FILE, plan.name_s, plan.imitate_lr))


def imitate(plan: Plan) -> None:
    """Stage `imitate`: goes on from what stage `name` made, if that was run, and names no clip."""
    footage = open_footage(plan.work, seed=plan.seed)
    named = plan.work / NAMED_FILE
    begin = (named,) if named.exists() else ()
    part = Part(plan.work / IMITATED_FILE, plan.imitate_s, plan.imitate_lr, begin)
    learn_views(plan, footage, open_views(plan, footage), part)


def look(plan: Plan) -> None:
    """Stage `look`: goes on from the mean of what `name` and `imitate` made; see the module `looks`."""
    footage = open_footage(plan.work, seed=plan.seed)
    looks = find_looks(footage, view_sets(plan), read_opinions(plan).both)
    states = plan.work / NAMED_FILE, plan.work / IMITATED_FILE
    part = Part(plan.work / LOOKED_FILE, plan.look_s, plan.look_lr, states)
    learn_views(plan, footage, open_views(plan, footage, looks=looks), part)


@dataclass(frozen=True)
class Part:
    """A part of stage 1: where its state is, how long it learns, and the states whose mean it begins from."""

    path: Path
    total_s: float
    peak_lr: float
    begin: tuple[Path, ...] = ()


def learn_views(plan: Plan, footage: Footage, views: OpenViews, part: Part) -> None:
    """Go on with a part of stage 1 until it has learnt for as long as it should."""
    shown, taught, watched, names = views
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(len(footage.labels) + 1))
    if plan.begin is not None:
        take_backbone(student, plan.begin)
    model = Imitator(student, len(names), len(footage.clip_labels)).to(plan.device)
    if part.begin:
        model.load_state_dict(mean_weights([state_weights(path) for path in part.begin]))
    trainee, clock, seen = Trainee(model), Clock(part.total_s), 0
    if part.path.exists():
        seen = resume(part.path, trainee, clock)
    generator = torch.Generator().manual_seed(plan.seed + seen)
    source = batches(shown, taught, plan.imitate_batch, generator, crop=CROP, device=plan.device)
    log.info("%s: %d views to learn from, %d to watch", part.path.stem, len(taught), len(watched))
    total, saved, looked = 0.0, clock.spent_s, -WATCH_EVERY_S
    clock.pause()
    while clock.tick() < 1:
        if clock.spent_s - looked > WATCH_EVERY_S:
            looked = clock.spent_s
            log.info("%s: %.0f s, cosine %s", part.path.stem, clock.spent_s, watch(model, shown, watched))
            clock.pause()
        total += imitate_step(
            trainee, next(source), peak_lr=part.peak_lr, share=clock.spent_s / clock.total_s
        )
        seen += plan.imitate_batch
        if seen // plan.imitate_batch % LOG_EVERY == 0:
            log.info(
                "%s: %.0f s, %d views, loss %.3f", part.path.stem, clock.spent_s, seen, total / LOG_EVERY
            )
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            save(part.path, trainee, clock, seen)
    save(part.path, trainee, clock, seen)
    log.info("%s: done, cosine %s", part.path.stem, watch(model, shown, watched))


def open_views(
    plan: Plan, footage: Footage, *, clips_named: bool = False, looks: Looks | None = None
) -> OpenViews:
    """What `stage_one_views` makes of what stage `views` left."""
    joints = known_joints(footage.stores["people"], plan.shared, plan.work)
    return stage_one_views(footage, view_sets(plan), joints, clips_named=clips_named, looks=looks)


@torch.inference_mode()
def watch(model: Imitator, views: Views, watched: Tensor) -> str:
    """The cosine of the student's answer to the teacher's on views that are never taught: of clips, of pictures."""
    model.eval()
    device = next(model.parameters()).device
    moves = views.follow[watched] != watched
    out = []
    for kind in (watched[moves], watched[~moves]):
        chosen = kind[torch.linspace(0, len(kind) - 1, min(WATCHED, len(kind))).long()]
        cosines = []
        for part in chosen.split(128):
            pixels = torch.from_numpy(resize(views.pixels[part.numpy()], (CROP, CROP))).to(device)
            seen = model.student(normalise(pixels[:, None]).expand(-1, 2, -1, -1, -1))
            wanted = torch.from_numpy(views.maps[part.numpy()].astype(np.float32)).mean((1, 2)).to(device)
            cosines.append(F.cosine_similarity(model.to_pooled(seen.features).float(), wanted))
        out.append(torch.cat(cosines).mean().item())
    model.train()
    return f"{out[0]:.3f} on clips, {out[1]:.3f} on pictures"


def take_backbone(student: Student, folder: Path) -> None:
    """Begin from the weights of an earlier starter (a model folder of the same sizes), all but its head."""
    earlier = load_checkpoint(folder).tensors
    known = {k: torch.from_numpy(v.copy()) for k, v in earlier.items() if not k.startswith("head.")}
    student.swin.load_state_dict(known, strict=False)
