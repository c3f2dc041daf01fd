"""A real browser for the page's tests, and what is held against every page: no error, nothing leaves the machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# a loaded machine is slow; a condition that holds sooner is not waited for longer
PATIENCE_MS = int(os.environ.get("VTAG_PATIENCE_MS", "180000"))
PLAYING = "() => document.querySelector('#vtag-watch video')?.currentTime > 0"

OpenPage = Callable[..., "Page"]


def require_browser() -> None:
    """Skip the module where there is no browser; in CI that is a failure."""
    if not CHROMIUM and not os.environ.get("CI"):
        pytest.skip("no chromium on this machine", allow_module_level=True)


@contextlib.contextmanager
def launch_browser() -> Iterator[Browser]:
    """The machine's own Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"]
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        opened.new_context(viewport={"width": 1100, "height": 760})  # for all pages that ask for nothing else
        yield opened
        opened.close()


@contextlib.contextmanager
def page_opener(opened: Browser, address: str) -> Iterator[OpenPage]:
    """Opens pages; at the end no error stood in a console and no request had left the machine."""
    wrong: list[str] = []
    contexts = []
    made: list[Page] = []

    def open_(path: str = "", at: str = address, **options: object) -> Page:
        context = opened.contexts[0]  # the shared one: the page's scripts come out of its cache
        if options:
            context = opened.new_context(**options)  # type: ignore[arg-type]
            contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        made.append(page)
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda sent: None if sent.url.startswith((at, "data:", "blob:")) else wrong.append(sent.url),
        )
        page.goto(f"{at}/{path}", timeout=PATIENCE_MS)
        there = page.locator(".vtag-card, .vtag-welcome, .vtag-watch, #vtag-results .vtag-note")
        there.locator("visible=true").first.wait_for()
        return page

    yield open_
    for page in made:
        page.close()
    for context in contexts:
        context.close()
    assert wrong == []


def open_tab(page: Page, name: str) -> None:
    """Go to a tab."""
    page.get_by_role("tab", name=name, exact=True).click()


def search_for(page: Page, query: str) -> None:
    """Search, and wait for cards."""
    box = page.get_by_role("textbox", name="Search", exact=True)
    box.fill(query)
    box.press("Enter")
    page.wait_for_url("**q=**")
    page.wait_for_selector("#vtag-results .vtag-card")


def play_video(page: Page, name: str) -> None:
    """Press the first card of a file, and wait until it plays."""
    page.locator("#vtag-results .vtag-card", has_text=name).first.click()
    page.wait_for_function(PLAYING)
