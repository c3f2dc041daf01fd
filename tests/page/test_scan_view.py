"""A person's first hour on the page, in a real browser: scan, search meanwhile, correct, select, undo, cut."""

from __future__ import annotations

import os
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import OpenPage, open_view, play_video, require_browser, search_for
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
    open_view(page, "Scan")
    page.get_by_label("Folders on this machine").fill(str(folder))
    page.get_by_label("Model", exact=True).select_option("tiny")


def wait_for_run(page: Page, state: str, *, count: int = 1) -> None:
    """Wait until `count` past runs are in `state`."""
    page.locator(".history td", has_text=state).nth(count - 1).wait_for()


def choose_folder(page: Page) -> None:
    """Walk through the chooser and take the home folder."""
    chooser = page.locator(".scan-view .chooser")
    chooser.get_by_role("button", name="One folder up").click()
    chooser.get_by_role("button", name=f"Take this folder: {Path.home().parent}", exact=True).wait_for()
    chooser.get_by_role("button", name=f"Go to {Path.home()}", exact=True).click()
    chooser.get_by_role("button", name=f"Take this folder: {Path.home()}", exact=True).click()
    assert page.get_by_label("Folders on this machine").input_value() == str(Path.home())


def correct_and_cut(page: Page, folder: Path) -> None:
    """Select moments and confirm them, undo it, and cut them into `folder`."""
    search_for(page, "archery OR yoga OR bike")
    page.locator(".card").nth(1).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+a")
    bar = page.get_by_role("region", name="Selection")
    bar.get_by_role("button", name="Yes").click()
    page.locator(".toast", has_text="confirmed").first.wait_for()
    page.get_by_role("button", name="Undo: ").and_(page.locator("[aria-label*=confirmed]")).click()
    page.locator(".toast", has_text="Undone").wait_for()
    page.locator(".card-box").first.click()
    bar.get_by_role("button", name="Cut").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Folder for the clips").fill(str(folder))
    cut = dialog.get_by_role("button", name="Cut", exact=True)
    assert cut.is_disabled()  # what would happen is seen first
    dialog.get_by_role("button", name="What would happen?").click()
    dialog.get_by_text("1 clip would be written").wait_for()
    assert not folder.exists()
    cut.click()
    dialog.get_by_text("1 clip written").wait_for()
    assert len(list(folder.iterdir())) == 1
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")


def test_a_person_needs_no_terminal_and_a_killed_server_loses_nothing(
    open_page: OpenPage, home: Path, tmp_path: Path
) -> None:
    clips = tmp_path / "clips"
    clips.mkdir()
    for number in range(2):
        make_video(clips / f"{number}.mp4", seconds=3, seed=number)
    (clips / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(5000))
    with serve_page(home, is_killed=True) as (address, server), closing(open_page(base_url=address)) as page:
        page.get_by_role("link", name="Choose a folder").click()
        choose_folder(page)
        page.get_by_label("Folders on this machine").fill("/nowhere/at/all")
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("there is no '/nowhere/at/all'").wait_for()
        fill_form(page, clips)
        page.get_by_role("button", name="How long?").click()
        page.get_by_text("3 videos, about").wait_for()
        page.get_by_role("button", name="Start scan").dblclick()  # one scan, not two
        page.get_by_text("The scan starts").wait_for()
        open_view(page, "Search")
        page.locator(".card").first.wait_for()  # without a load
        assert page.get_by_text("Find what happens in your videos").count() == 0
        open_view(page, "Scan")
        wait_for_run(page, "done, 1 could not be read")
        assert page.locator(".history tr", has_text="Scan").count() == 1
        page.locator(".history").get_by_text("broken.mp4").wait_for()
        correct_and_cut(page, tmp_path / "cut")
        play_video(page, "1.mp4")
        page.get_by_role("button", name="Yes: ").first.click()
        page.locator(".tag-state", has_text="yes").first.wait_for()
        video_address = page.url.split("/", 3)[3]
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 300 * 1024  # kB
        page.goto("about:blank")
        os.kill(server, signal.SIGKILL)
    with serve_page(home) as (address, _), closing(open_page(video_address, base_url=address)) as page:
        page.locator(".tag-state", has_text="yes").first.wait_for()
        open_view(page, "Library")
        page.get_by_text("3 videos").wait_for()
        page.get_by_role("button", name="Filters").and_(page.locator(":visible")).click()
        page.get_by_label("Which").select_option("unreadable")
        page.locator(".card", has_text="broken.mp4").wait_for()


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
    with serve_page(home) as (address, _), closing(open_page(base_url=address)) as page:
        fill_form(page, clips)
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("The scan starts").wait_for()
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
        page.get_by_role("button", name="Pause what runs").click()
        page.get_by_role("button", name="Cancel what runs").click()
        wait_for_run(page, "interrupted")
        wait_for_run(page, "done")
        page.locator(".waiting-list li").first.wait_for(state="detached")
