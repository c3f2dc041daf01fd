"""A real browser for the page's tests. Every page is checked for errors and for requests to other machines."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, FloatRect, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# the longest wait; tests on a busy machine are slow
PATIENCE_MS = int(os.environ.get("VTAG_PATIENCE_MS", "180000"))
PLAYING = "() => document.querySelector('vtag-player')?.currentTime > 0"

_THIRTY_FRAMES = """() => new Promise(done => {
  let left = 30;
  const step = () => left-- ? requestAnimationFrame(step) : done();
  step();
})"""

OpenPage = Callable[..., "Page"]
T = TypeVar("T")


def require_browser() -> None:
    """Skip the test module if there is no browser, except in CI, where its tests then fail."""
    if not CHROMIUM and not os.environ.get("CI"):
        pytest.skip("no chromium on this machine", allow_module_level=True)


@contextlib.contextmanager
def launch_browser() -> Iterator[Browser]:
    """The machine's own Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio"]
        # Else a page that is opened by its address plays only where Playwright happened to send a gesture before.
        arguments += ["--autoplay-policy=no-user-gesture-required"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        chromium.new_context(viewport={"width": 1100, "height": 760})  # shared by all pages without options
        yield chromium
        chromium.close()


@contextlib.contextmanager
def page_opener(chromium: Browser, address: str) -> Iterator[OpenPage]:
    """A function that opens pages; checks afterwards that no page had an error or sent a request elsewhere."""
    problems: list[str] = []
    contexts = []
    page_opener: list[Page] = []

    def open_page(path: str = "", base_url: str = address, **options: object) -> Page:
        context = chromium.contexts[0]  # shared, so that its cache has the page's scripts
        if options:
            context = chromium.new_context(**options)  # type: ignore[arg-type]
            contexts.append(context)
        context.set_default_timeout(PATIENCE_MS)
        page = context.new_page()
        page_opener.append(page)
        page.on(
            "console", lambda message: problems.append(_describe(message)) if _is_problem(message) else None
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((base_url, "data:", "blob:")) else problems.append(request.url)
            ),
        )
        page.goto(f"{base_url}/{path}", timeout=PATIENCE_MS)
        page.locator(".view:visible").wait_for()
        return page

    yield open_page
    for page in page_opener:
        page.close()
    for context in contexts:
        context.close()
    assert problems == [], problems


def describe_pages(chromium: Browser) -> str:
    """The address, the focus and the text of each open page: what a log can show of a test that failed."""
    facts = (
        "[location.href, document.activeElement.outerHTML.slice(0, 200), document.body.innerText].join('\\n')"
    )
    pages = [page for context in chromium.contexts for page in context.pages]
    return "\n\n".join(page.evaluate(facts) for page in pages)


def _describe(message: ConsoleMessage) -> str:
    return f"{message.text} {message.location['url']}"


def _is_problem(message: ConsoleMessage) -> bool:
    """Whether a page logged an error.

    An answer of the API that refuses something is none: the page shows it. Nor is a picture of a moment that was
    undone or taught anew before the picture's turn came: its card is gone a moment later.
    """
    url = message.location["url"]
    is_refusal = "/api/" in url and re.search(r"status of (404|409|422)", message.text)
    is_gone = ("/picture/" in url or "/strip/moment/" in url) and "status of 404" in message.text
    return message.type == "error" and not is_refusal and not is_gone


def box_of(locator: Locator) -> FloatRect:
    """Where an element is on the page, in pixels; it has to be visible."""
    box = locator.bounding_box()
    assert box is not None, "it is not visible"
    return box


def settled(page: Page, read: Callable[[], T]) -> T:
    """What `read` gives once it is the same over half a second of drawn frames; a slow machine draws few."""
    value = read()
    while True:
        page.evaluate(_THIRTY_FRAMES)
        if value == (value := read()):
            return value


def open_view(page: Page, name: str) -> None:
    """Open a view of the page by its link in the bar."""
    page.get_by_role("navigation", name="Views").get_by_role("link", name=name, exact=True).click()
    page.locator(f"section.view[aria-label='{name}']:visible").wait_for()


def search_for(page: Page, query: str) -> None:
    """Search for a query, and wait until the address has it."""
    page.get_by_role("combobox", name="Search").fill(query)
    page.keyboard.press("Enter")
    page.wait_for_function("q => new URLSearchParams(location.search).get('q') === q", arg=query)


def play_video(page: Page, name: str) -> None:
    """Press the first card of a file, and wait until its video plays."""
    page.locator(".search-view .card-link", has_text=name).first.click()
    page.wait_for_function(PLAYING)


def go_to(page: Page, address: str) -> None:
    """Show a state of the page without loading it anew, as Back and Forward do."""
    page.evaluate(
        "address => { history.pushState({}, '', address); dispatchEvent(new PopStateEvent('popstate')); }",
        address,
    )


def undo_all(page: Page) -> None:
    """Take back what a test has changed."""
    page.evaluate("""async () => {
      const read = async (path, options) => (await fetch(`api/${path}`, options)).json();
      for (let undo; ({ undo } = await read("state")), undo;) {
        const body = JSON.stringify({ change: undo.id });
        await read("annotations/undo", { method: "POST", headers: { "content-type": "application/json" }, body });
      }
    }""")
