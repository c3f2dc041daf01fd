"""What the page costs with 10 videos and with very many: `python tests/benchmarks/page.py [--videos N]`.

Builds both libraries once (minutes; kept in --folder, shared with search.py). A Chromium opens the page over each and
does what a person does. Printed are medians in milliseconds until what was asked for can be seen, and the server's
memory at the end. The videos have no files, so that pictures are not part of the times.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from big_library import build
from helpers.browser import launch_browser
from helpers.page_server import serve_page

from vtag.assets import kinetics400_labels

if TYPE_CHECKING:
    from playwright.sync_api import Page

_COMMON = kinetics400_labels()[0]
_LOADED = "() => document.querySelector('.view:not([hidden]) .card:not(.is-empty)')"
_PAGES = 10  # of the screen's height


def actions(page: Page, address: str) -> dict[str, Callable[[], object]]:
    """What a person does, in this order, by what it is."""

    def go(query: str) -> None:
        page.evaluate(
            "query => { history.pushState({}, '', query); dispatchEvent(new PopStateEvent('popstate')); }",
            query,
        )

    def scroll() -> None:
        for _ in range(_PAGES):
            page.mouse.wheel(0, page.viewport_size["height"])  # type: ignore[index]
            page.wait_for_timeout(16)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.view:not([hidden]) .card')].every(card => {"
            " const box = card.getBoundingClientRect();"
            " return box.bottom < 0 || box.top > innerHeight || !card.classList.contains('is-empty'); })"
        )

    def open_page() -> None:
        page.goto(address)
        page.wait_for_function(_LOADED)

    def search(query: str) -> Callable[[], object]:
        def run() -> None:
            go(query)
            page.wait_for_function(
                "query => location.search === query && document.querySelector('.search-view .card:not(.is-empty)')",
                arg=query,
            )

        return run

    def facet() -> None:
        page.locator(".search-view .facet").first.click()
        page.locator(".search-view .search-chips .chip").wait_for()
        page.wait_for_function(_LOADED)

    def library(query: str) -> Callable[[], object]:
        def run() -> None:
            go(query)
            page.wait_for_function("() => document.querySelector('.library-view .card:not(.is-empty)')")

        return run

    def to_the_end() -> None:
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        page.wait_for_timeout(16)
        page.wait_for_function(
            "() => [...document.querySelectorAll('.library-view .card:not(.is-empty)')].some(card => {"
            " const box = card.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; })"
        )

    def video() -> None:
        go("?v=5")
        page.locator(".video-name:not(:empty)").wait_for()

    return {
        "opened": open_page,
        "a search for a common label": search(f"?q=%22{_COMMON.replace(' ', '+')}%22"),
        "its first facet": facet,
        f"scrolled {_PAGES} pages": scroll,
        "a video opened": video,
        "the library": library("?view=library"),
        "the library by name": library("?view=library&sort=name"),
        "scrolled to its end": to_the_end,
    }


def measure(address: str, times: int) -> dict[str, float]:
    """Medians in ms of each action, after a round that warms the caches."""
    taken: dict[str, list[float]] = {}
    with launch_browser() as chromium:
        page = chromium.contexts[0].new_page()
        page.set_viewport_size({"width": 1400, "height": 900})
        for _ in range(times + 1):
            for name, action in actions(page, address).items():
                begun = time.perf_counter()
                action()
                taken.setdefault(name, []).append(1000 * (time.perf_counter() - begun))
        page.close()
    return {name: float(np.median(each[1:])) for name, each in taken.items()}


def main() -> None:
    """Build both, ask both, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100_000)
    parser.add_argument("--segments", type=int, default=10_000_000)
    parser.add_argument("--less-sure", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "vtag-benchmark-search")
    told = parser.parse_args()
    columns, memories = [], []
    many = told.videos, told.segments, told.less_sure, told.features
    for videos, segments, less_sure, features in ((10, 1000, 1000, 100), many):
        path = told.folder / f"{videos}-{segments}-{less_sure}-{features}" / "library.db"
        if not path.with_name("complete").exists():
            build(path, videos=videos, segments=segments, less_sure=less_sure, features=features)
            path.with_name("complete").touch()
        with contextlib.ExitStack() as stack:
            address, server = stack.enter_context(serve_page(path.parent))
            columns.append(measure(address, told.repeat))
            memories.append(int(Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]))
    print(f"{'':<30}{'10 videos':>14}{f'{told.videos:,} videos':>20}")
    for name in columns[0]:
        few, many = (each[name] for each in columns)
        print(f"{name:<30}{few:>11.0f} ms{many:>17.0f} ms")
    print(f"{'memory of the server':<30}{memories[0] / 1000:>11.0f} MB{memories[1] / 1000:>17.0f} MB")


if __name__ == "__main__":
    main()
