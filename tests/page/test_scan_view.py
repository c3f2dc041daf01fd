"""Scan on the page, in a real browser: what runs is paused, cancelled and queued, and says what it found."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import OpenPage, open_view, require_browser
from helpers.footage import make_video
from helpers.page_server import serve_page_warm
from helpers.small_model import make_model

if TYPE_CHECKING:
    from playwright.sync_api import Page

require_browser()
pytestmark = pytest.mark.timeout(900)  # a long way through the page on a machine that may be busy


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a small model, and nothing scanned."""
    make_model(tmp_path / "home" / "models" / "tiny")
    return tmp_path / "home"


def fill_form(page: Page, folder: Path) -> None:
    open_view(page, "Scan")
    page.get_by_label("Folders on this machine").fill(str(folder))
    page.get_by_label("Model", exact=True).select_option("tiny")


def wait_for_run(page: Page, state: str, *, count: int = 1) -> None:
    """Wait until `count` past runs are in `state`."""
    page.locator(".history td", has_text=state).nth(count - 1).wait_for()


@pytest.mark.slow  # half a minute; tests/jobs cancels and queues without a browser
def test_a_scan_is_paused_and_cancelled_and_the_next_gets_its_turn(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "long"
    clips.mkdir()
    for number in range(30):  # a different picture each: a scan skips copies, which it knows by their packets
        make_video(clips / f"{number}.mp4", seconds=120, fps=8, width=64, height=48, seed=number)
    short = tmp_path / "short"
    short.mkdir()
    make_video(short / "a.mp4", seconds=2, seed=5)
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    make_video(earlier / "earlier.mp4", seconds=2, seed=99)
    with serve_page_warm(home) as (address, _), closing(open_page(base_url=address)) as page:
        fill_form(page, earlier)
        page.get_by_role("button", name="Start scan").click()
        wait_for_run(page, "done")
        page.get_by_label("Folders on this machine").fill(str(clips))
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Start scan").click()
        page.locator(".found .card:not(:has-text('earlier.mp4'))").first.wait_for()
        assert page.locator(".found .card", has_text="earlier.mp4").count() == 0  # another scan found it
        page.get_by_label("Folders on this machine").fill(str(short))
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("waits for its turn").first.wait_for()
        page.locator(".waiting-list", has_text="short").wait_for()
        page.locator(".job-facts", has_text="of 30 videos").wait_for()
        page.get_by_role("button", name="Pause what runs").click()
        page.get_by_role("button", name="Go on with what is paused").wait_for()
        page.reload()
        assert "view=scan" in page.url
        page.locator(".job-facts", has_text="Paused").wait_for()
        page.get_by_role("button", name="Go on with what is paused").click()
        for other in ({"run": 10**6}, {"job": 10**6}):  # a button of a run that is over
            cancelled = page.request.post(f"{address}/api/jobs/cancel", data=other)
            assert cancelled.json() == {"is_done": False}
        page.get_by_role("button", name="Pause what runs").click()
        page.get_by_role("button", name="Cancel what runs").click()
        wait_for_run(page, "interrupted")
        wait_for_run(page, "done", count=2)
        page.locator(".waiting-list li").first.wait_for(state="detached")


@pytest.mark.slow
def test_what_went_wrong_is_gone_after_a_later_success(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    broken = make_model(home / "models" / "broken")
    weights = next(path for path in broken.iterdir() if path.suffix == ".safetensors")
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    clips = tmp_path / "clips"
    clips.mkdir()
    make_video(clips / "a.mp4", seconds=2)
    with serve_page_warm(home) as (address, _), closing(open_page(base_url=address)) as page:
        open_view(page, "Scan")
        folders = page.get_by_label("Folders on this machine")
        problems = page.locator(".scan-view [role=alert]:visible").filter(has_text=re.compile("."))
        folders.fill("/nowhere/at/all")
        page.get_by_role("button", name="Start scan").click()
        problems.get_by_text("there is no '/nowhere/at/all'").wait_for()
        folders.fill(str(clips))
        page.get_by_label("Model", exact=True).select_option("broken")
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Start scan").click()
        problems.get_by_text("broken").wait_for()
        page.get_by_label("Model", exact=True).select_option("tiny")
        page.wait_for_timeout(1000)
        page.get_by_role("button", name="Start scan").click()
        wait_for_run(page, "done")
        page.wait_for_function("() => !document.querySelector('.job-panel [role=alert]').innerText")
        assert problems.count() == 0
