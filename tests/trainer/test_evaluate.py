"""`vtag eval`: for every clip what `vtag predict` says, summed up; labels that mean the same; what cannot be read."""

from __future__ import annotations

import json
import string
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import make_model
from hypothesis import given
from hypothesis import strategies as st

from vtag.app.commands.evaluate import put_confusions
from vtag.engine.backends.factory import open_backend
from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.models.registry import load_model
from vtag.engine.predict import predict
from vtag.engine.swin.config import NONE_OF_THESE, ModelSpec, SwinSizes
from vtag.trainer.data.dataset import Dataset, DatasetError, LabelledClip, read_dataset
from vtag.trainer.evaluation.evaluate import (
    ClipFailed,
    Evaluation,
    EvaluationProgress,
    LabelResult,
    evaluate,
    label_indices,
)

Run = Callable[..., "subprocess.CompletedProcess[str]"]
LABELS = ("archery", "riding a bike", "yoga", NONE_OF_THESE)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips under labels that the model has, has not, and calls otherwise; and one that is no video."""
    folder = tmp_path_factory.mktemp("evaluate")
    make_model(folder / "model", seed=3, labels=LABELS)
    for number, name in enumerate(("archery", "riding_a_bike", "Yoga", "juggling", "none_of_these")):
        (folder / "data" / name).mkdir(parents=True)
        for i in range(2):
            file = folder / "data" / name / f"{name}{i}.mp4"
            make_video(file, seconds=1 + i, fps=16, width=64, height=48, seed=10 * number + i)
    (folder / "data" / "yoga").mkdir(exist_ok=True)
    (folder / "data" / "yoga" / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.mark.parametrize("protocol", ["clip", "test"])
@pytest.mark.parametrize("among", [False, True])
def test_every_clip_is_judged_as_predict_does(material: Path, protocol: str, among: bool) -> None:
    dataset = read_dataset(material / "data")
    backend = open_backend(material / "model", device="cpu", precision="fp32")
    *events, evaluation = evaluate(
        dataset, backend, protocol="test" if protocol == "test" else "clip", among_classes=among
    )
    assert isinstance(evaluation, Evaluation)
    allowed = {"archery", "riding a bike", "yoga"}
    right, in_top5, predictions = 0, 0, {}
    clips = [clip for clip in dataset.clips if clip.path.stem != "broken" and clip.label != NONE_OF_THESE]
    for clip in clips:
        classes = predict(clip.path, backend, protocol=protocol, top=len(LABELS))
        # among three of four labels the order is the same but for the share of the one that is left out
        best = [c.label for c in classes if c.label in allowed]
        predictions.setdefault(clip.label, []).append(best[0])
        right += best[0] == clip.label.lower()
        in_top5 += clip.label.lower() in best
    assert evaluation.clips == len(clips) == 8
    if protocol == "clip" or not among:  # averaged shares may change the order where one label is left out
        assert evaluation.top1 == right / 8
        assert {k: sorted(v) for k, v in predictions.items()} == {
            k: sorted(name for name, n in row.predictions.items() for _ in range(n))
            for k, row in evaluation.labels.items()
        }
    assert evaluation.top5 == in_top5 / 8 == 6 / 8  # juggling is never right
    assert evaluation.mean_class_accuracy == pytest.approx(
        np.mean([row.right / row.clips for row in evaluation.labels.values()])
    )
    assert [f.path.name for f in evaluation.failures] == ["broken.mp4"]
    assert sum(isinstance(e, ClipFailed) for e in events) == 1
    assert [e.done for e in events if isinstance(e, EvaluationProgress)] == list(range(1, 9))


def test_shares_are_made_among_the_chosen_labels_before_views_are_averaged(material: Path) -> None:
    dataset = read_dataset(material / "data")
    backend = open_backend(material / "model", device="cpu", precision="fp32")
    only = replace(
        dataset, clips=tuple(c for c in dataset.clips if c.label == "archery"), labels=("archery",)
    )
    *_, evaluation = evaluate(only, backend, protocol="test", among_classes=True)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.top1 == 1.0  # there is no other choice


def test_the_command_prints_one_document_and_counts_failures(vtag: Run, material: Path) -> None:
    run = vtag("eval", material / "data", "--model", material / "model", "--json")
    assert run.returncode == 3
    document = json.loads(run.stdout)
    assert {"top1", "top5", "mean_class_accuracy", "clips", "failed"} <= set(document)
    assert document["clips"] == 8 and document["protocol"] == "clip" and document["precision"] == "fp32"
    assert [Path(f["path"]).name for f in document["failed"]] == ["broken.mp4"]
    assert "the model does not know juggling" in run.stderr
    assert "broken.mp4" in run.stderr and "Traceback" not in run.stderr
    text = vtag("eval", material / "data", "--model", material / "model", "--protocol", "test")
    assert text.returncode == 3
    assert "protocol test (4 clips x 3 crops, averaged)" in text.stdout
    assert "of 8 clips" in text.stdout


@pytest.mark.parametrize("width", [80, 200])
def test_confusions_are_a_matrix_where_that_has_room_else_a_list(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A merged label has the number of its column, and is not taken for itself."""
    rows = {name: LabelResult(2, 1, name, {name: 1, "sit or stand": 1}) for name in string.ascii_lowercase}
    rows["stand"] = LabelResult(5, 3, "sit or stand", {"sit or stand": 3, "b": 2})
    rows["juggling"] = LabelResult(1, 0, None, {"a": 1})
    monkeypatch.setenv("COLUMNS", str(width))
    put_confusions(Evaluation(0.5, 0.5, 0.5, 58, (), rows))
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    columns = sorted({*string.ascii_lowercase, "sit or stand"})
    number = columns.index("sit or stand") + 1
    if width == 200:
        assert lines[0] == ["label", "clips", "right", *map(str, range(1, 28))]
        (line,) = (line for line in lines if "stand" in line)
        assert line[:2] == [str(number), "stand"]
        assert line[5:] == ["2" if c == "b" else "3" if c == "sit or stand" else "·" for c in columns]
        assert next(line for line in lines if "juggling" in line)[:4] == ["juggling", "1", "0.0", "%"]
    else:
        assert lines[0] == ["label", "clips", "right", "taken", "for"]
        assert ["stand", "5", "60.0", "%", "b", "2"] in lines
        assert ["b", "2", "50.0", "%", "sit", "or", "stand", "1"] in lines
        assert ["juggling", "1", "0.0", "%", "a", "1"] in lines


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere"], 1, "there is no folder"),
        (["data", "--protocol", "best"], 2, "best"),
        (["broken"], 1, "none of the clips could be read"),
    ],
)
def test_wrong_arguments_are_one_line(
    vtag: Run, material: Path, arguments: list[str], code: int, message: str
) -> None:
    (material / "broken" / "yoga").mkdir(parents=True, exist_ok=True)
    (material / "broken" / "yoga" / "x.mp4").write_bytes(b"no")
    run = vtag("eval", material / arguments[0], *arguments[1:], "--model", material / "model")
    assert run.returncode == code
    assert message in run.stderr
    assert "Traceback" not in run.stderr and not run.stdout


def test_there_has_to_be_something_to_compare(material: Path) -> None:
    backend = open_backend(material / "model", device="cpu", precision="fp32")
    with pytest.raises(DatasetError):
        list(evaluate(Dataset((), ()), backend))


@given(st.permutations(["high jump", "High Jump 2", "dive"]), st.booleans())
def test_labels_that_mean_the_same(labels: list[str], underscored: bool) -> None:
    sizes = SwinSizes(embed_dim=8, depths=(1,), num_heads=(1,), num_classes=3)
    spec = ModelSpec(name="m", sizes=sizes, labels=tuple(labels), merged_from={"dive": ["shoot_gun", "dive"]})

    def index_of(name: str, index: int | None = None) -> int | None:
        written = name.replace(" ", "_") if underscored and index is None else name
        label = " ".join(written.replace("_", " ").split())
        return label_indices(Dataset((LabelledClip(Path("x"), label, "x", index),), (label,)), spec)[label]

    assert index_of("high jump") == labels.index("high jump")
    assert index_of("HIGH jump 2") == labels.index("High Jump 2")
    assert index_of("shoot gun") == index_of("dive") == labels.index("dive")
    assert index_of("juggling") is None
    assert index_of("class 2", 2) == 2
    assert index_of("class 3", 3) is None


def test_a_merged_label_counts_through_the_model_folder(material: Path, tmp_path: Path) -> None:
    checkpoint = load_model(material / "model")
    spec = replace(checkpoint.spec, merged_from={label: ["juggling"] for label in LABELS[:1]})
    backend = open_backend(Checkpoint(spec, checkpoint.tensors), device="cpu", precision="fp32")
    dataset = read_dataset(material / "data")
    *_, evaluation = evaluate(dataset, backend)
    assert isinstance(evaluation, Evaluation)
    assert evaluation.labels["juggling"].known_as == LABELS[0]
    assert evaluation.top5 == 1.0
