"""The story of a library as a state machine: no annotation is lost, in whatever order things happen."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from helpers.footage import make_video
from helpers.library_scan import rewrite_metadata, run_scan
from helpers.small_model import make_model
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_file, annotation_log, undo_redo
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance import clean
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import files, heads

NAMES = ("a.mp4", "b.mp4", "c.mp4")
FOLDERS = ("one", "two")
EVERYTHING = 'archery OR "riding a bike" OR yoga OR grandma'


class Years(RuleBasedStateMachine):
    """Files, what happens to them, and a person's annotations, compared with a model of them in plain Python."""

    material: Path  # with videos 0.mp4 to 3.mp4, and models

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(dir=self.material))
        self.library = LibraryWriter.open(self.home / "library" / "library.db")
        self.files: dict[str, int] = {}  # path below the root to the number of the video
        # after each change, without those undone
        self.annotations: list[set[annotation_log.Annotation]] = [set()]
        self.observed: set[tuple[int, str]] = set()  # (video, model) that may have an observation
        self.surely_observed: set[tuple[int, str]] = set()  # (video, model) that must have one
        self.tagger = 0

    def teardown(self) -> None:
        self.library.close()
        shutil.rmtree(self.home)

    @property
    def root(self) -> Path:
        return self.home / "videos"

    @initialize()
    def begin(self) -> None:
        for folder in FOLDERS:
            (self.root / folder).mkdir(parents=True)
        self.put("one/a.mp4", 0)
        self.scan("first")

    def put(self, name: str, video: int) -> None:
        shutil.copyfile(self.material / f"{video}.mp4", self.root / name)
        self.files[name] = video

    @rule(folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), video=st.integers(0, 3))
    def add_or_replace(self, folder: str, name: str, video: int) -> None:
        self.put(f"{folder}/{name}", video)

    @precondition(lambda self: self.files)
    @rule(data=st.data(), folder=st.sampled_from(FOLDERS), name=st.sampled_from(NAMES), copy=st.booleans())
    def move_or_copy(self, data: st.DataObject, folder: str, name: str, copy: bool) -> None:
        source, target = data.draw(st.sampled_from(sorted(self.files))), f"{folder}/{name}"
        if source != target:
            (shutil.copy if copy else os.replace)(self.root / source, self.root / target)
            self.files[target] = self.files[source] if copy else self.files.pop(source)

    @rule()
    def swap_folders(self) -> None:
        one, two, temporary = self.root / "one", self.root / "two", self.root / "aside"
        one.rename(temporary), two.rename(one), temporary.rename(two)
        turned = {"one": "two", "two": "one"}
        self.files = {f"{turned[p.split('/')[0]]}/{p.split('/')[1]}": v for p, v in self.files.items()}

    @precondition(lambda self: self.files)
    @rule(data=st.data())
    def rewrite_a_container(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        self.tagger += 1
        rewrite_metadata(self.root / name, f"holiday {self.tagger}")

    @precondition(lambda self: len(self.files) > 1)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        (self.root / name).unlink()
        del self.files[name]

    @precondition(lambda self: self.files)
    @rule(model=st.sampled_from(["first", "first", "second"]))
    def scan(self, model: str) -> None:
        summary = run_scan(self.library, self.material / model, self.root)
        current = {(video, model) for video in self.files.values()}
        # of two files of one video, a scan may observe both if one was rewritten
        max_scanned = 0 if current <= self.surely_observed else len(self.files)
        assert len(current - self.observed) <= summary.scanned <= max_scanned
        self.observed |= current
        self.surely_observed |= current

    @rule()
    def retag(self) -> None:
        model = heads.library_model(self.library)
        assert model is not None
        heads.set_model_threshold(self.library, model, 0.05)
        list(derive.retag(self.library, model))

    @precondition(lambda self: self.files)
    @rule(data=st.data(), span=st.sampled_from([(None, None), (0, 400), (300, 900)]))
    def annotate(self, data: st.DataObject, span: tuple[int | None, int | None]) -> None:
        name = data.draw(st.sampled_from(sorted(self.files)))
        content = files.register_file(self.library, os.fsencode(self.root / name))
        self.record_change(annotation_log.add(self.library, content, "grandma", *span))

    @rule(data=st.data(), action=st.sampled_from(["confirm", "reject", "rename"]))
    def judge(self, data: st.DataObject, action: str) -> None:
        moments = search(self.library.connection, EVERYTHING, limit=100)
        if moments:
            moment = data.draw(st.sampled_from(moments))
            if action == "rename":
                if moment.label != "unicycle":
                    self.record_change(annotation_log.rename(self.library, [moment.id], "unicycle"))
            else:
                self.record_change(getattr(annotation_log, action)(self.library, [moment.id]))

    @precondition(lambda self: len(self.annotations) > 1)
    @rule()
    def undo(self) -> None:
        undo_redo.undo(self.library)
        self.annotations.pop()

    @rule()
    def clean_up(self) -> None:
        orphans = clean.plan_clean(self.library)
        clean.clean(self.library, orphans)
        # a video without a file is scanned again if it comes back
        present = set(self.files.values())
        self.observed = {entry for entry in self.observed if entry[0] in present}
        # a rewritten file that was annotated before a scan is not known to show the same as a removed content
        self.surely_observed = set() if orphans.contents else self.surely_observed & self.observed

    @rule()
    def import_the_export(self) -> None:
        lines = [line.encode() for line in annotation_file.export_lines(self.library.connection)]
        assert annotation_file.import_lines(self.library, lines, "f")[0].id == 0

    @rule()
    def restart(self) -> None:
        path = self.library.path
        self.library.close()
        self.library = LibraryWriter.open(path)

    def record_change(self, change: annotation_log.AnnotationChange) -> None:
        if change.id:
            self.annotations.append((self.annotations[-1] - set(change.before)) | set(change.after))

    @invariant()
    def no_annotation_is_lost(self) -> None:
        assert set(annotation_log.list_annotations(self.library.connection)) == self.annotations[-1]

    @invariant()
    def rejected_segments_stay_rejected(self) -> None:
        for segment in self.library.connection.execute(
            "SELECT s.start_ms, s.end_ms, s.verdict, l.name, c.key FROM segments s "
            "JOIN labels l ON l.id = s.label_id JOIN contents c ON c.id = s.content_id WHERE s.model_id IS NOT NULL"
        ):
            start, end, verdict, label, key = segment
            matching = [w for w in self.annotations[-1] if (w.content, w.label) == (key, label)]
            if matching and (last := max(matching, key=lambda w: w.said_at)).verdict == "rejected":
                half = min(end, last.end_ms or end) - max(start, last.start_ms or 0) >= (end - start) / 2
                assert not half or verdict == "rejected" or _has_duplicates(self.library, key)


def _has_duplicates(library: LibraryWriter, key: str) -> bool:
    """Whether another content shows the same, whose annotations count here, too, and may be later."""
    row: Any = library.connection.execute(
        "SELECT count(*) FROM contents a JOIN contents b ON b.packets_key = a.packets_key WHERE a.key = ?",
        (key,),
    ).fetchone()
    return int(row[0]) > 1


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    for video in range(4):
        make_video(folder / f"{video}.mp4", seconds=1, seed=video, width=64, height=48)
    for seed, name in enumerate(("first", "second")):
        make_model(folder / name, seed=seed)
    return folder


def run(material: Path, examples: int, steps: int) -> None:
    Years.material = material
    run_state_machine_as_test(
        Years,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_no_annotation_is_lost_whatever_happens(material: Path) -> None:
    run(material, 3, 10)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_no_annotation_is_lost_in_long_runs(material: Path) -> None:
    run(material, 60, 30)
