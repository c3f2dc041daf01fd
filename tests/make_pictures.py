"""Makes the README's pictures of the page with animated scenes: `python tests/make_pictures.py [FOLDER]`."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from helpers.browser import PLAYING, launch_browser
from helpers.page_server import serve_page
from helpers.scenes import SCENES, make_film

from vtag.engine.library.analysis import derive
from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library
from vtag.engine.library.store import files, heads, observations
from vtag.engine.library.store.volumes import Volumes
from vtag.engine.scan.discover import discover
from vtag.engine.video.read.probe import probe

FILMS = {
    "Lake, August.mp4": ([("sailing", 12), ("flying kite", 8)], "2025-08-09T18:20:00Z"),
    "Winter in Tyrol.mp4": ([("skiing", 14)], "2025-01-18T11:02:00Z"),
    "Sunday in the park.mp4": (
        [("juggling balls", 7), ("flying kite", 8), ("riding a bike", 9)],
        "2025-05-25T15:41:00Z",
    ),
    "Bike tour.mp4": ([("riding a bike", 15)], "2024-06-30T09:12:00Z"),
    "Harbour evening.mp4": ([("sailing", 9), ("juggling balls", 6)], "2024-09-14T19:05:00Z"),
    "First snow.mp4": ([("skiing", 8), ("juggling balls", 6)], "2024-12-07T14:30:00Z"),
}
LABELS = (*SCENES, "none of these")
WINDOW_MS, STRIDE_MS = 2000, 500


def make_library(folder: Path) -> Path:
    """A home with a library of the films. Its features follow the scenes, with the uncertainty of a real model."""
    home, clips = folder / "home", folder / "Videos"
    clips.mkdir(parents=True)
    with Library.open(home / "library.db") as library:
        weight = 5 * np.eye(len(LABELS), dtype=np.float32)
        model = heads.save_model(
            library,
            name="swin3d-t",
            source="swin3d-t",
            backbone_hash="drawn",
            head_hash="drawn",
            spec={"labels": list(LABELS)},
            weight=weight,
            bias=np.zeros(len(LABELS), np.float32),
        )
        heads.use_model(library, model)
        head = heads.load_head(library, model)
        for seed, (name, (parts, recorded)) in enumerate(FILMS.items()):
            path = os.fsencode(make_film(clips / name, parts, recorded=recorded))
            info = probe(path)
            facts = {"duration_ms": info.duration_ms, "codec": info.codec, "container": info.container}
            key = files.content_key(path)
            content = files.save_content(library, key, facts | {"recorded_at": info.recorded_at})
            file = discover([path]).files[0]
            files.save_file(library, Volumes().volume_of(file.path), file, content)
            windows, features = make_features(parts, info.duration_ms, seed)
            made_by = observations.Provenance("torch", "cpu", "fp32")
            observations.add(library, key, "drawn", "drawn", windows, features, made_by)
            derive.derive_segments(library, content, head, derive.derivation_rules(library, head), "drawn")
        files.add_roots(library, [os.fsencode(clips)])
        annotation_log.add(library, 1, "sunset", 2_000, 9_000)
        first = library.connection.execute(
            "SELECT id FROM segments WHERE content_id = 1 ORDER BY id"
        ).fetchone()
        annotation_log.confirm(library, [first[0]])
    return home


def make_features(
    parts: list[tuple[str, float]], duration_ms: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Windows [W, 2] in ms and features [W, 1, K]: the share of each scene in a window, plus noise."""
    rng = np.random.default_rng(seed)
    starts = np.arange(0, duration_ms - WINDOW_MS + 1, STRIDE_MS)
    windows = np.stack([starts, starts + WINDOW_MS], axis=1)
    shares = 0.12 * rng.random((len(windows), 1, len(LABELS)))
    start_s = 0.0
    for name, seconds in parts:
        overlap = np.minimum(windows[:, 1], 1000 * (start_s + seconds)) - np.maximum(
            windows[:, 0], 1000 * start_s
        )
        confidence = rng.uniform(0.55, 1.0, len(windows))
        shares[:, 0, LABELS.index(name)] += np.clip(overlap / WINDOW_MS, 0, 1) * confidence
        start_s += seconds
    return windows, shares.astype(np.float32)


def main(target: Path) -> None:
    """Write `search.png` and `watch.png` to `target`."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_library(Path(folder))
        with serve_page(home) as (address, _), launch_browser() as chromium:
            page = chromium.new_page(viewport={"width": 1240, "height": 800})
            page.set_default_timeout(120_000)
            page.goto(f"{address}/?q=sailing OR kite OR skiing OR bike OR juggling")
            page.wait_for_selector(".vtag-card")
            page.wait_for_function("() => [...document.images].slice(0, 8).every(i => i.naturalWidth > 0)")
            page.wait_for_timeout(1500)
            page.screenshot(path=target / "search.png")
            page.locator(".vtag-card", has_text="Lake, August").first.click()
            page.wait_for_function(PLAYING)
            page.get_by_label("Score of").fill("sailing")
            page.get_by_role("button", name="Show curve").click()
            page.wait_for_selector(".vtag-curve")
            page.locator("#vtag-watch video").evaluate("video => { video.pause(); video.currentTime = 5; }")
            page.wait_for_timeout(2000)
            page.screenshot(path=target / "watch.png")
            page.goto("about:blank")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
