"""The page in a real browser: from an empty library to a moment that plays; light, dark, small, by keyboard."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from page_server import make_library, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'name'.mp4"
PLAYS = "video => !video.paused && video.readyState >= 2"

if not BROWSER and not os.environ.get("CI"):  # in CI a browser that is missing is a failure
    pytest.skip("no chromium on this machine", allow_module_level=True)

Open = Callable[..., "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("page"), names=("plain.mp4", "old.avi", HOSTILE), seconds=8)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serving(home) as (found, _):
        yield found


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[Open]:
    """Opens the page; at the end no error stood in the console and no request had left the machine."""
    wrong: list[str] = []
    contexts = []

    def open_(path: str = "", at: str = address, **options: object) -> Page:
        context = browser.new_context(**options)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((at, "data:", "blob:")) else wrong.append(sent.url),
        )
        page.goto(f"{at}/{path}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert wrong == []


def find(page: Page, query: str) -> None:
    box = page.get_by_label("What happens in it")
    box.fill(query)
    box.press("Enter")
    page.wait_for_selector(".vtag-card")


def test_a_moment_is_found_and_plays_from_its_time(open_page: Open) -> None:
    page = open_page()
    find(page, "archery OR yoga OR bike")
    picture = page.locator(".vtag-card img").first
    picture.evaluate("async image => { await image.decode(); }")
    assert picture.evaluate("image => image.naturalWidth") > 100
    page.locator(".vtag-card", has_text="plain.mp4").first.click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
    bars = page.locator(".vtag-bar")
    last = max(range(bars.count()), key=lambda i: int(bars.nth(i).get_attribute("data-seek") or 0))
    wanted_s = int(bars.nth(last).get_attribute("data-seek") or 0) / 1000
    bars.nth(last).click()
    page.wait_for_function(f"() => document.querySelector('video').currentTime >= {wanted_s}")
    assert page.locator("video").evaluate("video => video.currentTime") < wanted_s + 3


def test_what_a_browser_cannot_play_is_shown_from_a_copy(open_page: Open) -> None:
    page = open_page("?q=archery OR yoga OR bike")
    page.locator(".vtag-card", has_text="old.avi").first.click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
    assert "/moment/" in str(page.locator("video").get_attribute("src"))


def test_the_address_carries_the_query(open_page: Open) -> None:
    page = open_page()
    find(page, "yoga OR archery OR bike")
    page.wait_for_url("**/?q=yoga*")
    again = open_page(page.url.split("/", 3)[3])
    again.wait_for_selector(".vtag-card")
    assert again.get_by_label("What happens in it").input_value() == "yoga OR archery OR bike"


def test_a_name_from_a_disk_stays_text(open_page: Open) -> None:
    page = open_page("?q=archery OR yoga OR bike")
    card = page.locator(".vtag-card", has_text="onerror").first
    assert HOSTILE in card.inner_text()
    card.click()
    page.wait_for_selector(".vtag-watch")
    assert page.locator(".vtag-name").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0


def test_a_query_that_finds_nothing_or_is_wrong_says_so(open_page: Open) -> None:
    page = open_page()
    box = page.get_by_label("What happens in it")
    for query in ("zymurgy", "-only", "<script>alert(1)</script>", "a' OR 1=1 --"):
        box.fill(query)
        box.press("Enter")
        page.wait_for_selector("#vtag-results .vtag-note")
    assert page.locator("#vtag-results script").count() == 0


def test_everything_can_be_done_by_keyboard(open_page: Open) -> None:
    page = open_page("?q=archery OR yoga OR bike")
    page.wait_for_selector(".vtag-card")
    page.locator("#vtag-results .vtag-card", has_text="plain.mp4").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
    page.locator("h2.vtag-name").evaluate("heading => { heading.tabIndex = -1; heading.focus(); }")
    page.keyboard.press("l")
    page.wait_for_function("() => document.querySelector('video').currentTime > 4")
    page.keyboard.press("?")
    assert page.locator("dialog[open]").get_by_text("play or pause").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("n")
    page.wait_for_function("() => document.activeElement.classList.contains('vtag-bar')")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390])
def test_each_view_is_accessible_and_fits(open_page: Open, scheme: str, width: int, tmp_path: Path) -> None:
    from axe_playwright_python.sync_playwright import Axe

    pictures = Path(os.environ.get("VTAG_SCREENSHOTS", tmp_path))
    page = open_page(
        "?q=archery OR yoga OR bike", color_scheme=scheme, viewport={"width": width, "height": 850}
    )
    page.wait_for_selector(".vtag-card")
    page.wait_for_timeout(800)
    page.screenshot(path=pictures / f"search-{scheme}-{width}.png")
    page.locator(".vtag-card", has_text="plain.mp4").first.click()
    page.wait_for_function("() => document.querySelector('video')?.currentTime > 0")
    for view in ("Watch", "Scan", "Library"):
        if view != "Watch":
            page.get_by_role("tab", name=view).click()
            page.wait_for_selector("#vtag-runs" if view == "Scan" else "#vtag-library .vtag-figures")
        page.wait_for_timeout(400)
        page.screenshot(path=pictures / f"{view.lower()}-{scheme}-{width}.png")
        broken = Axe().run(page).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in broken] == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def wait_for_run(page: Page, state: str, *, patience_s: float = 90) -> None:
    """Until the page shows that the scan is in `state`; a slow machine has time as long as anything moves."""
    runs = page.locator("#vtag-runs")
    shown, since = "", time.monotonic()
    while runs.get_by_role("cell", name=state, exact=True).count() == 0:
        if (now := runs.inner_text()) != shown:
            shown, since = now, time.monotonic()
        assert time.monotonic() - since < patience_s, f"not {state!r}, and nothing moves: {shown}"
        page.wait_for_timeout(300)


def test_a_new_library_is_filled_from_the_page(open_page: Open, tmp_path: Path) -> None:
    from footage import make_video

    for number in range(2):  # the starter is a real model: seconds a window
        clip = tmp_path / "clips" / f"{number}.mp4"
        clip.parent.mkdir(exist_ok=True)
        make_video(clip, seconds=2, seed=number)
    with serving(tmp_path / "home") as (address, server), closing(open_page(at=address)) as page:
        page.wait_for_selector("#vtag-results .vtag-note")
        assert "Nothing was scanned yet" in page.locator("#vtag-results").inner_text()
        page.get_by_role("tab", name="Scan").click()
        page.get_by_label("Folders on this machine").fill("/nowhere/at/all")
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("there is no '/nowhere/at/all'").wait_for()
        page.get_by_label("Folders on this machine").fill(str(tmp_path / "clips"))
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("The scan runs").wait_for(timeout=90_000)
        wait_for_run(page, "done")
        memory = Path(f"/proc/{server}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(memory) < 400 * 1024  # kB
        page.get_by_role("tab", name="Library").click()
        page.locator(".vtag-figures").get_by_text("videos").wait_for()
        assert page.locator(".vtag-figures dd").first.inner_text() == "2"
        page.get_by_role("tab", name="Scan").click()
        assert "2 of 2 videos, 0:00:04 of video" in page.locator("#vtag-runs").inner_text()


def test_a_scan_is_ended_from_the_page_and_keeps_what_it_finished(open_page: Open, tmp_path: Path) -> None:
    from footage import make_video

    clips = tmp_path / "long"
    clips.mkdir()
    first = make_video(clips / "0.mp4", seconds=20, width=64, height=48)
    for number in range(1, 60):  # another size each: other contents
        shutil.copyfile(first, clips / f"{number}.mp4")
        with open(clips / f"{number}.mp4", "ab") as file:
            file.write(b"\0\0\0\x09free" + bytes([number]))
    with serving(tmp_path / "home") as (address, _), closing(open_page(at=address)) as page:
        page.get_by_role("tab", name="Scan").click()
        page.get_by_label("Folders on this machine").fill(str(clips))
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("The scan runs").wait_for(timeout=90_000)
        page.get_by_role("button", name="Start scan").click()
        page.get_by_text("one at a time").wait_for()
        page.get_by_role("button", name="End scan").click()
        wait_for_run(page, "interrupted", patience_s=30)
