"""Makes the README's pictures of the page with animated scenes: `python tests/make_pictures.py [FOLDER]`."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from helpers.browser import PLAYING, launch_browser
from helpers.film_library import Film, make_film_library
from helpers.page_server import serve_page
from helpers.scenes import SCENES, make_film

from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import Library

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
    with Library.open(home / "library.db") as library:
        annotation_log.add(library, 1, "sunset", 2_000, 9_000)
        first = library.connection.execute(
            "SELECT id FROM segments WHERE content_id = 1 ORDER BY id"
        ).fetchone()
        annotation_log.confirm(library, [first[0]])
    return home


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
