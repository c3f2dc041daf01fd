"""Stage `release`: measure by the judged protocol, set thresholds, write the model folder and its numbers."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from vtag.engine.swin.checkpoint import Checkpoint
from vtag.engine.swin.checkpoints import save_model_folder
from vtag.engine.swin.spec import NONE_OF_THESE, ModelSpec
from vtag.trainer.starter.data import Pixels, decode
from vtag.trainer.starter.imitate import Imitator
from vtag.trainer.starter.pipeline import Plan, load_material, measure
from vtag.trainer.starter.release import (
    RATE,
    WINDOW_STEP,
    Scores,
    found,
    scan_windows,
    thresholds,
    view_scores,
)
from vtag.trainer.starter.student import CROP, FRAMES, Student, student_sizes

log = logging.getLogger(__name__)

LICENCE = "research footage and pictures of several data sets: see README.md beside this file"


def release(plan: Plan) -> None:
    """Write `plan.out` (float16 weights, model.json) and `numbers.json` with all that was measured."""
    material = load_material(plan)
    student = load_student(plan.work / "tune.pt", len(material.labels) + 1)
    judged = measure(student, material)
    held = [material.footage[i] for i in np.flatnonzero(material.held)]
    truth = [int(k) for k in material.truth[material.held]]
    labels = [label.replace("_", " ") for label in material.labels]
    scores = [window_shares(student, footage[::WINDOW_STEP]) for footage in held]
    limits = thresholds(scores, truth, labels)
    numbers = {
        "held_back": {
            "sources": len({c.source for c, h in zip(material.clips, material.held, strict=True) if h}),
            "clips": len(truth),
            "top1": judged.top1,
            "top5": judged.top5,
            "mean_class_accuracy": judged.mean_class,
            "confusion": judged.confusion.tolist(),
        },
        "other_footage": check_footage(student, plan.shared / "clips", labels, limits),
        "labels": labels,
    }
    card = plan.out / "README.md"
    written = card.read_bytes() if card.exists() else b""
    save_model_folder(to_checkpoint(student, labels, limits), plan.out, dtype=np.float16)
    if written:  # the folder is replaced whole; a person wrote the card
        card.write_bytes(written)
    (plan.out / "numbers.json").write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    log.info("release: top-1 %.1f %%, %s", 100 * judged.top1, numbers["other_footage"])


def load_student(path: Path, classes: int) -> Student:
    """The student of a stage's state, with the mean of its weights where there is one, in float32."""
    state = torch.load(path, weights_only=False, map_location="cpu")["trainee"]
    weights = state["ema"] or state["master"]
    model = Imitator(Student(student_sizes(classes)), weights["to_label.bias"].numel())
    model.load_state_dict(weights)
    return model.student.eval()


def to_checkpoint(student: Student, labels: Sequence[str], limits: dict[str, float]) -> Checkpoint:
    """The trained network with everything that a scan has to know of it."""
    spec = ModelSpec(
        name="starter",
        sizes=student.swin.sizes,
        labels=(*labels, NONE_OF_THESE),
        frames=FRAMES,
        rate=RATE,
        short_side=CROP,
        crop=CROP,
        label_thresholds=limits,
        source="trained from scratch by vtag.trainer.starter",
        licence=LICENCE,
    )
    return Checkpoint(spec, student.swin.arrays())


def window_shares(student: Student, frames: Pixels) -> Scores:
    """Probabilities [N, K] of a video's windows; `frames` are RATE a second."""
    return torch.softmax(view_scores(student, scan_windows(frames)[None])[0], -1).numpy()


def check_footage(
    student: Student, folder: Path, labels: Sequence[str], limits: dict[str, float]
) -> dict[str, Any]:
    """What the thresholds let through on footage that set none of them; its labels stand in the file names.

    A file whose name holds no known label shows none of the actions; the one with many actions is left out.
    """
    scores, truth, seconds = [], [], 0.0
    for path in sorted(folder.iterdir()):
        if path.name.startswith("mixed-actions"):
            continue
        frames = at_rate(path)
        label = path.stem.split("__")[0].replace("_", " ")
        scores.append(window_shares(student, frames))
        truth.append(labels.index(label) if label in labels else len(labels))
        seconds += len(frames) / RATE
    right, wrong = found(scores, truth, [limits[label] for label in labels])
    return {
        "videos": len(scores),
        "hours": seconds / 3600,
        "wrong_moments": wrong,
        "wrong_moments_an_hour": wrong / (seconds / 3600),
        "videos_of_known_actions": sum(t < len(labels) for t in truth),
        "found": right,
    }


def at_rate(path: Path) -> Pixels:
    """A video's frames, RATE of them for each second (repeated where the video has fewer)."""
    frames = decode(path, most=2000)
    with av.open(str(path), metadata_errors="replace") as container:
        rate = float(container.streams.video[0].average_rate or 30)
    count = max(1, round(len(frames) * RATE / rate))
    return np.asarray(frames[(np.arange(count) * rate / RATE).astype(int).clip(0, len(frames) - 1)])
