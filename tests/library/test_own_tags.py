"""A person's own tags are found in later scans with any model, as last taught, until they are forgotten."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from helpers.footage import make_video
from helpers.small_model import make_model

from vtag.engine.checkpoints.checkpoint import Checkpoint
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.maintenance.forget import forget_model, forget_replaced_models
from vtag.engine.library.search.moments import search
from vtag.engine.library.store import heads
from vtag.engine.models.registry import load_model
from vtag.engine.scan.model_selection import register_model, resolve_model_id
from vtag.engine.scan.options import ScanOptions
from vtag.engine.scan.scan import scan
from vtag.trainer.data.dataset import read_dataset
from vtag.trainer.heads.finetune import FinetuneBase, FinetuneSettings, finetune


def striped_frame(width: int) -> Callable[[int], np.ndarray]:
    """Stripes that even random weights can tell from noise."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, np.arange(64) // width % 2 == 0, 0] = 255
    return lambda _: picture


def clip(file: Path, draw: Callable[[int], np.ndarray], seconds: float = 2) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    make_video(file, seconds=seconds, fps=8, width=64, height=48, draw=draw)


@pytest.fixture
def base(tmp_path: Path) -> Checkpoint:
    return load_model(make_model(tmp_path / "base", seed=3))


def scan_folder(library: LibraryWriter, base: Checkpoint, folder: Path) -> None:
    register_model(library, base, "base")
    list(scan(library, [os.fsencode(folder)], base, ScanOptions(device="cpu")))


def teach(library: LibraryWriter, base: Checkpoint, data: Path, out: Path) -> None:
    """As `vtag finetune` and `vtag retag --model` do."""
    *_, _ = finetune(
        read_dataset(data),
        FinetuneBase(base, str(data.parent / "base")),
        out,
        FinetuneSettings(device="cpu"),
        library=library,
    )
    model = resolve_model_id(library, str(out))
    list(derive.retag(library, model))
    forget_replaced_models(library, model)


def files_with(library: LibraryWriter, label: str) -> set[str]:
    return {Path(os.fsdecode(moment.path)).name for moment in search(library.connection, f'label:"{label}"')}


def test_own_tags_are_found_in_later_scans(library: LibraryWriter, base: Checkpoint, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for number in range(4):
        noise = np.repeat(rng.integers(60, 200, (48, 64, 1), np.uint8), 3, axis=2)
        clip(tmp_path / "seen" / f"noise{number}.mp4", lambda _, n=noise: n, 20)
        clip(tmp_path / "data" / "stripes" / f"{number}.mp4", striped_frame(6 + number), 3)
    scan_folder(library, base, tmp_path / "seen")
    teach(library, base, tmp_path / "data", tmp_path / "own")
    # taught again in the same folder, with another name: it replaces the old one
    (tmp_path / "data" / "stripes").rename(tmp_path / "data" / "lines")
    teach(library, base, tmp_path / "data", tmp_path / "own")
    clip(tmp_path / "later" / "first.mp4", striped_frame(8))
    scan_folder(library, base, tmp_path / "later")
    assert files_with(library, "stripes") == set()
    assert files_with(library, "lines") == {"first.mp4"}

    # the next scan derives the segments that a head lacks, without opening a video
    own = heads.require_model(library, str(tmp_path / "own"))
    with library.transaction() as db:
        db.execute("DELETE FROM segments WHERE model_id = ?", (own,))
        db.execute("DELETE FROM derivations WHERE model_id = ?", (own,))
    scan_folder(library, base, tmp_path / "later")
    assert files_with(library, "lines") == {"first.mp4"}

    forget_model(library, own)
    scan_folder(library, base, tmp_path / "later")
    assert files_with(library, "lines") == set()


def test_the_library_uses_the_new_version_of_its_own_model(
    library: LibraryWriter, base: Checkpoint, tmp_path: Path
) -> None:
    for number in range(3):
        clip(tmp_path / "data" / "stripes" / f"{number}.mp4", striped_frame(6 + number))
        grey = np.full((48, 64, 3), 80 + 9 * number, np.uint8)
        clip(tmp_path / "data" / "flat" / f"{number}.mp4", lambda _, grey=grey: grey)
    teach(library, base, tmp_path / "data", tmp_path / "own")
    first = heads.require_model(library, str(tmp_path / "own"))
    heads.use_model(library, first)
    (tmp_path / "data" / "flat").rename(tmp_path / "data" / "plain")
    teach(library, base, tmp_path / "data", tmp_path / "own")
    assert heads.library_model(library) == heads.require_model(library, str(tmp_path / "own")) != first
