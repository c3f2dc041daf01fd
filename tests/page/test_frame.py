"""The page around its views, in a real browser: addresses, two servers, a forwarded port, a phone."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
from helpers.browser import PLAYING, OpenPage, box_of, open_view, require_browser
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page_warm

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LABELS = ("archery", "riding a bike", "none of these")
FILMS = {"plain.mp4": Film([("archery", 6)]), **{f"{i}.mp4": Film([("riding a bike", 3)]) for i in range(7)}}

require_browser()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, fps=5, width=64, height=48, seed=seed)

    return make_film_library(tmp_path_factory.mktemp("frame"), FILMS, LABELS, make_file)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


VIEWS = ("Search", "Library", "Teach", "Scan", "Tools")


def test_every_view_has_an_address_and_silences_the_one_before(open_page: OpenPage) -> None:
    page = open_page("?v=1", viewport={"width": 1300, "height": 800})
    is_paused = "document.querySelector('vtag-player').paused"
    addresses = []
    page.wait_for_function(PLAYING)
    for view in VIEWS:
        page.evaluate("document.querySelector('vtag-player').play()")
        page.wait_for_function(f"() => !{is_paused}")
        open_view(page, view)
        assert page.evaluate(is_paused)
        addresses.append(page.url)
        page.go_back()
        page.locator(".watch-view:visible").wait_for()
    for view, address in zip(VIEWS, addresses, strict=True):
        page.goto(address)
        page.locator(f"section.view[aria-label='{view}']:visible").wait_for()
        current = page.get_by_role("navigation", name="Views").locator("[aria-current=page]")
        assert current.inner_text() == view
    page.go_back()
    page.locator("section.view[aria-label='Scan']:visible").wait_for()


def test_two_servers_on_one_machine_do_not_end_each_others_sessions(
    open_page: OpenPage, tmp_path: Path
) -> None:
    page = open_page("?q=archery")
    page.locator(".card").first.wait_for()
    (tmp_path / "home").mkdir()
    with serve_page_warm(tmp_path / "home") as (other_address, _):
        other = open_page(base_url=other_address)  # the same browser
        other.get_by_role("heading", name="Find what happens in your videos").wait_for()
        open_view(page, "Library")
        page.get_by_text("8 videos").wait_for()
        open_view(other, "Library")
        other.get_by_role("heading", name="There is no video here yet").wait_for()
        open_view(other, "Scan")
        other.get_by_text("Nothing was scanned yet.").wait_for()
        other.close()


def test_the_password_leads_to_the_page_that_was_asked_for(home: Path, chromium: Browser) -> None:
    with serve_page_warm(home, password="right horse") as (other_address, _):
        page = chromium.new_context().new_page()
        page.goto(f"{other_address}/?view=library&name=plain")
        page.get_by_label("Password").fill("right horse")
        page.keyboard.press("Enter")
        page.locator(".library-view .card", has_text="plain.mp4").wait_for()
        page.get_by_text("1 video").wait_for()
        page.context.clear_cookies()  # the session ends
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        page.get_by_label("Password").fill("right horse")
        page.keyboard.press("Enter")
        page.locator(".library-view .card", has_text="plain.mp4").wait_for()
        page.context.close()


@contextlib.contextmanager
def forwarded_port(address: str) -> Iterator[str]:
    """An address at which another port leads to that of `address`, as through ssh or a container."""
    target = urlsplit(address)

    def copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):  # it is closed
            while True:
                near = listener.accept()[0]
                far = socket.create_connection((target.hostname, target.port))  # type: ignore[arg-type]
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=copy, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://localhost:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_forwarded_port_shows_plays_and_corrects(open_page: OpenPage, address: str) -> None:
    with forwarded_port(address) as other_address:
        page = open_page("?v=1", base_url=other_address)
        page.wait_for_function(PLAYING)
        page.get_by_role("button", name="Yes: archery").click()
        page.locator(".toast", has_text="confirmed").wait_for()
        page.keyboard.press("u")
        page.locator(".toast", has_text="Undone").wait_for()
        page.close()


def test_on_a_phone_results_begin_high_and_nothing_covers_their_pictures(open_page: OpenPage) -> None:
    page = open_page("?q=bike", viewport={"width": 390, "height": 800}, has_touch=True)
    card = page.locator(".card").first
    card.wait_for()
    picture = box_of(card.locator(".picture"))
    assert picture["y"] < 300
    assert box_of(card.get_by_role("button", name="More like this"))["y"] >= picture["y"] + picture["height"]
    row = {round(box_of(each)["y"]) for each in page.locator(".card").all()[:2]}
    assert len(row) == 1  # two side by side
