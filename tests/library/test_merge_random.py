"""`vtag library merge` of random libraries: what two people and their machines did apart, in whatever order."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from helpers.library_factory import LABELS, SAMPLING, add_model, add_video
from helpers.library_rows import facts
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vtag.engine.errors import LibraryError
from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.check import check
from vtag.engine.library.maintenance.forget import forget, forget_replaced_models, plan_forget
from vtag.engine.library.merge.merge import merge
from vtag.engine.library.store import heads
from vtag.engine.swin.config import FINETUNED_PREFIX

VIDEOS = 4
_ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("a", "b")),
        st.sampled_from(("scan", "teach", "forget", "threshold", "say", "merge")),
        st.integers(0, VIDEOS - 1),
        st.sampled_from(LABELS[:3]),
    ),
    min_size=4,
    max_size=16,
)


def act(
    library: LibraryWriter, other: LibraryWriter, action: str, video: int, label: str, folder: Path, step: int
) -> None:
    """What a person or a machine does in a library; what is refused changes nothing."""
    path = folder / f"{video}.mp4"
    try:
        if action == "scan":
            add_video(library, path, seed=video)
            for model_id in model_ids(library):
                list(derive.retag(library, model_id))
        elif action == "teach":
            teach(library, seed=10 + step, date=f"2026-01-{step + 1:02}")
        elif action == "forget":
            forget(library, plan_forget(library, os.fsencode(path)), with_annotations=bool(step % 2))
        elif action == "threshold":
            library.connection.execute("UPDATE labels SET threshold = 0.3 WHERE name = ?", (label,))
            for model_id in model_ids(library):
                list(derive.retag(library, model_id))
        elif action == "say":
            key = library.connection.execute("SELECT id FROM contents ORDER BY key").fetchall()
            verdict = ("added", "confirmed", "rejected")[step % 3]
            span = ((None, None), (0, 2000), (1000, 3000))[step % 3]
            if key:
                annotation_log.record_verdict(library, key[video % len(key)][0], label, verdict, *span)
        else:
            merge(library, other.path)
    except LibraryError:
        pass


def model_ids(library: LibraryWriter) -> list[int]:
    return [row[0] for row in library.connection.execute("SELECT id FROM models ORDER BY id")]


def teach(library: LibraryWriter, *, seed: int, date: str) -> None:
    """Replace the model that a person taught here, as a training does."""
    model_id = add_model(library, seed=seed, name="mine")
    spec = json.dumps({"labels": list(LABELS), "source": f"{FINETUNED_PREFIX}m"})
    library.connection.execute(
        "UPDATE models SET spec = ?, added_at = ? WHERE id = ?", (spec, date, model_id)
    )
    list(derive.retag(library, model_id))
    forget_replaced_models(library, model_id)


def dump(library: LibraryWriter) -> list[str]:
    return [*library.connection.iterdump(), *library.observations.iterdump()]


@settings(max_examples=int(os.environ.get("N", "8")), deadline=None, suppress_health_check=list(HealthCheck))
@given(actions=_ACTIONS)
def test_all_that_two_sides_did_is_in_both_after_merges_in_both_directions(
    actions: list[tuple[str, str, int, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("both")
    with ExitStack() as stack:
        a, b = (stack.enter_context(LibraryWriter.open(folder / name / "library.db")) for name in "ab")
        for library in (a, b):
            heads.set_model_threshold(library, add_model(library), 0.4)
        for step, (side, action, *rest) in enumerate(actions):
            act(*((a, b) if side == "a" else (b, a)), action, *rest, folder / "v", step)
        videos = {row[0] for library in (a, b) for row in facts(library)["contents"]}
        merge(a, b.path)
        merge(b, a.path)
        rows, others = facts(a), facts(b)
        assert {row[0] for row in rows["contents"]} == videos
        for name in rows:
            if name != "labels":
                assert rows[name] == others[name], name
        assert all(row[2] == SAMPLING for row in rows["observations"])
        states = dump(a), dump(b)
        merge(a, b.path)
        merge(b, a.path)
        assert (dump(a), dump(b)) == states
        for library in (a, b):
            assert not [finding for finding in check(library.path) if finding.state == "wrong"]
            for model_id in model_ids(library):
                list(derive.retag(library, model_id))
        assert facts(a)["segments"] == rows["segments"]  # nothing was derived from older rules
