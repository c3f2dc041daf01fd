"""What the page's views cost with 10 videos and with very many: `python tests/benchmarks/page.py [--videos N]`.

Builds both libraries once (minutes; kept in --folder, shared with search.py) and prints, in pairs, the time of
everything that the page asks for when it is opened, and of each view; then, where there is a Chromium, how long a
person waits who opens the page: from the address to the first card and to the labels to press.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from big_library import build
from helpers.browser import CHROMIUM, launch_browser
from helpers.page_server import serve_page

from vtag.app.ui import library_overview, scan_control, search, video_view
from vtag.assets import kinetics400_labels
from vtag.engine.jobs.job_queue import JobQueue

_COMMON = kinetics400_labels()[0]


def views(library: Path) -> dict[str, Callable[[], object]]:
    """What a person waits for, by what it is."""
    queue = JobQueue(library)
    return {
        "the first paint": lambda: (
            search.show_results(library, search.SearchForm()),
            search.show_suggestions(library),
        ),
        "a search for a common label": lambda: search.show_results(
            library, search.SearchForm(f'"{_COMMON}"')
        ),
        "the same with filters": lambda: search.show_results(
            library, search.SearchForm(f'"{_COMMON}"', score=0.5, after="2015")
        ),
        "its tenth page": lambda: search.show_results(library, search.SearchForm(f'"{_COMMON}"'), 10),
        "a video": lambda: video_view.show_video(library, 5, 0),
        "what runs (every 2 s)": lambda: scan_control.show_progress(library, queue),
        "what ran": lambda: scan_control.show_history(library),
        "the library": lambda: library_overview.show_overview(library, library.parent / "cache"),
        "what was found, again": lambda: library_overview.show_label_statistics(library),
    }


def median_ms(action: Callable[[], object], times: int) -> float:
    """Of several runs after one that warms the disk's cache."""
    action()
    taken = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken.append(1000 * (time.perf_counter() - begun))
    return float(np.median(taken))


def opened_ms(libraries: list[Path], times: int) -> list[float]:
    """Medians of opening the page over each library, in turn, by a browser that has it in its cache."""
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(serve_page(path.parent))[0] for path in libraries]
        context = stack.enter_context(launch_browser()).contexts[0]
        taken: list[list[float]] = [[] for _ in addresses]
        for _ in range(times + 1):
            for address, mine in zip(addresses, taken, strict=True):
                page = context.new_page()
                begun = time.perf_counter()
                page.goto(address)
                page.locator(".vtag-card").first.wait_for()
                page.locator(".vtag-suggestion-row").first.wait_for()
                mine.append(1000 * (time.perf_counter() - begun))
                page.close()
    return [float(np.median(mine[1:])) for mine in taken]


def main() -> None:
    """Build both, ask both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=10_000_000)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vtag-benchmark-search")
    told = parser.parse_args()
    both, paths = [], []
    for videos, segments, features in ((10, 1000, 100), (told.videos, told.segments, told.features)):
        path = told.folder / f"{videos}-{segments}-{features}" / "library.db"
        if not path.with_name("complete").exists():
            build(path, videos=videos, segments=segments, less_sure=segments // 5, features=features)
            path.with_name("complete").touch()
        paths.append(path)
        both.append(views(path))
    print(f"{'':<30}{'10 videos':>14}{f'{told.videos:,} videos':>20}")
    for name in both[0]:
        few, many = (median_ms(each[name], told.repeat) for each in both)
        print(f"{name:<30}{few:>11.1f} ms{many:>17.1f} ms", flush=True)
    if CHROMIUM:
        few, many = opened_ms(paths, told.repeat)
        print(f"{'opened in a browser':<30}{few:>11.1f} ms{many:>17.1f} ms")


if __name__ == "__main__":
    main()
