"""Tags from a person's words: what was confirmed teaches, what was rejected is unlearned, nothing is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.library_factory import MADE_BY, add_video
from helpers.small_model import make_model

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.analysis.head_preview import preview_model
from vtag.engine.library.analysis.tag_line import LIKELY
from vtag.engine.library.analysis.tag_preview import preview_tag, score_tag
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.page_queries import label_annotations
from vtag.engine.library.search.labels import set_label_threshold
from vtag.engine.library.store import observations
from vtag.engine.models.registry import load_model
from vtag.trainer.data.dataset import Dataset, DatasetError
from vtag.trainer.evaluation.head_metrics import FinetuneResult
from vtag.trainer.heads.examples import examples_from_annotations
from vtag.trainer.heads.finetune import FinetuneBase, FinetuneSettings, finetune

SAMPLING = "v1 8@8 every 1000ms center 40/32"
DIVE, JUMP = 0, 1  # the directions in which the features of what is shown point
WINDOWS = 10  # of a second each


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    return load_model(make_model(tmp_path_factory.mktemp("words") / "base", seed=3))


def see(
    library: LibraryWriter, base: Checkpoint, folder: Path, number: int, directions: dict[int, int]
) -> int:
    """A video that shows a thing in some windows (window -> direction); the content's id."""
    content_id = add_video(library, folder / f"{number}.mp4", seed=number, is_scanned=False, windows=WINDOWS)
    key = library.connection.execute("SELECT key FROM contents WHERE id = ?", (content_id,)).fetchone()[0]
    rng = np.random.default_rng(number)
    features = 0.3 * rng.normal(size=(WINDOWS, 1, base.spec.sizes.feature_dim)).astype(np.float32)
    for window, direction in directions.items():
        features[window, 0, direction] += 4
    spans = np.array([(i * 1000, i * 1000 + 1000) for i in range(WINDOWS)])
    observations.add(library, key, base.spec.backbone_hash, SAMPLING, spans, features, MADE_BY)
    return content_id


@pytest.fixture
def annotated(library: LibraryWriter, base: Checkpoint, tmp_path: Path) -> Iterator[LibraryWriter]:
    """Four videos with a dive and four with a jump that a person named; sixty that nobody looked into."""
    for number in range(4):
        annotation_log.add(library, see(library, base, tmp_path / "v", number, {2: DIVE}), "dive", 2100, 2900)
        jump = see(library, base, tmp_path / "v", 10 + number, {5: JUMP, 6: JUMP})
        annotation_log.add(library, jump, "jump", 5000, 7000)
    for number in range(20, 80):
        see(library, base, tmp_path / "v", number, {1: DIVE} if number == 20 else {})
    yield library


def teach(library: LibraryWriter, base: Checkpoint, out: Path) -> FinetuneResult:
    *_, taught = finetune(
        Dataset((), ()),
        FinetuneBase(base, "base"),
        out,
        FinetuneSettings(device="cpu"),
        library=library,
        from_library=True,
    )
    assert isinstance(taught, FinetuneResult)
    return taught


def test_words_become_examples_by_what_they_cover(annotated: LibraryWriter, base: Checkpoint) -> None:
    examples = examples_from_annotations(annotated, base)
    assert sorted(clip.label for clip in examples.clips) == ["dive"] * 4 + ["jump"] * 4
    starts = {examples.clips[n].label: set() for n in range(8)}
    for (start, _), owner in zip(examples.features.windows, examples.features.owner, strict=True):
        starts[examples.clips[owner].label].add(int(start))
    assert starts == {"dive": {2000}, "jump": {5000, 6000}}
    assert len({clip.source for clip in examples.clips}) == 8
    assert not len(examples.rejected.values) and not examples.remarks


def test_what_was_named_is_found_elsewhere_and_the_rest_is_silent(
    annotated: LibraryWriter, base: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vtag.engine.models.registry.locate_model", lambda model: tmp_path / "nowhere")
    taught = teach(annotated, base, tmp_path / "model")
    assert {label: row.clips for label, row in taught.labels.items()} == {"dive": 4, "jump": 4}
    assert taught.accuracy == 1.0
    assert taught.negative_hours > 0
    model = _with_head(base, tmp_path / "model")
    rows = preview_model(annotated, model)
    by_label = {label: {Path(row[0]).name for row in rows if row[1] == label} for label in ("dive", "jump")}
    assert "20.mp4" in by_label["dive"]  # nobody had named it
    assert {f"{n}.mp4" for n in range(4)} <= by_label["dive"] <= {f"{n}.mp4" for n in (0, 1, 2, 3, 20)}
    assert by_label["jump"] == {f"{10 + n}.mp4" for n in range(4)}


def _with_head(base: Checkpoint, folder: Path) -> Checkpoint:
    from vtag.engine.checkpoints.model_folder import read_head_folder

    return read_head_folder(folder, base)


def test_what_was_rejected_is_unlearned(annotated: LibraryWriter, base: Checkpoint, tmp_path: Path) -> None:
    decoy = see(annotated, base, tmp_path / "v", 90, {3: DIVE})
    key = annotated.connection.execute("SELECT key FROM contents WHERE id = ?", (decoy,)).fetchone()[0]
    observation = observations.get(annotated, key, base.spec.backbone_hash, SAMPLING)
    assert observation is not None
    features = observation.features.astype(np.float32).copy()
    features[3, 0, 2] = 4.0  # what gives it away
    observations.add(
        annotated,
        key,
        base.spec.backbone_hash,
        SAMPLING,
        observation.windows,
        features,
        MADE_BY,
        replace=True,
    )
    annotation_log.add(annotated, decoy, "dive", 3000, 4000)
    score = []
    for name in ("before", "after"):
        teach(annotated, base, tmp_path / name)
        model = _with_head(base, tmp_path / name)
        logits = features[3, 0] @ model.tensors["head.weight"].T + model.tensors["head.bias"]
        shares = np.exp(logits - logits.max())
        score.append(float(shares[model.spec.labels.index("dive")] / shares.sum()))
        moment = annotated.connection.execute(
            "SELECT id FROM segments WHERE content_id = ?", (decoy,)
        ).fetchone()
        if moment:
            annotation_log.reject(annotated, [moment[0]])
    examples = examples_from_annotations(annotated, base)
    assert examples.rejected.windows.tolist() == [[3000, 4000]]
    assert score[0] > 0.5 > 2 * score[1]


@pytest.mark.parametrize("tags", [1, 3])
def test_what_is_unlike_all_examples_is_not_sure(
    library: LibraryWriter, base: Checkpoint, tmp_path: Path, tags: int
) -> None:
    """A library that holds the examples alone; then videos of other directions come."""
    for tag in range(tags):
        for number in range(5):
            content = see(library, base, tmp_path / "v", 100 * tag + number, dict.fromkeys(range(10), tag))
            annotation_log.add(library, content, f"tag {tag}")
    taught = teach(library, base, tmp_path / "model")
    assert any("no other footage" in remark for remark in taught.remarks)
    assert all(row.threshold >= LIKELY for row in taught.labels.values())
    for direction in range(tags, base.spec.sizes.feature_dim):
        see(library, base, tmp_path / "v", 1000 + direction, dict.fromkeys(range(10), direction))
    see(library, base, tmp_path / "v", 2000, dict.fromkeys(range(10), 0))
    rows = preview_model(library, _with_head(base, tmp_path / "model"))
    new = {row.display for row in rows if int(Path(row.display).stem) >= 1000}
    assert {Path(display).name for display in new} <= {"2000.mp4"}
    scored = score_tag(library, tmp_path / "model", "tag 0").videos
    best = {Path(video.display).name: float(video.scores.max()) for video in scored}
    unlike = max(score for name, score in best.items() if int(Path(name).stem) in range(1000, 2000))
    assert best["2000.mp4"] > 0.5 > 2 * unlike


def test_a_tag_is_previewed_with_its_line_which_can_be_moved(
    annotated: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    content = see(annotated, base, tmp_path / "v", 90, {3: DIVE})
    annotation_log.record_verdict(annotated, content, "dive", "rejected", 3000, 4000)
    row = teach(annotated, base, tmp_path / "model").labels["dive"]
    assert len(row.yes) == 4 and len(row.no) == 5  # four jumps, and what was rejected
    scores = score_tag(annotated, tmp_path / "model", "dive")
    judged = label_annotations(annotated.connection, "dive")
    assert scores.line == scores.preset == row.threshold
    preview = preview_tag(scores, 0.001, judged, 100, held_out_scores=(row.yes, row.no))
    assert {Path(moment.display).name for moment in preview.above} >= {f"{n}.mp4" for n in (0, 1, 2, 3, 20)}
    assert content not in {moment.content_id for moment in preview.above}  # rejected, wherever the line is
    assert preview.line.found == len(preview.above) and preview.line.confirmed == 4
    strict = preview_tag(scores, 0.9999, judged, 100, held_out_scores=(row.yes, row.no))
    assert {Path(moment.display).name for moment in strict.above} == {f"{n}.mp4" for n in range(4)}
    assert "20.mp4" in {Path(moment.display).name for moment in strict.below}
    below = [moment.score for moment in strict.below if moment.verdict is None]
    assert below == sorted(below, reverse=True) and strict.line.below == below[0]
    set_label_threshold(annotated, "dive", 0.4)
    assert score_tag(annotated, tmp_path / "model", "dive").line == 0.4


def test_what_was_rejected_since_is_no_example(
    annotated: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    """Also where the range is not quite the same: a whole video, and all of it from its beginning to its end."""
    content = see(annotated, base, tmp_path / "v", 90, {3: DIVE})
    annotation_log.add(annotated, content, "dive")
    annotation_log.record_verdict(annotated, content, "dive", "rejected", 0, WINDOWS * 1000)
    examples = examples_from_annotations(annotated, base)
    assert len(examples.clips) == 8
    assert len(examples.rejected.windows) == WINDOWS
    annotation_log.add(annotated, content, "dive")
    assert len(examples_from_annotations(annotated, base).clips) == 9


def test_what_was_said_of_a_video_and_its_rewritten_copy_is_one_example(
    annotated: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    """Of the two files of one video, none may be trained on while the other is measured on."""
    files = [see(annotated, base, tmp_path / "v", number, {3: DIVE}) for number in (90, 91)]
    annotated.connection.execute("UPDATE contents SET packets_key = 'same' WHERE id IN (?, ?)", files)
    for content in files:
        annotation_log.add(annotated, content, "dive", 3000, 4000)
    annotation_log.add(annotated, files[1], "dive", 6000, 7000)
    clips = examples_from_annotations(annotated, base).clips
    assert len(clips) == 8 + 2 and len({clip.source for clip in clips}) == 8 + 1
    annotation_log.record_verdict(annotated, files[0], "dive", "rejected", 3000, 7000)
    assert len(examples_from_annotations(annotated, base).clips) == 8


def test_words_on_what_was_not_seen_are_counted_and_left_out(
    annotated: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    annotation_log.add(
        annotated, add_video(annotated, tmp_path / "v" / "unseen.mp4", seed=99, is_scanned=False), "dive"
    )
    examples = examples_from_annotations(annotated, base)
    assert len(examples.clips) == 8
    assert any("not scanned with this backbone" in remark for remark in examples.remarks)


def test_without_words_there_is_nothing_to_learn_from(
    library: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="no annotations of yours"):
        teach(library, base, tmp_path / "model")
