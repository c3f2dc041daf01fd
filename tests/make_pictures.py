"""Makes the README's pictures of the page with animated scenes: `python tests/make_pictures.py [FOLDER]`.

With VTAG_VIEWS it also draws every view, in light and dark and three widths, into the folder that it names.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parent))

from helpers.browser import PLAYING, launch_browser
from helpers.film_library import Film, make_film_library
from helpers.page_server import serve_page
from helpers.scenes import SCENES, make_film

from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FILMS = {
    "Lake, August.mp4": Film([("sailing", 12), ("flying kite", 8)], "2025-08-09T18:20:00Z"),
    "Winter in Tyrol.mp4": Film([("skiing", 14)], "2025-01-18T11:02:00Z"),
    "Sunday in the park.mp4": Film(
        [("juggling balls", 7), ("flying kite", 8), ("riding a bike", 9)], "2025-05-25T15:41:00Z"
    ),
    "Bike tour.mp4": Film([("riding a bike", 15)], "2024-06-30T09:12:00Z"),
    "Harbour evening.mp4": Film([("sailing", 9), ("juggling balls", 6)], "2024-09-14T19:05:00Z"),
    "First snow.mp4": Film([("skiing", 8), ("juggling balls", 6)], "2024-12-07T14:30:00Z"),
}
LABELS = (*SCENES, "none of these")


def make_library(folder: Path) -> Path:
    """The home of a library of the films, with two corrections of a person."""
    home = make_film_library(
        folder, FILMS, LABELS, lambda path, film, _: make_film(path, list(film.parts), recorded=film.recorded)
    )
    with LibraryWriter.open(home / "library.db") as library:
        annotation_log.add(library, 1, "sunset", 2_000, 9_000)
        first = library.connection.execute(
            "SELECT id FROM segments WHERE content_id = 1 ORDER BY id"
        ).fetchone()
        annotation_log.confirm(library, [first[0]])
    return home


def main(target: Path) -> None:
    """Write `search.png` and `watch.png` to `target`, and all views in light and dark and three widths to `views`."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_library(Path(folder))
        with serve_page(home) as (address, _), launch_browser() as chromium:
            page = open_page(chromium, address, "", 1240, 800, "light")
            page.screenshot(path=target / "search.png")
            open_video(page, address)
            page.screenshot(path=target / "watch.png")
            page.context.close()
            if not os.environ.get("VTAG_VIEWS"):
                return
            views = Path(os.environ["VTAG_VIEWS"])
            views.mkdir(parents=True, exist_ok=True)
            for scheme in ("light", "dark"):
                for width in (390, 1280, 1920):
                    draw_views(chromium, address, views, scheme, width)


def draw_views(chromium: Browser, address: str, folder: Path, scheme: str, width: int) -> None:
    """A picture of each view."""
    page = open_page(chromium, address, "", width, 900, scheme)
    page.screenshot(path=folder / f"search-{scheme}-{width}.png")
    for view in ("library", "teach", "scan", "tools"):
        page.goto(f"{address}/?view={view}")
        page.locator(f".{view}-view").wait_for()
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / f"{view}-{scheme}-{width}.png")
    open_video(page, address)
    page.screenshot(path=folder / f"watch-{scheme}-{width}.png")
    page.context.close()


def open_page(chromium: Browser, address: str, query: str, width: int, height: int, scheme: str) -> Page:
    """The page at `query`, with its pictures."""
    page = chromium.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(120_000)
    page.goto(f"{address}/{query}")
    page.wait_for_selector(".card img")
    page.wait_for_function("() => [...document.images].slice(0, 6).every(image => image.naturalWidth > 0)")
    page.wait_for_timeout(1500)
    return page


def open_video(page: Page, address: str) -> None:
    """Show a video with the score of a label, paused."""
    page.goto(f"{address}/?v=1&t=5000&m=1")
    page.wait_for_function(PLAYING)
    page.locator(".curve-form input").fill("sailing")
    page.keyboard.press("Enter")
    page.wait_for_selector(".curve")
    page.evaluate("() => document.querySelector('vtag-player').pause()")
    page.wait_for_timeout(2000)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs")
