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

from vtag.engine.checkpoints.load import load_checkpoint
from vtag.trainer.recipes.starter.clips import (
    camera_move,
    emptied,
    stack,
    test_views,
    training_clip,
    without_bars,
)
from vtag.trainer.recipes.starter.data import RELATED_STILLS, SAME_NAME, Item, Pixels, split_by_source
from vtag.trainer.recipes.starter.imitate import (
    MAP_AXES,
    TARGET_AXES,
    Imitator,
    Views,
    batches,
    imitate_step,
    normalise,
)
from vtag.trainer.recipes.starter.optim import Clock, Trainee, save_atomically
from vtag.trainer.recipes.starter.release import top1, view_scores
from vtag.trainer.recipes.starter.student import CROP, Student, student_sizes
from vtag.trainer.recipes.starter.teacher import principal_axes
from vtag.trainer.recipes.starter.tune import ClipBatch, fit_head, mix, over_time, soft_labels, tune_step
from vtag.trainer.recipes.starter.views import CROPPED_FRAMES, STILL_CROPS, VIEW, WHOLE_FRAMES, make_views

log = logging.getLogger(__name__)

HELD_SOURCES = 2  # of each label
KEPT_STILLS = 5  # every fifth still is kept for the thresholds
DROP_PATH = 0.15
SOFT = 0.5  # how much of a clip's target is what the teacher's probes think of it
SAVE_EVERY_S = 120.0
LOG_EVERY = 40  # steps


@dataclass(frozen=True)
class Plan:
    """Where the data lies, where states go, and how long each stage may train."""

    shared: Path
    work: Path
    device: torch.device
    out: Path = Path("assets/starter")
    begin: Path | None = None  # an earlier starter, whose backbone is taught on
    seed: int = 0
    imitate_s: float = 850.0
    imitate_batch: int = 192
    imitate_lr: float = 2e-3
    tune_s: float = 540.0
    tune_lr: float = 7e-4
    tune_scale: int = 1  # batches of stage 2: this many times 32 clips, 8 camera moves and 32 views
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
    pooled: Tensor  # the teacher's pooled targets of the clips, [N, TARGET_AXES]
    still_pooled: Tensor  # and of the stills
    shares: (
        Tensor  # what probes of the teacher think that each clip shows, [N, labels]; zeros where held back
    )

    @property
    def still_taught(self) -> npt.NDArray[np.bool_]:
        """Stills that stage 2 may see; the others are kept for the thresholds."""
        return np.asarray(np.arange(len(self.stills)) % KEPT_STILLS != 0)

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
            size=VIEW,
            seed=plan.seed,
            device=plan.device,
        )
    targets, seen = make_targets(parts["train"], parts["stills"], seed=plan.seed)
    save_atomically(targets, plan.work / "targets.pt")
    kept = {
        "clips": parts["train"]["items"],
        "footage": parts["train"]["footage"],
        "stills": parts["stills"]["items"],
        "pictures": parts["stills"]["footage"],
        "seen": seen,
        "held": targets["held"],
    }
    with open(plan.work / "footage.pkl", "wb") as handle:
        pickle.dump(kept, handle, protocol=5)


def make_targets(
    clips: dict[str, Any], stills: dict[str, Any], *, seed: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What stage 1 learns from (no held-back source), and the teacher's pooled features of every frame's view.

    The targets are the teacher's maps along the principal axes of its pooled features, each divided by the root of
    its deviation: half-way between the variance that noise has too and the axes that tell classes apart.
    """
    held = split_by_source(clips["items"], per_label=HELD_SOURCES, seed=seed)
    free = np.array([clips["items"][o].source not in held for o in clips["owner"]])
    names = [clips["items"][o].label for o in clips["owner"][free]]
    names += [_still_name(stills["items"][o]) for o in stills["owner"]]
    known = sorted(set(names))
    maps = (clips["maps"][torch.from_numpy(free)], stills["maps"])
    means = torch.cat([part.float().mean((1, 2)) for kind in maps for part in kind.split(1024)])
    mean, axes = principal_axes(means, keep=TARGET_AXES)
    axes = axes / ((means - mean) @ axes).std(0).clamp(min=1e-6).sqrt()
    scale = ((means - mean) @ axes).pow(2).mean().sqrt()
    reduced = torch.cat(
        [((part.float() - mean) @ axes / scale).half() for kind in maps for part in kind.split(1024)]
    )
    kept = Views(
        torch.from_numpy(np.concatenate([clips["views"][free], stills["views"]])),
        reduced,
        reduced[:, :, :, :MAP_AXES].float().pow(2).mean().sqrt().item(),
        torch.tensor([known.index(n) for n in names]),
    )
    targets = {"views": kept, "names": known, "held": sorted(held)}
    targets["actions"] = len({item.label for item in clips["items"]})
    per_clip = clips["maps"].unflatten(0, (-1, WHOLE_FRAMES + CROPPED_FRAMES))
    frames = torch.stack([clip.float().mean((1, 2)) for clip in per_clip])
    seen = {
        "clip_frames": frames,
        "still_views": means[int(free.sum()) :],
        "mean": mean,
        "axes": axes / scale,
    }
    return targets, seen


def imitate(plan: Plan) -> None:
    """Stage `imitate`: see `vtag.trainer.recipes.starter.imitate`."""
    targets = torch.load(plan.work / "targets.pt", weights_only=False, mmap=True)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(targets["actions"] + 1))
    if plan.begin is not None:
        take_backbone(student, plan.begin)
    model = Imitator(student, len(targets["names"])).to(plan.device)
    trainee, clock = Trainee(model), Clock(plan.imitate_s)
    path, seen = plan.work / "imitate.pt", 0
    if path.exists():
        seen = _resume(path, trainee, clock)
    generator = torch.Generator().manual_seed(plan.seed + seen)
    source = batches(targets["views"], plan.imitate_batch, generator, crop=CROP, device=plan.device)
    total, saved = 0.0, clock.spent_s
    while clock.tick() < 1:
        total += imitate_step(
            trainee, next(source), peak_lr=plan.imitate_lr, share=clock.spent_s / clock.total_s
        )
        seen += plan.imitate_batch
        if seen // plan.imitate_batch % LOG_EVERY == 0:
            log.info("imitate: %.0f s, %d views, loss %.3f", clock.spent_s, seen, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            _save(path, trainee, clock, seen)
    _save(path, trainee, clock, seen)


def take_backbone(student: Student, folder: Path) -> None:
    """Begin from the weights of an earlier starter (a model folder of the same sizes), all but its head."""
    earlier = load_checkpoint(folder).tensors
    known = {k: torch.from_numpy(v.copy()) for k, v in earlier.items() if not k.startswith("head.")}
    student.swin.load_state_dict(known, strict=False)


def load_material(plan: Plan) -> Material:
    """What stage `views` left for the later ones."""
    with open(plan.work / "footage.pkl", "rb") as handle:
        kept = pickle.load(handle)
    labels = sorted({item.label for item in kept["clips"]})
    truth = np.array([labels.index(item.label) for item in kept["clips"]])
    sources = np.array([item.source for item in kept["clips"]])
    held = np.isin(sources, kept["held"])
    seen = kept["seen"]
    frames = seen["clip_frames"][:, :WHOLE_FRAMES]
    free = torch.from_numpy(~held)
    shares = torch.zeros(len(truth), len(labels))
    shares[free] = soft_labels(
        over_time(frames)[free], torch.from_numpy(truth)[free], sources[~held].tolist(), len(labels)
    )
    return Material(
        clips=kept["clips"],
        footage=[
            shown if out else without_bars(shown) for shown, out in zip(kept["footage"], held, strict=True)
        ],
        stills=kept["stills"],
        pictures=kept["pictures"],
        labels=labels,
        truth=truth,
        still_truth=np.array([_still_class(item, labels) for item in kept["stills"]]),
        held=held,
        pooled=(frames.mean(1) - seen["mean"]) @ seen["axes"],
        still_pooled=(seen["still_views"][:: 1 + STILL_CROPS] - seen["mean"]) @ seen["axes"],
        shares=shares,
    )


def tune(plan: Plan) -> None:
    """Stage `tune`: see `vtag.trainer.recipes.starter.tune`; begins with a head fitted on the features of stage 1."""
    targets = torch.load(plan.work / "targets.pt", weights_only=False, mmap=True)
    material = load_material(plan)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(len(material.labels) + 1), drop_path=DROP_PATH)
    model = Imitator(student, len(targets["names"])).to(plan.device)
    path, steps = plan.work / "tune.pt", 0
    clock = Clock(plan.tune_s)
    if not path.exists():
        model.load_state_dict(torch.load(plan.work / "imitate.pt", weights_only=False)["trainee"]["master"])
        begin_head(model, material, rng)
        log.info("tune: begins at %.1f %% on held-back sources", 100 * measure(student, material))
    trainee = Trainee(model, ema_decay=plan.ema)
    if path.exists():
        steps = _resume(path, trainee, clock)
        rng, generator = np.random.default_rng(plan.seed + steps), generator.manual_seed(plan.seed + steps)
    clock.pause()
    source = batches(targets["views"], 32 * plan.tune_scale, generator, crop=CROP, device=plan.device)
    total, saved = 0.0, clock.spent_s
    model.train()
    while clock.tick() < 1:
        batch = draw_batch(material, rng, generator, scale=plan.tune_scale, device=plan.device)
        share = clock.spent_s / clock.total_s
        total += tune_step(trainee, batch, next(source), peak_lr=plan.tune_lr, share=share)
        steps += 1
        if steps % LOG_EVERY == 0:
            log.info("tune: %.0f s, %d steps, loss %.3f", clock.spent_s, steps, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            _save(path, trainee, clock, steps)
    _save(path, trainee, clock, steps)


def measure(student: Student, material: Material) -> float:
    """Top-1 by the judged protocol on the held-back clips, as far as a copy of the protocol can say."""
    chosen = np.flatnonzero(material.held)
    shown = torch.from_numpy(np.stack([test_views(material.footage[i], size=CROP) for i in chosen]))
    logits = view_scores(student.eval(), shown)
    return top1(logits, torch.from_numpy(material.truth[chosen]), len(material.labels))


def begin_head(model: Imitator, material: Material, rng: np.random.Generator) -> None:
    """Fit the student's head on its own frozen features of clips and camera moves."""
    student = model.student.to(torch.bfloat16).eval()
    clips = [training_clip(material.footage[i], rng, size=CROP) for _ in range(3) for i in material.train]
    labels = list(material.truth[material.train]) * 3
    usable = rng.permutation(np.flatnonzero((material.still_truth >= 0) & material.still_taught))[
        : len(clips) // 3
    ]
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
    material: Material,
    rng: np.random.Generator,
    generator: torch.Generator,
    *,
    scale: int,
    device: torch.device,
) -> ClipBatch:
    """Clips, half of them drawn evenly over labels and sources; then related and unrelated stills in motion."""
    actions = len(material.labels)
    chosen = [*rng.choice(material.train, 16 * scale), *even_choice(material, rng, 16 * scale)]
    clips = [training_clip(material.footage[i], rng, size=CROP) for i in chosen]
    own = F.one_hot(torch.from_numpy(material.truth[chosen]), actions + 1).float()
    shares = [(1 - SOFT) * own + SOFT * F.pad(material.shares[chosen], (0, 1))]
    pooled = [material.pooled[chosen]]
    kinds, taught = material.still_truth, material.still_taught
    for pool, count in ((kinds >= 0) & (kinds < actions), 2 * scale), (kinds == actions, 6 * scale):
        stills = rng.choice(np.flatnonzero(pool & taught), count)
        clips += [camera_move(material.pictures[i], rng, size=CROP) for i in stills]
        shares.append(F.one_hot(torch.from_numpy(kinds[stills]), actions + 1).float())
        pooled.append(material.still_pooled[stills])
    pooled[-1][-scale:] = 0
    clips[-scale:] = [emptied(clip, rng) for clip in clips[-scale:]]
    pixels = normalise(stack(clips).to(device), generator)
    wanted = torch.cat([torch.cat(shares), torch.cat(pooled)], 1).to(device)
    mixed, wanted = mix(pixels, wanted, generator)
    return ClipBatch(mixed, wanted[:, : actions + 1], wanted[:, actions + 1 :])


def even_choice(material: Material, rng: np.random.Generator, count: int) -> list[int]:
    """Clips to train on whose labels, and within a label whose sources, are equally likely."""
    chosen = []
    sources = np.array([item.source for item in material.clips])
    for label in rng.permutation(np.arange(count) % len(material.labels)):
        of_label = material.train[material.truth[material.train] == label]
        source = rng.choice(np.unique(sources[of_label]))
        chosen.append(int(rng.choice(of_label[sources[of_label] == source])))
    return chosen


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
