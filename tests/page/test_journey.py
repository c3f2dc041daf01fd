"""A person's way through the page, in a real browser and without a terminal: from the first visit to a taught tag."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers.browser import (
    PLAYING,
    OpenPage,
    box_of,
    open_view,
    play_video,
    require_browser,
    search_for,
    settled,
)
from helpers.footage import make_video
from helpers.page_server import serve_page
from helpers.small_model import make_model

from vtag.engine.library import page_queries
from vtag.engine.library.database import open_reader
from vtag.engine.library.store.runs import recent_runs

if TYPE_CHECKING:
    from playwright.sync_api import Page

require_browser()
pytestmark = pytest.mark.timeout(900)  # a long way through the page on a machine that may be busy

EVERYTHING = "archery OR yoga OR bike"
TAG = "red stripes"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """Twelve videos with stripes in red or green, which even random weights tell apart, and one that is broken."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for seed in range(6):
        for kind, name in enumerate(("red", "green")):
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[:, np.arange(64) // (6 + seed) % 2 == 0, kind] = 255
            make_video(folder / f"{name}{seed}.mp4", seconds=5, fps=8, draw=lambda _, p=picture: p)
    (folder / "broken.mp4").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(5000))
    return folder


def choose_folder(page: Page) -> None:
    """Walk through the chooser and take the home folder."""
    chooser = page.locator(".scan-view .chooser")
    chooser.get_by_role("button", name="One folder up").click()
    chooser.get_by_role("button", name=f"Take this folder: {Path.home().parent}", exact=True).wait_for()
    chooser.get_by_role("button", name=f"Go to {Path.home()}", exact=True).click()
    chooser.get_by_role("button", name=f"Take this folder: {Path.home()}", exact=True).click()
    assert page.get_by_label("Folders on this machine").input_value() == str(Path.home())


def start_scan(page: Page, clips: Path) -> None:
    """From the first visit to a scan that runs; mistakes are said."""
    page.get_by_role("link", name="Choose a folder").click()
    choose_folder(page)
    page.get_by_label("Folders on this machine").fill("/nowhere/at/all")
    page.get_by_role("button", name="Start scan").click()
    page.get_by_text("there is no '/nowhere/at/all'").wait_for()
    page.get_by_label("Folders on this machine").fill(str(clips))
    page.get_by_label("Model", exact=True).select_option("tiny")
    page.get_by_role("button", name="How long?").click()
    page.get_by_text("13 videos, about").wait_for()
    page.get_by_role("button", name="Start scan").dblclick()  # one scan, not two
    page.get_by_text("The scan starts").wait_for()


def hold_scan(library: Path) -> None:
    """Pause the scan as soon as it has found something, so that it still runs while the page is looked at."""
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        with closing(open_reader(library)) as reader:
            if page_queries.latest_moment_id(reader):
                os.kill(recent_runs(reader)[0].pid, signal.SIGSTOP)
                return
        time.sleep(0.02)
    raise AssertionError("nothing was found")


def search_while_it_runs(page: Page) -> None:
    open_view(page, "Search")
    page.locator(".card").first.wait_for()  # without a load
    assert page.get_by_text("Find what happens in your videos").count() == 0
    page.locator(".bar-job-link", has_text="Scan").click()
    go_on = page.get_by_role("button", name="Go on with what is paused")
    done = page.locator(".history td", has_text="done, 1 could not be read")
    go_on.or_(done).first.wait_for()
    if go_on.is_visible():  # else it was done before it could be held
        go_on.click()
    done.wait_for()
    assert page.locator(".history tr", has_text="Scan").count() == 1
    page.locator(".history").get_by_text("broken.mp4").wait_for()


def correct_and_tag(page: Page) -> None:
    """Open a video, say Yes and No, and drag over the timeline to tag a range."""
    search_for(page, f"({EVERYTHING}) path:red0")
    play_video(page, "red0.mp4")
    page.get_by_role("button", name="Yes: ").first.click()
    page.locator(".tag-state", has_text="yes").first.wait_for()
    page.get_by_role("button", name="No: ").last.click()
    page.locator(".tag-state", has_text="no").first.wait_for()
    box = settled(page, lambda: box_of(page.locator(".ruler")))
    page.mouse.move(box["x"] + 5, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + 10, steps=5)
    page.mouse.up()
    page.get_by_role("form", name="Add a tag").get_by_label("Tag").fill(TAG)
    page.keyboard.press("Enter")
    page.locator(".tag-label", has_text=TAG).wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")


def confirm_twenty_and_undo(page: Page) -> None:
    search_for(page, EVERYTHING)
    confidences = (
        "[...document.querySelectorAll('.card-confidence')].slice(0, 20).map(each => each.innerText)"
    )
    before = settled(page, lambda: page.evaluate(confidences))
    page.locator("[data-index='0'] .card-box").click()
    page.locator("[data-index='19'] .card-box").click(modifiers=["Shift"])
    bar = page.get_by_role("region", name="Selection")
    bar.get_by_text("20 moments selected").wait_for()
    bar.get_by_role("button", name="Yes").click()
    page.locator(".toast", has_text="20 moments confirmed").wait_for()
    page.get_by_role("button", name="Undo: ").and_(
        page.locator("[aria-label*='20 moments confirmed']")
    ).click()
    page.locator(".toast", has_text="Undone").wait_for()
    page.get_by_role("button", name="Redo: ").and_(
        page.locator("[aria-label*='20 moments confirmed']")
    ).wait_for()
    page.wait_for_function(f"before => JSON.stringify({confidences}) === JSON.stringify(before)", arg=before)


def cut_one(page: Page, folder: Path) -> None:
    page.locator("[data-index='0'] .card-box").click()
    page.get_by_role("region", name="Selection").get_by_role("button", name="Cut").click()
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


def teach_and_find(page: Page) -> None:
    """Teach the tag of the range, with one more example, and find it in other videos."""
    open_view(page, "Teach")
    page.get_by_role("button", name=f"Go on with {TAG}").click()
    page.get_by_label("Find examples by a search").fill("path:red1")
    page.get_by_role("button", name="Find", exact=True).click()
    page.get_by_role("region", name="Whole videos").get_by_role("button", name="Yes: red1.mp4").click()
    page.get_by_role("region", name=f"2 of {TAG}").wait_for()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_text("Kept as the model my-tags").wait_for()
    search_for(page, f'label:"{TAG}"')
    page.locator(".card", has_text=TAG).filter(has_text="red2.mp4").first.wait_for()  # it has no example
    open_view(page, "Search")
    page.locator(".suggestions a", has_text=TAG).wait_for()  # the new label is offered, without a load


def forget_unreadable(page: Page) -> None:
    open_view(page, "Library")
    page.get_by_text("13 videos").wait_for()
    page.get_by_role("button", name="Filters").and_(page.locator(":visible")).click()
    page.get_by_label("Which").select_option("unreadable")
    page.locator(".card", has_text="broken.mp4").locator(".card-box").click()
    page.get_by_role("region", name="Selection").get_by_role("button", name="Forget").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_text("1 file and what was found in 1 video would be forgotten").wait_for()
    dialog.get_by_role("button", name="Forget").click()
    dialog.get_by_text("are forgotten").wait_for()
    page.keyboard.press("Escape")
    page.get_by_text("0 videos", exact=True).wait_for()


def test_a_person_needs_no_terminal_and_a_killed_server_loses_nothing(
    open_page: OpenPage, clips: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    make_model(home / "models" / "tiny")
    with (
        serve_page(home, is_killed=True) as (address, server),
        closing(open_page(base_url=address)) as page,
    ):
        start_scan(page, clips)
        hold_scan(home / "library.db")
        search_while_it_runs(page)
        correct_and_tag(page)
        confirm_twenty_and_undo(page)
        cut_one(page, tmp_path / "cut")
        teach_and_find(page)
        search_for(page, f"({EVERYTHING}) path:red0")
        play_video(page, "red0.mp4")
        video_address = page.url.split("/", 3)[3]
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 300 * 1024  # kB
        page.goto("about:blank")
        os.kill(server, signal.SIGKILL)
    with serve_page(home) as (address, _), closing(open_page(video_address, base_url=address)) as page:
        page.wait_for_function(PLAYING)
        page.locator(".tag-label", has_text=TAG).wait_for()
        page.locator(".tag-state", has_text="yes").first.wait_for()
        forget_unreadable(page)
