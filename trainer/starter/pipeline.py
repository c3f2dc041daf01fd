"""The recipe's four stages over files in a work folder; each goes on from where a broken run left it."""

from __future__ import annotations

import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.trainer.starter.clips import camera_move, stack, test_views, training_clip
from vtag.trainer.starter.data import RELATED_STILLS, SAME_NAME, Item, Pixels, split_by_source
from vtag.trainer.starter.imitate import (
    MAP_AXES,
    POOLED_AXES,
    Imitator,
    Views,
    batches,
    imitate_step,
    normalise,
)
from vtag.trainer.starter.optim import Clock, Trainee, save_atomically
from vtag.trainer.starter.release import accuracy, view_scores
from vtag.trainer.starter.student import CROP, Student, student_sizes
from vtag.trainer.starter.teacher import principal_axes
from vtag.trainer.starter.tune import fit_head, mix, tune_step
from vtag.trainer.starter.views import CROPPED_FRAMES, WHOLE_FRAMES, make_views

log = logging.getLogger(__name__)

HELD_SOURCES = 2  # of each label
SAVE_EVERY_S = 120.0
LOG_EVERY = 40  # steps


@dataclass(frozen=True)
class Plan:
    """Where the data lies, where states go, and how long each stage may train."""

    shared: Path
    work: Path
    device: torch.device
    out: Path = Path("assets/starter")
    seed: int = 0
    imitate_s: float = 850.0
    imitate_batch: int = 128
    imitate_lr: float = 2e-3
    tune_s: float = 540.0
    tune_lr: float = 7e-4
    tune_scale: int = 1  # batches of stage 2: this many times 24 clips, 8 camera moves and 32 views
    ema: float = 0.99


@dataclass
class Material:
    """All that stage 2 and the release need in memory."""

    clips: list[Item]
    footage: list[Pixels]
    stills: list[Item]
    pictures: list[Pixels]
    labels: list[str]  # folder names of the clips, sorted; the class after the last is NONE_OF_THESE
    truth: npt.NDArray[np.int64]  # of the clips
    still_truth: npt.NDArray[
        np.int64
    ]  # of the stills; -1: taken for no clip label and for no negative either
    held: npt.NDArray[np.bool_]  # clips of held-back sources
    pooled: Tensor  # the teacher's pooled targets of the clips

    @property
    def train(self) -> npt.NDArray[np.intp]:
        """Indices of the clips that may be trained on."""
        return np.flatnonzero(~self.held)


def views(plan: Plan) -> None:
    """Stage `views`: decode everything, let the teacher look, keep the targets of stage 1."""
    parts = {}
    for kind, pattern in (("train", "*/*.mp4"), ("stills", "*/*.jpg")):
        log.info("decoding %s and showing it to the teacher", kind)
        parts[kind] = make_views(
            plan.shared / kind,
            pattern,
            stills=kind == "stills",
            size=CROP,
            seed=plan.seed,
            device=plan.device,
        )
    targets, pooled = make_targets(parts["train"], parts["stills"], seed=plan.seed)
    save_atomically(targets, plan.work / "targets.pt")
    kept = {
        "clips": parts["train"]["items"],
        "footage": parts["train"]["footage"],
        "stills": parts["stills"]["items"],
        "pictures": parts["stills"]["footage"],
        "pooled": pooled,
        "held": targets["held"],
    }
    with open(plan.work / "footage.pkl", "wb") as handle:
        pickle.dump(kept, handle, protocol=5)


def make_targets(
    clips: dict[str, Any], stills: dict[str, Any], *, seed: int
) -> tuple[dict[str, Any], Tensor]:
    """What stage 1 learns from (no held-back source), and the teacher's pooled target of each clip."""
    held = split_by_source(clips["items"], per_label=HELD_SOURCES, seed=seed)
    free = np.array([clips["items"][o].source not in held for o in clips["owner"]])
    maps = torch.cat([clips["maps"][torch.from_numpy(free)], stills["maps"]])
    pixels = np.concatenate([clips["views"][free], stills["views"]])
    names = [clips["items"][o].label for o in clips["owner"][free]]
    names += [_still_name(stills["items"][o]) for o in stills["owner"]]
    known = sorted(set(names))

    # in parts: as float32 all maps together would take 8 GB more
    means = torch.cat([part.float().mean((1, 2)) for part in maps.split(1024)])
    mean, axes = principal_axes(means, keep=POOLED_AXES)
    pooled = (means - mean) @ axes
    scale = pooled.pow(2).mean().sqrt()
    rng = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(maps), generator=rng)[:3000]
    places_mean, places_axes = principal_axes(maps[some].flatten(0, 2).float(), keep=MAP_AXES)
    reduced = torch.cat(
        [((p.float() - places_mean) @ places_axes).to(torch.bfloat16) for p in maps.split(1024)]
    )
    reduced = (reduced / reduced.float().pow(2).mean().sqrt()).to(torch.bfloat16)
    kept = Views(
        torch.from_numpy(pixels),
        reduced,
        (pooled / scale).to(torch.bfloat16),
        torch.tensor([known.index(n) for n in names]),
    )
    per_clip = clips["maps"].unflatten(0, (-1, WHOLE_FRAMES + CROPPED_FRAMES))[:, :WHOLE_FRAMES]
    whole = torch.stack([clip.float().mean((0, 1, 2)) for clip in per_clip])
    targets = {"views": kept, "names": known, "held": sorted(held)}
    targets["actions"] = len({item.label for item in clips["items"]})
    return targets, ((whole - mean) @ axes) / scale


def imitate(plan: Plan) -> None:
    """Stage `imitate`: see `vtag.trainer.starter.imitate`."""
    targets = torch.load(plan.work / "targets.pt", weights_only=False)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(targets["actions"] + 1))
    model = Imitator(student, len(targets["names"])).to(plan.device)
    trainee, clock = Trainee(model), Clock(plan.imitate_s)
    path, seen = plan.work / "imitate.pt", 0
    if path.exists():
        seen = _resume(path, trainee, clock)
    source = batches(targets["views"], plan.imitate_batch, torch.Generator().manual_seed(plan.seed + seen))
    total, saved = 0.0, clock.spent_s
    while clock.tick() < 1:
        batch = tuple(t.to(plan.device) for t in next(source))
        total += imitate_step(trainee, batch, peak_lr=plan.imitate_lr, share=clock.spent_s / clock.total_s)
        seen += plan.imitate_batch
        if seen // plan.imitate_batch % LOG_EVERY == 0:
            log.info("imitate: %.0f s, %d views, loss %.3f", clock.spent_s, seen, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            _save(path, trainee, clock, seen)
    _save(path, trainee, clock, seen)


def load_material(plan: Plan) -> Material:
    """What stage `views` left for the later ones."""
    with open(plan.work / "footage.pkl", "rb") as handle:
        kept = pickle.load(handle)
    labels = sorted({item.label for item in kept["clips"]})
    return Material(
        clips=kept["clips"],
        footage=kept["footage"],
        stills=kept["stills"],
        pictures=kept["pictures"],
        labels=labels,
        truth=np.array([labels.index(item.label) for item in kept["clips"]]),
        still_truth=np.array([_still_class(item, labels) for item in kept["stills"]]),
        held=np.isin([item.source for item in kept["clips"]], kept["held"]),
        pooled=kept["pooled"],
    )


def tune(plan: Plan) -> None:
    """Stage `tune`: see `vtag.trainer.starter.tune`; begins with a head fitted on the features of stage 1."""
    targets = torch.load(plan.work / "targets.pt", weights_only=False)
    material = load_material(plan)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    model = Imitator(Student(student_sizes(len(material.labels) + 1)), len(targets["names"])).to(plan.device)
    start = torch.load(plan.work / "imitate.pt", weights_only=False)
    model.load_state_dict(start["trainee"]["master"])
    path, steps = plan.work / "tune.pt", 0
    clock = Clock(plan.tune_s)
    if not path.exists():
        begin_head(model, material, rng)
    trainee = Trainee(model, ema_decay=plan.ema)
    if path.exists():
        steps = _resume(path, trainee, clock)
    clock.pause()
    source = batches(targets["views"], 32 * plan.tune_scale, generator)
    total, saved = 0.0, clock.spent_s
    while clock.tick() < 1:
        clips = draw_batch(material, rng, generator, scale=plan.tune_scale)
        total += tune_step(
            trainee,
            tuple(t.to(plan.device) for t in clips),  # type: ignore[arg-type]
            tuple(t.to(plan.device) for t in next(source)),
            peak_lr=plan.tune_lr,
            share=clock.spent_s / clock.total_s,
        )
        steps += 1
        if steps % LOG_EVERY == 0:
            log.info("tune: %.0f s, %d steps, loss %.3f", clock.spent_s, steps, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            _save(path, trainee, clock, steps)
            trainee.use("ema")
            log.info("tune: top-1 on held-back sources %.1f %%", 100 * measure(model.student, material).top1)
            trainee.use("master")
            clock.pause()
    _save(path, trainee, clock, steps)


def measure(student: Student, material: Material) -> Any:
    """The judged protocol on the held-back clips."""
    chosen = np.flatnonzero(material.held)
    shown = torch.from_numpy(np.stack([test_views(material.footage[i], size=CROP) for i in chosen]))
    logits = view_scores(student, shown)
    return accuracy(logits, torch.from_numpy(material.truth[chosen]), len(material.labels))


def begin_head(model: Imitator, material: Material, rng: np.random.Generator) -> None:
    """Fit the student's head on its own frozen features of clips and camera moves."""
    student = model.student.to(torch.bfloat16)
    clips = [training_clip(material.footage[i], rng, size=CROP) for _ in range(3) for i in material.train]
    labels = list(material.truth[material.train]) * 3
    usable = rng.permutation(np.flatnonzero(material.still_truth >= 0))[: len(clips) // 3]
    clips += [camera_move(material.pictures[i], rng, size=CROP) for i in usable]
    labels += list(material.still_truth[usable])
    device = next(student.parameters()).device
    with torch.inference_mode():
        seen = [student(normalise(part.to(device))).features.float().cpu() for part in stack(clips).split(96)]
    weight, bias = fit_head(torch.cat(seen).clone(), torch.tensor(labels), len(material.labels) + 1)
    with torch.no_grad():
        student.swin.head.weight.copy_(weight)
        student.swin.head.bias.copy_(bias)


def draw_batch(
    material: Material, rng: np.random.Generator, generator: torch.Generator, *, scale: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Clips, half of them drawn evenly over the labels; then related and unrelated stills in motion."""
    train, truth = material.train, material.truth
    actions = len(material.labels)
    chosen = list(rng.choice(train, 12 * scale))
    for label in rng.permutation(np.arange(12 * scale) % actions):
        chosen.append(rng.choice(train[truth[train] == label]))
    clips = [training_clip(material.footage[i], rng, size=CROP) for i in chosen]
    labels = [int(truth[i]) for i in chosen]
    pooled = [material.pooled[i] for i in chosen]
    kinds = material.still_truth
    for pool, count in (
        (np.flatnonzero((kinds >= 0) & (kinds < actions)), 3 * scale),
        (np.flatnonzero(kinds == actions), 5 * scale),
    ):
        for i in rng.choice(pool, count):
            clips.append(camera_move(material.pictures[i], rng, size=CROP))
            labels.append(int(kinds[i]))
            pooled.append(torch.zeros_like(pooled[0]))
    pixels = normalise(stack(clips), generator)
    shares = F.one_hot(torch.tensor(labels), actions + 1).float()
    return (*mix(pixels, shares, strength=0.3, generator=generator), torch.stack(pooled))


def _still_name(item: Item) -> str:
    """The label of a still in stage 1: a clip's where it shows that action, else one of its own."""
    own = f"{item.label} still" if item.label in SAME_NAME else item.label
    return RELATED_STILLS.get(item.label, own)


def _still_class(item: Item, labels: Sequence[str]) -> int:
    if item.label in RELATED_STILLS:
        return labels.index(RELATED_STILLS[item.label])
    return -1 if item.label in SAME_NAME else len(labels)


def _save(path: Path, trainee: Trainee, clock: Clock, count: int) -> None:
    save_atomically({"trainee": trainee.state(), "spent_s": clock.spent_s, "count": count}, path)


def _resume(path: Path, trainee: Trainee, clock: Clock) -> int:
    state = torch.load(path, weights_only=False)
    trainee.load(state["trainee"])
    clock.spent_s = state["spent_s"]
    return int(state["count"])
