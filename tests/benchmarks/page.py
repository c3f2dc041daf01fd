"""What the page costs with 10 videos and with very many: `python tests/benchmarks/page.py [--videos N]`.

Builds both libraries once (minutes; kept in --folder, shared with search.py). A Chromium opens the page over each and
does what a person does. Printed are the median and the longest time in milliseconds until what was asked for can be
seen, with its count; and the server's memory. The videos have no files, so that pictures are not part of the times.
"""

from __future__ import annotations

import argparse
import contextlib
import os
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
_PAGES = 10  # of the screen's height
_SHOWN = "[...document.querySelectorAll('.view:not([hidden]) .card')].filter(card => { "
_SHOWN += "const box = card.getBoundingClientRect(); return box.bottom > 0 && box.top < innerHeight; })"
_FILLED = (
    f"(shown => shown.length > 0 && shown.every(card => !card.classList.contains('is-empty')))({_SHOWN})"
)
_COUNTED = "document.querySelector('.view:not([hidden]) .result-count')?.textContent !== ''"
_CHIPS = "document.querySelectorAll('.view:not([hidden]) .search-chips .chip').length"
_Action = Callable[[], "list[float] | None"]  # returns its times in ms; None: as long as the call took


def actions(page: Page, address: str) -> dict[str, _Action]:
    """What a person does, in this order, by what it is."""

    def wait(condition: str) -> None:
        page.wait_for_function(f"() => {condition}")

    def go(query: str, condition: str = f"{_CHIPS} === 0 && {_FILLED} && {_COUNTED}") -> _Action:
        def run() -> None:
            page.evaluate(
                "query => { history.pushState({}, '', query); dispatchEvent(new PopStateEvent('popstate')); }",
                query,
            )
            wait(f"document.querySelector('main').dataset.shown === location.search && {condition}")

        return run

    def scroll() -> list[float]:
        times = []
        for _ in range(_PAGES):
            begun, place = time.perf_counter(), page.evaluate("scrollY")
            page.mouse.wheel(0, page.viewport_size["height"])  # type: ignore[index]
            wait(
                f"(scrollY >= {place} + innerHeight - 2 "
                f"|| scrollY >= document.documentElement.scrollHeight - innerHeight - 2) && {_FILLED}"
            )
            times.append(1000 * (time.perf_counter() - begun))
        return times

    def open_page() -> None:
        page.goto(address)
        wait(_FILLED)

    def facet(name: str) -> _Action:
        def run() -> None:
            page.get_by_role("region", name=name).locator(".facet").first.click()
            wait(f"{_CHIPS} === 1 && {_FILLED} && {_COUNTED}")

        return run

    def to_the_end() -> None:
        page.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
        wait(f"scrollY >= document.documentElement.scrollHeight - innerHeight - 2 && {_FILLED}")

    common = f"?q=%22{_COMMON.replace(' ', '+')}%22"
    opened = "document.querySelector('.watch-view:not([hidden]) .video-name')?.textContent !== ''"
    return {
        "opened": open_page,
        "a search for a common label": go(common),
        "a page further, of 10": scroll,
        "its facet of a year": facet("Year"),
        "back to the search": go(common),
        "its facet of a folder": facet("Folder"),
        "a video opened": go("?v=5", opened),
        "the library": go("?view=library"),
        "a page further in it, of 10": scroll,
        "the library's folder": facet("Folder"),
        "the library by name": go("?view=library&sort=name"),
        "the library by day": go("?view=library&group=day"),
        "scrolled to its end": to_the_end,
    }


def measure(address: str, times: int) -> dict[str, list[float]]:
    """The times in ms of each action, after a round that warms the caches."""
    taken: dict[str, list[float]] = {}
    with launch_browser() as chromium:
        page = chromium.contexts[0].new_page()
        page.set_viewport_size({"width": 1400, "height": 900})
        for number in range(times + 1):
            for name, action in actions(page, address).items():
                begun = time.perf_counter()
                own = action()
                if number:
                    taken.setdefault(name, []).extend(own or [1000 * (time.perf_counter() - begun)])
        page.close()
    return taken


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
    print(f"| median (longest), ms | 10 videos | {told.videos:,} videos |")
    print("|---|---|---|")
    for name in columns[0]:
        few, many = (f"{np.median(each[name]):.0f} ({max(each[name]):.0f})" for each in columns)
        print(f"| {name} | {few} | {many} |")
    print(
        f"| memory of the server at its highest, MB | {memories[0] / 1000:.0f} | {memories[1] / 1000:.0f} |"
    )
    print(f"\nload of the machine at the end: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
