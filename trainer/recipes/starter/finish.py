"""Stage `release`: the head that is shipped, its thresholds, the model folder, and its numbers as vtag finds them."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from vtag.engine.backends.factory import open_backend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.load import load_checkpoint, save_model_folder
from vtag.engine.library.database import Library
from vtag.engine.library.search import moments as search
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.scan import ScanOptions, scan
from vtag.engine.swin.config import NONE_OF_THESE, ModelSpec
from vtag.trainer.data.dataset import Dataset, LabelledClip, label_from_name
from vtag.trainer.evaluation.evaluate import Evaluation, evaluate
from vtag.trainer.recipes.starter.action_head import Shipped, Sight, look, ship_head
from vtag.trainer.recipes.starter.clips import FRAMES
from vtag.trainer.recipes.starter.imitate import Imitator
from vtag.trainer.recipes.starter.material import UNNAMED, Footage, open_footage
from vtag.trainer.recipes.starter.measure import held_clips, held_numbers, measure_held
from vtag.trainer.recipes.starter.optim import save_atomically
from vtag.trainer.recipes.starter.pipeline import Plan
from vtag.trainer.recipes.starter.scan_windows import RATE
from vtag.trainer.recipes.starter.student import CROP, Student, student_sizes
from vtag.trainer.recipes.starter.sure import score_held, sure_table

log = logging.getLogger(__name__)

LICENCE = "research footage and pictures of several data sets: see README.md beside this file"


def release(plan: Plan) -> None:
    """Write `plan.out` (float16 weights, model.json) and `numbers.json` with all that was measured."""
    footage = open_footage(plan.work, seed=plan.seed)
    student = load_student(plan.work / "tune.pt", len(footage.labels) + 1)
    apart = measure_held(student, footage)
    sight = sight_of(plan, student, footage)
    shipped = ship_head(student, footage, sight)
    card = plan.out / "README.md"
    written = card.read_bytes() if card.exists() else b""
    checkpoint = to_checkpoint(student, shipped)
    save_model_folder(checkpoint, plan.out, dtype=np.float16)
    if written:  # the folder is replaced whole; a person wrote the card
        card.write_bytes(written)
    numbers = measure_release(plan, footage)
    save_sure(plan, student, shipped, footage)
    numbers["held_back"]["with_no_label_merged"] = asdict(apart)
    numbers["pictures"] = {
        label_from_name(label): {"precision_of_first_ten": first, "average_precision": mean}
        for label, (first, mean) in sight.precision.items()
    }
    (plan.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    log.info("release: top-1 %.1f %%, %s", 100 * numbers["held_back"]["top1"], numbers["other_footage"])


def save_sure(plan: Plan, student: Student, shipped: Shipped, footage: Footage) -> None:
    """Keep for each label from which score it can be trusted, beside the states: no format of a model says so yet."""
    seeing = copy.deepcopy(student).to(torch.bfloat16)
    found, nothing = score_held(seeing, footage, np.random.default_rng(plan.seed))
    became = np.array([shipped.of.get(label, len(shipped.labels)) for label in [*footage.labels, ""]])
    known = found.truth != UNNAMED
    found.truth[known] = became[found.truth[known]]
    table = sure_table(found, nothing, shipped.labels)
    (plan.work / "sure.json").write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


def sight_of(plan: Plan, student: Student, footage: Footage) -> Sight:
    """What the network sees; looked at once for each state of stage 2."""
    path = plan.work / "sight.pt"
    if path.exists() and path.stat().st_mtime > (plan.work / "tune.pt").stat().st_mtime:
        return cast(Sight, torch.load(path, weights_only=False))
    sight = look(student, footage, np.random.default_rng(plan.seed))
    save_atomically(sight, path)
    return sight


def load_student(path: Path, classes: int) -> Student:
    """The student of a stage's state, with the mean of its weights where there is one, in float32."""
    state = torch.load(path, weights_only=False, map_location="cpu")["trainee"]
    weights = state["ema"] or state["master"]
    model = Imitator(Student(student_sizes(classes)), weights["to_label.bias"].numel())
    model.load_state_dict(weights)
    return model.student.eval()


def to_checkpoint(student: Student, shipped: Shipped) -> Checkpoint:
    """The trained network with everything that a scan has to know of it."""
    spec = ModelSpec(
        name="starter",
        sizes=student.swin.sizes,
        labels=(*shipped.labels, NONE_OF_THESE),
        frames=FRAMES,
        rate=RATE,
        short_side=CROP,
        crop=CROP,
        label_thresholds=shipped.limits,
        merged_from=shipped.merged_from,
        source="trained from scratch by vtag.trainer.recipes.starter",
        licence=LICENCE,
    )
    return Checkpoint(spec, student.swin.arrays())


def measure_release(plan: Plan, footage: Footage) -> dict[str, Any]:
    """What `vtag eval --protocol test --among-classes` and `vtag scan` find with the model that was written."""
    held = [footage.stores["train"].items[i] for i in held_clips(footage)]
    clips = tuple(LabelledClip(item.path, label_from_name(item.label), item.source) for item in held)
    dataset = Dataset(clips, tuple(sorted({clip.label for clip in clips})))
    backend = open_backend(plan.out, precision="fp32")
    *_, found = evaluate(dataset, backend, protocol="test", among_classes=True)
    assert isinstance(found, Evaluation)
    return {
        "held_back": {
            "sources": len({clip.source for clip in clips}),
            "clips": found.clips,
            "top1": found.top1,
            "top5": found.top5,
            "mean_class_accuracy": found.mean_class_accuracy,
            "labels": {
                name: {"clips": r.clips, "right": r.right, "said": dict(r.predictions)}
                for name, r in found.labels.items()
            },
        },
        "held_back_scanned": check_footage(plan, [(clip.path, clip.label) for clip in clips]),
        "other_footage": check_footage(plan, other_footage(plan.shared / "clips")),
        "teacher": measure_teacher(plan, footage),
    }


def measure_teacher(plan: Plan, footage: Footage) -> dict[str, float]:
    """What the teacher of clips, who did not see their sources, says of those held back; labels merged as shipped."""
    shares = torch.load(plan.work / "opinions.pt", weights_only=False).both
    chosen, store = held_clips(footage), footage.stores["train"]
    labels = sorted({store.items[i].label for i in chosen})
    columns = [footage.clip_labels.index(label) for label in labels]
    truth = np.array([labels.index(store.items[i].label) for i in chosen])
    return asdict(held_numbers(shares[torch.from_numpy(chosen)][:, columns].numpy(), truth, labels))


def check_footage(plan: Plan, shown: Sequence[tuple[Path, str]]) -> dict[str, Any]:
    """What a scan says of videos at the thresholds; with each video goes what it shows, or another name."""
    checkpoint = load_checkpoint(plan.out)
    names = {label_from_name(label): label for label in checkpoint.spec.labels}
    for label, parts in checkpoint.spec.merged_from.items():
        names.update(dict.fromkeys(parts, label))
    wrong: list[tuple[str, str, float]] = []
    known = right = videos = milliseconds = 0
    database = plan.work / "check.db"
    database.unlink(missing_ok=True)
    with Library.open(database) as library:
        register_model(library, checkpoint, str(plan.out))
        for _ in scan(library, [os.fsencode(path) for path, _ in shown], checkpoint, ScanOptions()):
            pass
        for path, label in shown:
            content = search.content_at_path(library.connection, os.fsencode(path))
            if content is None or content.duration_ms is None:
                continue
            own = names.get(label_from_name(label))
            moments = search.content_moments(library.connection, content.id)
            videos, milliseconds = videos + 1, milliseconds + content.duration_ms
            known, right = known + (own is not None), right + any(m.label == own for m in moments)
            wrong += [(path.name, m.label, round(m.score, 4)) for m in moments if m.label != own]
    hours = milliseconds / 3_600_000
    return {
        "videos": videos,
        "hours": hours,
        "wrong_moments": wrong,
        "wrong_moments_an_hour": len(wrong) / hours,
        "videos_of_known_actions": known,
        "found": right,
    }


def other_footage(folder: Path) -> list[tuple[Path, str]]:
    """Videos whose names begin with what they show; the one with many actions is left out."""
    paths = (path for path in sorted(folder.iterdir()) if not path.name.startswith("mixed-actions"))
    return [(path, path.stem.split("__")[0]) for path in paths]
