"""Stages `release` and `sure`: the shipped head, its thresholds, the model folder, and its measured numbers."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vtag.engine.backends.factory import open_backend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.checkpoints.load import load_checkpoint, save_model_folder
from vtag.engine.checkpoints.model_folder import require_place
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.search import moments as search
from vtag.engine.library.search.contents import content_at_path
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.scan import ScanOptions, scan
from vtag.engine.swin.config import NONE_OF_THESE, ModelSpec
from vtag.engine.system.atomic_write import write_atomically
from vtag.trainer.data.dataset import Dataset, LabelledClip, label_from_name
from vtag.trainer.evaluation.evaluate import Evaluation, evaluate
from vtag.trainer.recipes.starter.action_head import Shipped, ship_head
from vtag.trainer.recipes.starter.clips import FRAMES
from vtag.trainer.recipes.starter.material import Footage, open_footage
from vtag.trainer.recipes.starter.measure import held_clips, held_numbers, measure_held, measure_pictures
from vtag.trainer.recipes.starter.scan_windows import RATE
from vtag.trainer.recipes.starter.states import Plan, load_student
from vtag.trainer.recipes.starter.student import CROP, Student, student_sizes
from vtag.trainer.recipes.starter.sure import Sure, calibrate, classes_of, score_held

log = logging.getLogger(__name__)

LICENCE = "research footage and pictures of several data sets: see README.md beside this file"


def release(plan: Plan) -> None:
    """Write `plan.out` (float16 weights, model.json) and `numbers.json` with all that was measured."""
    require_place(plan.out)  # before minutes of measuring
    footage = open_footage(plan.work, seed=plan.seed)
    student = made_student(plan, len(footage.labels) + 1)
    apart = measure_held(student, footage)
    precision = measure_pictures(quick(student), footage, np.random.default_rng(plan.seed))
    shipped = ship_head(student, footage, precision)
    level = ask_sure(student, to_spec(student, shipped), footage)
    write_model(plan, Checkpoint(to_spec(student, shipped, level.thresholds), student.swin.arrays()))
    numbers = {
        **measure_release(plan, footage),
        "sure": asdict(level),
        "pictures": {
            label_from_name(label): {"precision_of_first_ten": first, "average_precision": mean}
            for label, (first, mean) in precision.items()
        },
    }
    numbers["held_back"]["with_no_label_merged"] = asdict(apart)
    write_numbers(plan, numbers)
    log.info("release: top-1 %.1f %%, %s", 100 * numbers["held_back"]["top1"], numbers["other_footage"])


def sure(plan: Plan) -> None:
    """Set the thresholds of the model that lies in `plan.out` anew, and measure what they let through."""
    footage = open_footage(plan.work, seed=plan.seed)
    checkpoint = load_checkpoint(plan.out)
    level = ask_sure(to_student(checkpoint), checkpoint.spec, footage)
    write_model(plan, replace(checkpoint, spec=replace(checkpoint.spec, label_thresholds=level.thresholds)))
    numbers = json.loads((plan.out / "numbers.json").read_text(encoding="utf-8"))
    numbers |= measure_scans(plan, footage)
    numbers["sure"] = asdict(level)
    write_numbers(plan, numbers)
    log.info("sure: by folds %.1f right of %.1f said, of %d", level.right, level.said, level.of)


def ask_sure(student: Student, spec: ModelSpec, footage: Footage) -> Sure:
    """The thresholds of the labels."""
    filmed = [name for label, name in became_names(spec).items() if label in footage.clip_labels]
    return calibrate(score_held(quick(student), spec, footage), spec.labels[:-1], filmed)


def became_names(spec: ModelSpec) -> dict[str, str]:
    """For each folder of clips or pictures that the head knows the label that it has for it."""
    return {name.replace(" ", "_"): spec.labels[k] for name, k in classes_of(spec).items()}


def quick(student: Student) -> Student:
    """A copy in bf16."""
    return copy.deepcopy(student).to(torch.bfloat16).eval()


def write_model(plan: Plan, checkpoint: Checkpoint) -> None:
    """Write the model folder and keep what a person wrote in it, and the numbers: the folder is replaced whole."""
    kept = {name: plan.out / name for name in ("README.md", "numbers.json")}
    written = {name: path.read_bytes() for name, path in kept.items() if path.exists()}
    save_model_folder(checkpoint, plan.out, dtype=np.float16)
    for name, content in written.items():
        kept[name].write_bytes(content)


def write_numbers(plan: Plan, numbers: Mapping[str, Any]) -> None:
    """Write `numbers.json` beside the model."""
    write_atomically(plan.out / "numbers.json", (json.dumps(numbers, indent=1) + "\n").encode())


def made_student(plan: Plan, classes: int) -> Student:
    """What stage `head` or `tune` made, in float32."""
    if plan.tuned:
        return load_student(plan.work / "tune.pt", classes)
    student = Student(student_sizes(classes))
    student.load_state_dict(torch.load(plan.work / "head.pt"))
    return student.eval()


def to_student(checkpoint: Checkpoint) -> Student:
    """The student that has a model folder's weights."""
    student = Student(checkpoint.spec.sizes)
    student.swin.load_state_dict(
        {name: torch.from_numpy(array.astype(np.float32)) for name, array in checkpoint.tensors.items()}
    )
    return student.eval()


def to_spec(student: Student, shipped: Shipped, thresholds: Mapping[str, float] | None = None) -> ModelSpec:
    """All that a scan has to know of the trained network besides its weights."""
    return ModelSpec(
        name="starter",
        sizes=student.swin.sizes,
        labels=(*shipped.labels, NONE_OF_THESE),
        frames=FRAMES,
        rate=RATE,
        short_side=CROP,
        crop=CROP,
        label_thresholds=thresholds or {},
        merged_from=shipped.merged_from,
        source="trained from scratch by vtag.trainer.recipes.starter",
        licence=LICENCE,
    )


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
        **measure_scans(plan, footage),
        "teacher": measure_teacher(plan, footage),
    }


def measure_scans(plan: Plan, footage: Footage) -> dict[str, Any]:
    """What a scan is sure of in the held-back clips and in other videos."""
    held = [footage.stores["train"].items[i] for i in held_clips(footage)]
    return {
        "held_back_scanned": check_footage(plan, [(item.path, label_from_name(item.label)) for item in held]),
        "other_footage": check_footage(plan, other_footage(plan.shared / "clips")),
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
    with LibraryWriter.open(database) as library:
        register_model(library, checkpoint, str(plan.out))
        for _ in scan(library, [os.fsencode(path) for path, _ in shown], checkpoint, ScanOptions()):
            pass
        for path, label in shown:
            content = content_at_path(library.connection, os.fsencode(path))
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
