"""Scans from the page, in a real browser: an empty library is filled, a scan is cancelled, another waits its turn."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import OpenPage, open_tab, play_video, require_browser, search_for
from helpers.footage import make_video
from helpers.page_server import serve_page
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
    open_tab(page, "Scan")
    page.get_by_label("Folders on this machine").fill(str(folder))
    page.locator("#vtag-scan-model input").click()
    page.get_by_role("option", name="tiny").click()


def wait_for_run(page: Page, state: str, *, patience_s: float = 90) -> None:
    """Wait until the page shows a run in `state`; fail if nothing on the page changes for `patience_s`."""
    runs = page.locator("#vtag-runs")
    content, changed_s = "", time.monotonic()
    while runs.get_by_role("cell", name=state).count() == 0:
        if (current := runs.inner_text() + page.locator("#vtag-now").inner_text()) != content:
            content, changed_s = current, time.monotonic()
        assert time.monotonic() - changed_s < patience_s, f"not {state!r}, and nothing moves: {content}"
        page.wait_for_timeout(300)


def test_an_empty_library_is_filled_from_the_page_and_outlives_a_killed_server(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(2):
        make_video(clips / f"{number}.mp4", seconds=3, seed=number)
    (clips / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(5000))
    with serve_page(home, is_killed=True) as (address, server), closing(open_page(base_url=address)) as page:
        page.get_by_role("button", name="Choose a folder").click()
        chooser = page.locator("#vtag-chooser")
        chooser.get_by_role("button", name="One folder up").click()
        chooser.get_by_role("button", name=f"Take {Path.home().parent}", exact=True).wait_for()
        chooser.get_by_role("button", name=f"Go to {Path.home()}", exact=True).click()
        chooser.get_by_role("button", name=f"Take {Path.home()}", exact=True).click()
        page.wait_for_function(
            "home => document.querySelector('textarea[placeholder=\"/home/me/Videos\"]').value === home",
            arg=str(Path.home()),
        )
        page.get_by_label("Folders on this machine").fill("/nowhere/at/all")
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("there is no '/nowhere/at/all'").wait_for()
        fill_form(page, clips)
        page.get_by_role("button", name="How long?").click()
        page.get_by_text("3 videos, about").wait_for()
        page.get_by_role("button", name="Start scan").click()
        wait_for_run(page, "done")
        page.locator("#vtag-runs").get_by_text("broken.mp4").wait_for()
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 400 * 1024  # kB
        open_tab(page, "Library")
        page.locator(".vtag-figures").get_by_text("videos").wait_for()
        assert page.locator(".vtag-figures dd").first.inner_text() == "2"
        open_tab(page, "Search")
        search_for(page, "archery OR yoga OR bike")
        play_video(page, "1.mp4")
        page.locator(".vtag-tag").first.get_by_role("button", name="Yes").click()
        page.locator("#vtag-tags .vtag-note", has_text="confirmed").wait_for()
        video_address = page.url.split("/", 3)[3]
        page.goto("about:blank")
        os.kill(server, signal.SIGKILL)
    with serve_page(home) as (address, _), closing(open_page(video_address, base_url=address)) as page:
        page.locator(".vtag-tag").get_by_text("✓ confirmed").wait_for()
        open_tab(page, "Scan")
        wait_for_run(page, "done")


@pytest.mark.slow  # half a minute; tests/test_jobs.py cancels and queues without a browser
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
    with serve_page(home) as (address, _), closing(open_page(base_url=address)) as page:
        fill_form(page, clips)
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("The scan starts").wait_for()
        page.get_by_label("Folders on this machine").fill(str(short))
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("waits for its turn").wait_for()
        page.locator(".vtag-queue", has_text="short").wait_for()
        page.locator("#vtag-now .vtag-job p", has_text="of 30 videos").wait_for()
        page.get_by_role("button", name="Pause what runs").click()
        page.get_by_role("button", name="Go on with what is paused").wait_for()
        page.reload()
        open_tab(page, "Scan")
        wait_for_run(page, "paused")
        page.get_by_role("button", name="Go on with what is paused").click()
        wait_for_run(page, "running")
        page.get_by_role("button", name="Pause what runs").click()
        wait_for_run(page, "paused")
        page.get_by_role("button", name="Cancel what runs").click()
        wait_for_run(page, "interrupted", patience_s=60)
        wait_for_run(page, "done")
        page.locator(".vtag-queue").wait_for(state="detached")
