"""A tag of one's own, taught in a real browser: examples chosen, tried, corrected, kept, and found again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from browser import Open, browser, find, need_browser, pages, tab
from footage import make_video
from page_server import scan_into, serving
from sample import make_model

if TYPE_CHECKING:
    from playwright.sync_api import Browser

need_browser()
pytestmark = pytest.mark.timeout(900)  # a person's whole way through the page, on a machine that may be busy


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Open]:
    with pages(chromium, "") as open_:
        yield open_


def striped(kind: int, seed: int) -> np.ndarray:
    """What tells two kinds apart even for random weights: red stripes, and green ones."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:, np.arange(64) // (6 + seed) % 2 == 0, kind] = 255
    return picture


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A scanned library of four videos with red stripes and four with green ones."""
    clips = tmp_path / "clips"
    clips.mkdir()
    for seed in range(4):
        for kind, name in enumerate(("red", "green")):
            picture = striped(kind, seed)
            make_video(
                clips / f"{name}{seed}.mp4",
                seconds=4,
                fps=8,
                width=64,
                height=48,
                draw=lambda _, p=picture: p,
            )
    scan_into(tmp_path / "home", clips, make_model(tmp_path / "model"))
    return tmp_path / "home"


def test_a_tag_is_taught_tried_corrected_and_kept(open_page: Open, home: Path) -> None:
    with serving(home) as (address, server):
        page = open_page(at=address)
        tab(page, "Teach")
        page.get_by_label("Tag to teach").fill("red stripes")
        page.get_by_label("Find examples by a search").fill("archery OR yoga OR bike")
        page.get_by_role("button", name="Find", exact=True).click()
        choices = page.locator("#vtag-choices")
        choices.get_by_role("button", name="Yes, red0.mp4").first.click()
        page.locator("#vtag-examples").get_by_text("1 of red stripes").wait_for()
        choices.get_by_role("button", name="Yes, red1.mp4").first.click()
        page.locator("#vtag-examples").get_by_text("2 of red stripes").wait_for()
        page.get_by_role("button", name="Try it").click()
        trial = page.locator("#vtag-trial")
        trial.locator(".vtag-card").first.wait_for()
        page.locator("#vtag-teach-said table").wait_for()
        first = trial.locator("li", has_text="green").first
        first.get_by_role("button", name="No, not").click()
        page.locator("#vtag-examples").get_by_text("1 of something else").wait_for()
        assert first.get_by_role("button", name="No, not").get_attribute("aria-pressed") == "true"
        page.get_by_role("button", name="Try it").click()
        page.get_by_role("button", name="Keep it").click()  # while it tries: first the try, then the keep
        kept = page.get_by_text("Kept as the model my-tags")
        kept.wait_for()
        tab(page, "Scan")
        page.locator("#vtag-runs").get_by_text("Scan", exact=True).first.wait_for()
        page.locator("#vtag-now").get_by_text("Nothing runs.").wait_for()
        tab(page, "Teach")
        kept.wait_for()  # and no earlier try has replaced what was said of it
        tab(page, "Search")
        find(page, 'label:"red stripes"')
        assert page.locator("#vtag-results .vtag-card", has_text="red").count() >= 2
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 400 * 1024  # kB
        page.close()
