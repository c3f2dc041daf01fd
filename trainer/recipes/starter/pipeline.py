"""The recipe's stages over files in a work folder; each goes on from where a broken run left it."""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vtag.engine.checkpoints.load import load_checkpoint
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
from vtag.trainer.recipes.starter.imitate import Imitator, Views, batches, imitate_step, normalise
from vtag.trainer.recipes.starter.material import (
    CLIP_KINDS,
    UNNAMED,
    Footage,
    clip_frames,
    decode_all,
    known_joints,
    open_footage,
    stage_one_views,
)
from vtag.trainer.recipes.starter.measure import measure_held
from vtag.trainer.recipes.starter.optim import Clock, Trainee, save_atomically
from vtag.trainer.recipes.starter.pose import Floats, PoseTeacher
from vtag.trainer.recipes.starter.store import PixelStore
from vtag.trainer.recipes.starter.student import CROP, Student, part_moments, student_sizes
from vtag.trainer.recipes.starter.teacher import load_teacher
from vtag.trainer.recipes.starter.tune import tune_step
from vtag.trainer.recipes.starter.views import (
    ViewSet,
    make_views,
    part_views,
    read_set,
    resize,
    spread_frames,
    whole_views,
)

log = logging.getLogger(__name__)

SAVE_EVERY_S = 120.0
MEASURE_EVERY_S = 600.0
DROP_PATH = 0.15
VIEWS_A_STEP = 48  # of stage 2, times Plan.tune_scale
LOG_EVERY = 20  # steps
WATCH_EVERY_S = 300.0
WATCHED = 768  # views that are never taught, of pictures and of clips each
NAMED_FILE, IMITATED_FILE = "named.pt", "imitate.pt"  # what stages `name` and `imitate` leave
NAMED_SHARE = 0.5  # of the named ones' weights in the mean
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
    tune_s: float = 5400.0
    tune_lr: float = 7e-4
    tune_scale: int = 1  # batches of stage 2: this many times 36 clips and VIEWS_A_STEP views
    ema: float = 0.99
    tuned: bool = False  # whether stage `tune` made what is released, or `head`


def views(plan: Plan) -> None:
    """Stage `views`: decode everything and let the teacher of pictures look at the whole and at parts."""
    decode_all(plan.shared, plan.work)
    stores = open_footage(plan.work, seed=plan.seed).stores
    teacher = load_teacher(plan.device)
    make_views(plan.work / "views" / "whole", whole_views(stores), stores, teacher, seed=plan.seed)
    chosen = {kind: stores[kind] for kind in ("stills", "people", "train")}
    parts = part_views(chosen, seed=plan.seed + 1)
    make_views(plan.work / "views" / "parts", parts, stores, teacher, seed=plan.seed)


def name(plan: Plan) -> None:
    """Stage `name`: see `vtag.trainer.recipes.starter.imitate`; clips are named as well.

    What is told the names of clips tells actions apart from few clips, and knows those that it was told by heart.
    """
    learn_views(plan, plan.work / NAMED_FILE, plan.name_s, clips_named=True)


def imitate(plan: Plan) -> None:
    """Stage `imitate`: goes on from what stage `name` made, if that was run, and names no clip."""
    learn_views(plan, plan.work / IMITATED_FILE, plan.imitate_s, clips_named=False)


def learn_views(plan: Plan, path: Path, total_s: float, *, clips_named: bool) -> None:
    """Go on with the state of stage 1 in `path` until it has learnt for `total_s`."""
    footage = open_footage(plan.work, seed=plan.seed)
    shown, taught, watched, names = open_views(plan, footage, clips_named=clips_named)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(len(footage.labels) + 1))
    if plan.begin is not None:
        take_backbone(student, plan.begin)
    model = Imitator(student, len(names)).to(plan.device)
    if not clips_named and (plan.work / NAMED_FILE).exists():
        model.load_state_dict(state_weights(plan.work / NAMED_FILE))
    trainee, clock, seen = Trainee(model), Clock(total_s), 0
    if path.exists():
        seen = resume(path, trainee, clock)
    generator = torch.Generator().manual_seed(plan.seed + seen)
    source = batches(shown, taught, plan.imitate_batch, generator, crop=CROP, device=plan.device)
    log.info("imitate: %d views to learn from, %d to watch", len(taught), len(watched))
    total, saved, looked = 0.0, clock.spent_s, -WATCH_EVERY_S
    clock.pause()
    while clock.tick() < 1:
        if clock.spent_s - looked > WATCH_EVERY_S:
            looked = clock.spent_s
            log.info("imitate: %.0f s, cosine %s", clock.spent_s, watch(model, shown, watched))
            clock.pause()
        total += imitate_step(
            trainee, next(source), peak_lr=plan.imitate_lr, share=clock.spent_s / clock.total_s
        )
        seen += plan.imitate_batch
        if seen // plan.imitate_batch % LOG_EVERY == 0:
            log.info("imitate: %.0f s, %d views, loss %.3f", clock.spent_s, seen, total / LOG_EVERY)
            total = 0.0
        if clock.spent_s - saved > SAVE_EVERY_S:
            saved = clock.spent_s
            save(path, trainee, clock, seen)
    save(path, trainee, clock, seen)
    log.info("imitate: done, cosine %s", watch(model, shown, watched))


def open_views(plan: Plan, footage: Footage, *, clips_named: bool) -> tuple[Views, Tensor, Tensor, list[str]]:
    """What `stage_one_views` makes of what stage `views` left."""
    sets = [read_set(plan.work / "views" / name) for name in SETS if (plan.work / "views" / name).exists()]
    joints = known_joints(footage.stores["people"], plan.shared, plan.work)
    return stage_one_views(footage, sets, joints, clips_named=clips_named)


def teach(plan: Plan) -> None:
    """Stage `teach`: the teacher of clips looks at all clips, and says what they show by folds."""
    footage = open_footage(plan.work, seed=plan.seed)
    seen = {kind: see_motion(plan, footage.stores[kind], kind) for kind in CLIP_KINDS}
    opinion = ask_teachers(footage, read_set(plan.work / "views" / "whole"), seen["train"])
    save_atomically(opinion, plan.work / "opinions.pt")


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
    """Stage `head`: see `vtag.trainer.recipes.starter.head`; fitted on features of the student that names no clip.

    It is put on the mean of both students, whose features lie where those do.
    """
    footage = open_footage(plan.work, seed=plan.seed)
    student = load_student(plan.work / IMITATED_FILE, len(footage.labels) + 1).to(plan.device)
    begin_head(student, open_material(plan, footage), np.random.default_rng(plan.seed))
    if (plan.work / NAMED_FILE).exists():
        average(student, load_student(plan.work / NAMED_FILE, len(footage.labels) + 1))
    log.info("head: %s", measure_held(copy.deepcopy(student).to(torch.bfloat16), footage))
    save_atomically(student.cpu().state_dict(), plan.work / "head.pt")


@torch.no_grad()
def average(student: Student, named: Student) -> None:
    """Make `student` the mean of itself and of the one that `named` clips, all but its head; moments stay parted.

    One went on from the other. Their mean sees unseen pictures better than both (Wortsman et al., 2022), and tells
    actions apart from few clips nearly as well as the one that learnt names.
    """
    named.to(next(student.parameters()).device)
    earlier = dict(named.swin.named_parameters())
    for key, weight in student.swin.named_parameters():
        if not key.startswith("head."):
            weight.lerp_(earlier[key], NAMED_SHARE)
    part_moments(student.swin)


def tune(plan: Plan) -> None:
    """Stage `tune`: see `vtag.trainer.recipes.starter.tune`; begins with a head fitted on the features of stage 1."""
    footage = open_footage(plan.work, seed=plan.seed)
    shown, taught, watched, names = open_views(plan, footage, clips_named=False)
    classes = view_classes(footage, names)
    material = open_material(plan, footage)
    rng = np.random.default_rng(plan.seed)
    generator = torch.Generator().manual_seed(plan.seed)
    torch.manual_seed(plan.seed)
    student = Student(student_sizes(material.classes), drop_path=DROP_PATH)
    model = Imitator(student, len(names)).to(plan.device)
    path, steps = plan.work / "tune.pt", 0
    clock = Clock(plan.tune_s)
    if not path.exists():
        model.load_state_dict(state_weights(plan.work / IMITATED_FILE))
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
    shares = torch.load(plan.work / "opinions.pt", weights_only=False).both
    whole = read_set(plan.work / "views" / "whole")
    return clip_material(footage, rows_between_bars(plan, footage.stores["train"]), whole, shares)


def begin_head(student: Student, material: ClipMaterial, rng: np.random.Generator) -> None:
    """Part what the student sees of a clip by moments, and give it a head that is fitted on its frozen features."""
    part_moments(student.swin)
    seeing = copy.deepcopy(student).to(torch.bfloat16).eval()
    weight, bias = fit_soft_head(make_lesson(seeing, material, rng))
    with torch.no_grad():
        student.swin.head.weight.copy_(weight)
        student.swin.head.bias.copy_(bias)


def load_student(path: Path, classes: int) -> Student:
    """The student of a stage's state, in float32."""
    weights = state_weights(path)
    model = Imitator(Student(student_sizes(classes)), weights["to_label.bias"].numel())
    model.load_state_dict(weights)
    return model.student.eval()


def state_weights(path: Path) -> dict[str, Tensor]:
    """The weights of a stage's state, their running mean where there is one, in float32."""
    state = torch.load(path, weights_only=False, map_location="cpu")["trainee"]
    weights: dict[str, Tensor] = state["ema"] or state["master"]
    return weights


def rows_between_bars(plan: Plan, clips: PixelStore) -> list[slice]:
    """The rows of each clip that no black bar hides; found once, because all frames have to be read for it."""
    path = plan.work / "rows.npy"
    if not path.exists():
        with atomic_path(path) as part, open(part, "wb") as file:
            np.save(file, np.array([(rows.start, rows.stop) for rows in map(lit_rows, clips)]))
    return [slice(int(start), int(stop)) for start, stop in np.load(path)]


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


def save(path: Path, trainee: Trainee, clock: Clock, count: int) -> None:
    """Keep all that a later run needs to go on."""
    save_atomically({"trainee": trainee.state(), "spent_s": clock.spent_s, "count": count}, path)


def resume(path: Path, trainee: Trainee, clock: Clock) -> int:
    """Go on from what `save` kept; returns its count."""
    state = torch.load(path, weights_only=False)
    trainee.load(state["trainee"])
    clock.spent_s = state["spent_s"]
    return int(state["count"])
