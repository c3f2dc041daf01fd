"""The page in a real browser: search, play, correct and undo; by keyboard, on a phone, and with axe-core."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import PLAYING, OpenPage, open_tab, page_opener, play_video, require_browser, search_for
from helpers.page_server import make_library, serve_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'name'.mp4"
ALL = "?q=archery OR yoga OR bike"

require_browser()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("page"), names=("plain.mp4", "old.avi", HOSTILE), seconds=8)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page(home) as (server_address, _):
        yield server_address


@pytest.fixture
def open_page(chromium: Browser, address: str) -> Iterator[OpenPage]:
    with page_opener(chromium, address) as open_:
        yield open_


def statuses(page: Page) -> list[str]:
    return [text.strip() for text in page.locator(".vtag-tag .vtag-status").all_inner_texts()]


def wait_for_message(page: Page, text: str) -> None:
    page.locator("#vtag-tags .vtag-note", has_text=text).wait_for()


def test_a_moment_is_found_and_plays_from_its_time(open_page: OpenPage) -> None:
    page = open_page()
    search_for(page, "archery OR yoga OR bike")
    picture = page.locator(".vtag-card img").first
    picture.evaluate("async image => { await image.decode(); }")
    assert picture.evaluate("image => image.naturalWidth") > 100
    play_video(page, "plain.mp4")
    assert "/media/" in str(page.locator("#vtag-watch video").get_attribute("src"))
    # the middle of a track is the middle of the video
    page.locator(".vtag-track").first.click(force=True)
    bars = page.locator(".vtag-bar")
    last_bar = max(range(bars.count()), key=lambda i: int(bars.nth(i).get_attribute("data-seek") or 0))
    start_s = int(bars.nth(last_bar).get_attribute("data-seek") or 0) / 1000
    bars.nth(last_bar).click()
    page.wait_for_function(f"() => document.querySelector('video').currentTime >= {start_s}")
    # the address of the Watch tab opens the same video at the same time
    second_page = open_page(f"?v={page.locator('.vtag-watch').get_attribute('data-content')}&t=5000")
    second_page.wait_for_function("() => document.querySelector('#vtag-watch video')?.currentTime >= 5")


def test_similar_moments_are_found_from_a_card_a_tag_and_the_player(open_page: OpenPage) -> None:
    page = open_page(ALL)
    alike = page.get_by_label("Moments that look alike")
    first = page.locator("#vtag-results li").first
    first.hover()
    first.get_by_role("button", name="More like this").click()
    alike.locator(".vtag-card", has_text="alike").first.wait_for()
    alike.locator("li").last.hover()
    alike.locator("li").last.get_by_role("button", name="More like this").click()
    alike.locator(".vtag-card").first.click()  # a similar moment plays from its start
    page.wait_for_function(PLAYING)
    for component, button in (
        ("#vtag-timeline", "More like what is shown now"),
        ("#vtag-tags", "More like this: "),
    ):
        open_tab(page, "Search")
        search_for(page, "archery OR yoga OR bike")
        alike.wait_for(state="detached")
        play_video(page, "plain.mp4")
        page.locator(component).get_by_role("button", name=button).first.click()
        alike.locator(".vtag-card", has_text="alike").first.wait_for()


def test_a_file_that_browsers_cannot_play_is_shown_from_a_copy(open_page: OpenPage) -> None:
    page = open_page(ALL)
    play_video(page, "old.avi")
    assert "/moment/" in str(page.locator("#vtag-watch video").get_attribute("src"))
    assert page.get_by_text("shown from a copy made for it").is_visible()


def test_the_address_carries_the_query_and_its_filters(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_label("Recorded after").fill("1999")
    search_for(page, "yoga OR archery OR bike")
    page.wait_for_url("**q=yoga*")
    assert "after=1999" in page.url
    unfiltered_count = page.locator("#vtag-results .vtag-card").count()
    second_page = open_page(page.url.split("/", 3)[3] + "&score=0.5")
    assert (
        second_page.get_by_role("textbox", name="Search", exact=True).input_value()
        == "yoga OR archery OR bike"
    )
    assert second_page.get_by_label("Recorded after").input_value() == "1999"
    assert 0 < second_page.locator("#vtag-results .vtag-card").count() < unfiltered_count


def test_the_latest_search_stays_if_an_earlier_answer_is_late(open_page: OpenPage) -> None:
    """Also if the search before it is answered late. The test holds its request back."""
    page = open_page(ALL)
    held_routes: list[Route] = []

    def hold(route: Route) -> None:
        if '["archery",' in (route.request.post_data or "") and not held_routes:
            held_routes.append(route)
        else:
            route.continue_()

    page.route("**/run/**", hold)
    box = page.get_by_role("textbox", name="Search", exact=True)
    for query in ("archery", "yoga"):
        box.fill(query)
        box.press("Enter")
        while not held_routes:
            page.wait_for_timeout(50)
    page.wait_for_timeout(
        500
    )  # without serial groups the second answer would be here, and then be overwritten
    held_routes[0].continue_()
    page.wait_for_url("**q=yoga*")
    labels = page.locator("#vtag-results .vtag-label")
    page.wait_for_function(
        "() => [...document.querySelectorAll('#vtag-results .vtag-label')].every(e => e.innerText === 'yoga')"
    )
    page.wait_for_timeout(500)
    assert set(labels.all_inner_texts()) == {"yoga"}


def test_a_hostile_file_name_is_shown_as_text(open_page: OpenPage) -> None:
    page = open_page(ALL)
    assert HOSTILE in page.locator(".vtag-card", has_text="onerror").first.inner_text()
    play_video(page, "onerror")
    assert page.locator(".vtag-name").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0


def test_a_query_without_results_or_with_an_error_shows_a_message(open_page: OpenPage) -> None:
    page = open_page()
    box = page.get_by_role("textbox", name="Search", exact=True)
    for query in ("zymurgy", "-only", "(archery", "<script>alert(1)</script>", "zymurgy' OR 1=1 --"):
        box.fill(query)
        box.press("Enter")
        page.wait_for_url("**q=**")
        page.wait_for_selector("#vtag-results .vtag-note")
    assert page.locator("#vtag-results script").count() == 0
    page.locator("#vtag-suggestions").get_by_role("button", name="archery", exact=True).first.click()
    page.wait_for_selector("#vtag-results .vtag-card")
    assert box.input_value() == "archery"


def test_corrections_are_shown_and_undone(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    play_video(page, "plain.mp4")
    first = page.locator(".vtag-tag").first
    first_statuses = statuses(page)
    first.get_by_role("button", name="Yes").click()
    wait_for_message(page, "confirmed")
    assert statuses(page)[0] == "✓ confirmed"
    first.get_by_role("button", name="No,").click()
    wait_for_message(page, "rejected")
    assert statuses(page)[0] == "✗ rejected"
    first.get_by_role("button", name="Rename").click()
    page.get_by_label("New name").fill("opening a door")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    page.locator(".vtag-tag", has_text="opening a door").get_by_text("✓ yours").wait_for()
    page.get_by_label("Tag", exact=True).fill("waving <b>")
    page.locator("#vtag-watch video").evaluate("video => { video.pause(); video.currentTime = 2; }")
    page.get_by_role("button", name="From here").click()
    page.get_by_label("To", exact=True).fill("0:04")
    page.get_by_role("button", name="Add tag").click()
    page.locator(".vtag-tag", has_text="waving <b>").get_by_text("0:02–0:04").wait_for()
    for _ in range(4):
        page.get_by_role("button", name="Undo").click()
        wait_for_message(page, "Taken back")
        page.wait_for_timeout(300)
    page.wait_for_function(
        "count => document.querySelectorAll('.vtag-tag').length === count", arg=len(first_statuses)
    )
    assert statuses(page) == first_statuses
    page.get_by_role("button", name="Undo").click()
    wait_for_message(page, "nothing to undo")


def test_the_score_curve_of_any_label_is_shown_on_demand(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    play_video(page, "plain.mp4")
    page.locator(".vtag-timeline [name=label]").fill("yoga")
    page.get_by_role("button", name="Show curve").click()
    assert "highest 0." in str(page.locator(".vtag-curve svg").get_attribute("aria-label"))
    page.locator(".vtag-timeline [name=label]").fill("unheard of")
    page.get_by_role("button", name="Show curve").click()
    wait_for_message(page, "No label is called")


def test_everything_can_be_done_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    page.locator("h1").click()  # nothing has the focus
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.closest('#vtag-query')")
    page.keyboard.type("archery")
    page.keyboard.press("Enter")
    page.wait_for_url("**q=archery*")
    page.wait_for_selector("#vtag-results .vtag-card")
    page.keyboard.press("Escape")  # out of the field
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function(PLAYING)
    page.keyboard.press("?")
    assert page.locator("dialog[open]").get_by_text("play or pause").is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("n")
    page.wait_for_function("() => document.activeElement.classList.contains('vtag-tag-name')")
    page.keyboard.press("y")
    wait_for_message(page, "confirmed")
    page.keyboard.press("x")
    wait_for_message(page, "rejected")
    page.keyboard.press("l")
    page.wait_for_function("() => document.querySelector('#vtag-watch video').currentTime > 4")
    page.keyboard.press("a")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    page.locator(".vtag-tag", has_text="by keyboard").wait_for()
    page.keyboard.press("Escape")
    for _ in range(3):
        page.keyboard.press("u")
        wait_for_message(page, "Taken back")
        page.wait_for_timeout(400)
    page.locator(".vtag-tag", has_text="by keyboard").wait_for(state="detached")
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.querySelector('#vtag-results').offsetParent")


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 390)])
def test_each_view_is_accessible_and_fits(
    open_page: OpenPage, scheme: str, width: int, tmp_path: Path
) -> None:
    check_views(open_page, scheme, width, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("scheme", "width"), [("dark", 1280), ("light", 390)])
def test_each_view_is_accessible_and_fits_the_other_way(
    open_page: OpenPage, scheme: str, width: int, tmp_path: Path
) -> None:
    check_views(open_page, scheme, width, tmp_path)


def check_views(open_page: OpenPage, scheme: str, width: int, tmp_path: Path) -> None:
    """Run axe-core over every view, check its width, and save pictures to VTAG_SCREENSHOTS if it is set."""
    from axe_playwright_python.sync_playwright import Axe

    pictures = Path(os.environ.get("VTAG_SCREENSHOTS", tmp_path))
    pictures.mkdir(parents=True, exist_ok=True)
    page = open_page(ALL, color_scheme=scheme, viewport={"width": width, "height": 850})
    ready_selectors = {
        "Search": "#vtag-results .vtag-card",
        "Watch": ".vtag-tag",
        "Scan": "#vtag-runs h2",
        "Teach": "#vtag-teach *",
        "Library": "#vtag-models table",
    }
    for view, selector in ready_selectors.items():
        if view == "Watch":
            play_video(page, "plain.mp4")
            page.locator(".vtag-timeline [name=label]").fill("archery")
            page.get_by_role("button", name="Show curve").click()
            page.wait_for_selector(".vtag-curve")
        else:
            open_tab(page, view)
        page.wait_for_selector(selector)
        page.wait_for_timeout(700)  # until colours and pictures are final
        page.screenshot(path=pictures / f"{view.lower()}-{scheme}-{width}.png", full_page=True)
        violations = Axe().run(page).response["violations"]
        assert [(rule["id"], [node["html"][:300] for node in rule["nodes"]]) for rule in violations] == []
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
