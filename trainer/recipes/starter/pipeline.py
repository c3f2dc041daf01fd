"""The recipe's stages over files in a work folder; each goes on from where a broken run left it."""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence

import numpy as np
import torch

from vtag.engine.system.atomic_write import atomic_path
from vtag.trainer.recipes.starter.clip_material import (
    ClipMaterial,
    clip_material,
    draw_batch,
    view_classes,
)
from vtag.trainer.recipes.starter.clips import lit_rows
from vtag.trainer.recipes.starter.data import LATER_LABELS, TRAIN_ONLY
from vtag.trainer.recipes.starter.fusion import Opinions, mirror, motion_features, opinions
from vtag.trainer.recipes.starter.head import fit_soft_head, make_lesson
from vtag.trainer.recipes.starter.imitate import Imitator, batches
from vtag.trainer.recipes.starter.material import (
    CLIP_KINDS,
    UNNAMED,
    Footage,
    clip_frames,
    decode_all,
    open_footage,
)
from vtag.trainer.recipes.starter.measure import measure_held
from vtag.trainer.recipes.starter.optim import Clock, Trainee, save_atomically
from vtag.trainer.recipes.starter.pose import Floats, PoseTeacher
from vtag.trainer.recipes.starter.stage_one import LOG_EVERY, SAVE_EVERY_S, open_views, watch
from vtag.trainer.recipes.starter.states import (
    OPINIONS_FILE,
    SHARES,
    Plan,
    last_part,
    load_student,
    read_opinions,
    resume,
    save,
    state_weights,
)
from vtag.trainer.recipes.starter.store import PixelStore
from vtag.trainer.recipes.starter.student import CROP, Student, part_moments, student_sizes
from vtag.trainer.recipes.starter.teacher import load_teacher
from vtag.trainer.recipes.starter.tune import tune_step
from vtag.trainer.recipes.starter.views import (
    ViewSet,
    make_views,
    part_views,
    read_set,
    spread_frames,
    whole_views,
)

log = logging.getLogger(__name__)

MEASURE_EVERY_S = 600.0
DROP_PATH = 0.15
VIEWS_A_STEP = 48  # of stage 2, times Plan.tune_scale


def views(plan: Plan) -> None:
    """Stage `views`: decode everything and let the teacher of pictures look at the whole and at parts."""
    decode_all(plan.shared, plan.work)
    stores = open_footage(plan.work, seed=plan.seed).stores
    teacher = load_teacher(plan.device)
    make_views(plan.work / "views" / "whole", whole_views(stores), stores, teacher, seed=plan.seed)
    chosen = {kind: stores[kind] for kind in ("stills", "people", "train")}
    parts = part_views(chosen, seed=plan.seed + 1)
    make_views(plan.work / "views" / "parts", parts, stores, teacher, seed=plan.seed)


def teach(plan: Plan) -> None:
    """Stage `teach`: the teacher of clips looks at all clips, and says what they show by folds."""
    footage = open_footage(plan.work, seed=plan.seed)
    seen = {kind: see_motion(plan, footage.stores[kind], kind) for kind in CLIP_KINDS}
    opinion = ask_teachers(footage, read_set(plan.work / "views" / "whole"), seen["train"])
    save_atomically(opinion, plan.work / OPINIONS_FILE)


def see_motion(plan: Plan, store: PixelStore, kind: str) -> Floats:
    """What the teacher of motion sees in CLIP_FRAMES frames of each clip; looked at once."""
    path = plan.work / f"pose-{kind}.npy"
    if not path.exists():
        assert plan.pose is not None, "the teacher of motion is needed: --pose"
        teacher = PoseTeacher(plan.pose)
        seen = [teacher.clip(clip[spread_frames(len(clip))]) for clip in store]
        with atomic_path(path) as part, open(part, "wb") as file:
            np.save(file, np.stack(seen))
    return np.asarray(np.load(path), np.float32)


def ask_teachers(footage: Footage, whole: ViewSet, seen: Floats) -> Opinions:
    """What the teachers think that the clips show, each from clips of other sources."""
    store, labels = footage.stores["train"], footage.clip_labels
    sizes = [shape[1:3] for shape in store.shapes]
    truth = torch.tensor([labels.index(item.label) for item in store.items])
    unseen = torch.from_numpy(footage.held["train"])
    opinion = opinions(
        clip_frames(whole, "train"),
        np.stack([motion_features(frames, size) for frames, size in zip(seen, sizes, strict=True)]),
        np.stack(
            [motion_features(mirror(frames, size[1]), size) for frames, size in zip(seen, sizes, strict=True)]
        ),
        truth,
        [item.source for item in store.items],
        len(labels),
        unseen=unseen,
    )
    first = torch.tensor([item.label not in LATER_LABELS for item in store.items])
    first &= torch.tensor([not item.source.startswith(TRAIN_ONLY) for item in store.items])
    for name, shares in vars(opinion).items():
        right = shares.argmax(1) == truth
        rates = [100 * right[first & rows].float().mean().item() for rows in (~unseen, unseen)]
        log.info(
            "teach: %s is right on %.1f %% of the clips by folds, %.1f %% of those held back", name, *rates
        )
    return opinion


def head(plan: Plan) -> None:
    """Stage `head`: see `vtag.trainer.recipes.starter.head`; fitted on features of the last part of stage 1.

    That part names no clip. The head is put on the mean of the parts, whose features lie where those do.
    """
    footage = open_footage(plan.work, seed=plan.seed)
    classes = len(footage.labels) + 1
    student = load_student(last_part(plan), classes).to(plan.device)
    begin_head(student, open_material(plan, footage), np.random.default_rng(plan.seed))
    there = {plan.work / name: share for name, share in SHARES.items() if (plan.work / name).exists()}
    average(student, [(load_student(path, classes), share) for path, share in there.items()])
    log.info("head: %s", measure_held(copy.deepcopy(student).to(torch.bfloat16), footage))
    save_atomically(student.cpu().state_dict(), plan.work / "head.pt")


@torch.no_grad()
def average(student: Student, parts: Sequence[tuple[Student, float]]) -> None:
    """Give `student` the mean of the weights of `parts`, each with its share, all but the head; moments stay parted.

    Each went on from another. Their mean sees unseen pictures better than they do (Wortsman et al., 2022), and tells
    actions apart from few clips nearly as well as the one that learnt the names of clips.
    """
    total = sum(share for _, share in parts)
    weights = [(dict(part.swin.named_parameters()), share / total) for part, share in parts]
    for key, weight in student.swin.named_parameters():
        if not key.startswith("head."):
            weight.copy_(torch.stack([share * own[key] for own, share in weights]).sum(0))
    part_moments(student.swin)


def tune(plan: Plan) -> None:
    """Stage `tune`: see `vtag.trainer.recipes.starter.tune`; begins with a head fitted on the features of stage 1."""
    footage = open_footage(plan.work, seed=plan.seed)
    shown, taught, watched, names = open_views(plan, footage)
    classes = view_classes(footage, names)
    material = open_material(plan, footage)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(material.classes), drop_path=DROP_PATH)
    model = Imitator(student, len(names), len(footage.clip_labels)).to(plan.device)
    path, steps = plan.work / "tune.pt", 0
    clock = Clock(plan.tune_s)
    if not path.exists():
        model.load_state_dict(state_weights(last_part(plan)))
        begin_head(student, material, rng)
        log.info("tune: begins at %s", measure_held(student, footage))
    trainee = Trainee(model, ema_decay=plan.ema)
    if path.exists():
        steps = resume(path, trainee, clock)
        rng, generator = np.random.default_rng(plan.seed + steps), generator.manual_seed(plan.seed + steps)
    count = VIEWS_A_STEP * plan.tune_scale
    source = batches(shown, taught, count, generator, crop=CROP, device=plan.device)
    total, saved, looked = 0.0, clock.spent_s, clock.spent_s
    clock.pause()
    model.train()
    while clock.tick() < 1:
        batch = draw_batch(material, rng, generator, scale=plan.tune_scale, device=plan.device)
        views = next(source)
        known = torch.where(views.labels >= 0, classes.to(plan.device)[views.labels.clamp(min=0)], UNNAMED)
        share = clock.spent_s / clock.total_s
        total += tune_step(trainee, batch, views, known, peak_lr=plan.tune_lr, share=share)
        steps += 1
        if steps % LOG_EVERY == 0:
            log.info("tune: %.0f s, %d steps, loss %.3f", clock.spent_s, steps, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            save(path, trainee, clock, steps)
        if clock.spent_s - looked > MEASURE_EVERY_S:
            looked = clock.spent_s
            trainee.use("ema")
            log.info(
                "tune: %.0f s, %s, cosine %s",
                looked,
                measure_held(student, footage),
                watch(model, shown, watched),
            )
            trainee.use("master")
            model.train()
            clock.pause()
    save(path, trainee, clock, steps)


def open_material(plan: Plan, footage: Footage) -> ClipMaterial:
    """What stages `views` and `teach` left to learn actions from."""
    whole = read_set(plan.work / "views" / "whole")
    rows = rows_between_bars(plan, footage.stores["train"])
    return clip_material(footage, rows, whole, read_opinions(plan).both)


def begin_head(student: Student, material: ClipMaterial, rng: np.random.Generator) -> None:
    """Part what the student sees of a clip by moments, and give it a head that is fitted on its frozen features."""
    part_moments(student.swin)
    seeing = copy.deepcopy(student).to(torch.bfloat16).eval()
    weight, bias = fit_soft_head(make_lesson(seeing, material, rng))
    with torch.no_grad():
        student.swin.head.weight.copy_(weight)
        student.swin.head.bias.copy_(bias)


def rows_between_bars(plan: Plan, clips: PixelStore) -> list[slice]:
    """The rows of each clip that no black bar hides; found once, because all frames have to be read for it."""
    path = plan.work / "rows.npy"
    if not path.exists():
        with atomic_path(path) as part, open(part, "wb") as file:
            np.save(file, np.array([(rows.start, rows.stop) for rows in map(lit_rows, clips)]))
    return [slice(int(start), int(stop)) for start, stop in np.load(path)]
