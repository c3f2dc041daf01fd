"""How long a rescan of unchanged files takes beside `find -printf '%s %T@ %p'` on the same tree.

    python tests/benchmarks/rescan.py [--files 100000] [--rounds 5] [--folder DIR]

Makes the files (a few bytes each, 100 a folder) and a library that has seen them all, then times in turns, in one
process: `find`, and the scan from its start to its sum. Both find the tree in the system's cache.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from helpers.small_model import make_model

from vtag.engine.checkpoints.load import Checkpoint, load_checkpoint
from vtag.engine.library.analysis import derive
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.store import files, heads
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.discover import discover
from vtag.engine.scan.events import ScanFinished
from vtag.engine.scan.model_selection import register_model
from vtag.engine.scan.options import ScanOptions, scan_sampling
from vtag.engine.scan.scan import scan


def make_tree(folder: Path, count: int) -> None:
    for i in range(0, count, 100):
        below = folder / f"{i // 10000:02}" / f"{i // 100 % 100:02}"
        below.mkdir(parents=True)
        for j in range(i, min(i + 100, count)):
            (below / f"video {j:06}.mp4").write_bytes(b"%d" % j)


def fill(library: LibraryWriter, folder: Path, checkpoint: Checkpoint, sampling: str) -> None:
    """What a first scan would have left."""
    spec = checkpoint.spec
    model_id = register_model(library, checkpoint, spec.name)
    rules = derive.derivation_rules(library, heads.load_head(library, model_id))
    found = discover([os.fsencode(folder)]).files
    volume = Volumes().volume_of(found[0].path)
    keys = [files.content_key(f.path) for f in found]
    windows = np.array([[0, 1000]], "<i8").tobytes()
    features = np.zeros((1, 1, spec.sizes.feature_dim), "<f2").tobytes()
    files.save_file(library, volume, found[0], files.save_content(library, keys[0], {"duration_ms": 1000}))
    with library.transaction() as db:
        db.executemany(
            "INSERT OR IGNORE INTO contents (key, size_bytes, duration_ms, added_at) VALUES (?, 1, 1000, '')",
            [(key,) for key in keys],
        )
        db.executemany(
            "INSERT OR IGNORE INTO files "
            "(volume_id, path, display, size_bytes, mtime_ns, inode, content_id, seen_at) "
            "SELECT 1, ?, '', ?, ?, ?, id, '' FROM contents WHERE key = ?",
            [
                (volume.relative(f.path), f.size_bytes, f.mtime_ns, f.inode, key)
                for f, key in zip(found, keys, strict=True)
            ],
        )
        db.execute(
            "INSERT INTO derivations SELECT id, ?, ?, ?, 1 FROM contents", (model_id, sampling, rules.key)
        )
    library.observations.execute("BEGIN")
    library.observations.executemany(
        "INSERT INTO observations (content_key, backbone_hash, sampling, views, dim, window_count, windows, "
        "features, backend, device, precision, made_at) VALUES (?, ?, ?, 1, ?, 1, ?, ?, '', '', '', '')",
        [(key, spec.backbone_hash, sampling, spec.sizes.feature_dim, windows, features) for key in keys],
    )
    library.observations.commit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where to make the files; a temporary folder by default")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as name:
        tree = Path(name) / "tree"
        make_tree(tree, asked.files)
        checkpoint = load_checkpoint(make_model(Path(name) / "model"))
        options = ScanOptions()
        with LibraryWriter.open(Path(name) / "home" / "library.db") as library:
            fill(library, tree, checkpoint, scan_sampling(checkpoint.spec, options).key())
            finds, scans = [], []
            for _ in range(asked.rounds):
                began = time.perf_counter()
                subprocess.run(
                    ["find", tree, "-type", "f", "-printf", "%s %T@ %p\n"],
                    stdout=subprocess.DEVNULL,
                    check=True,
                )
                finds.append(time.perf_counter() - began)
                began = time.perf_counter()
                (*_, done) = scan(library, [os.fsencode(tree)], checkpoint, options)
                scans.append(time.perf_counter() - began)
                assert isinstance(done, ScanFinished) and (done.scanned, done.skipped) == (0, asked.files)
    find_s, scan_s = statistics.median(finds), statistics.median(scans)
    ratio = statistics.median(s / f for s, f in zip(scans, finds, strict=True))
    print(
        f"{asked.files} files: find {find_s:.3f} s, rescan {scan_s:.3f} s, ratio {ratio:.1f} (median of pairs)"
    )


if __name__ == "__main__":
    main()
