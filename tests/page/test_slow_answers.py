"""A quick person and a slow server, in a real browser: answers come late and in any order, and none does harm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from helpers.browser import (
    PLAYING,
    OpenPage,
    box_of,
    go_to,
    open_view,
    require_browser,
    search_for,
    settled,
    undo_all,
)
from helpers.film_library import Film, make_film_library
from helpers.held_requests import HeldRequests
from helpers.page_server import serve_page_warm

if TYPE_CHECKING:
    from playwright.sync_api import Route

LABELS = ("archery", "yoga", "skiing", "none of these")
FILMS = {
    "first.mp4": Film([("archery", 4), ("yoga", 4)], "2025-08-09T12:00:00Z"),
    "second.mp4": Film([("archery", 4), ("skiing", 4)], "2025-08-08T12:00:00Z"),
    **{f"many/{number:03}.mp4": Film([("yoga", 2), ("skiing", 2)]) for number in range(60)},
}

_ASK_NOW = "document.dispatchEvent(new Event('visibilitychange'))"  # as when the page is looked at again

require_browser()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = make_film_library(tmp_path_factory.mktemp("slow"), FILMS, LABELS)
    with serve_page_warm(home) as (server_address, _):
        yield server_address


# search


def test_a_selection_is_of_the_list_that_is_shown(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    page.locator(".card").first.wait_for()
    held = HeldRequests(page, "**/api/moments/ids*")
    page.keyboard.press("Control+a")
    held.wait_for(1)
    search_for(page, "skiing")
    page.locator(".card-label", has_text="skiing").first.wait_for()
    held.answer(0)
    assert settled(page, page.get_by_role("region", name="Selection").count) == 0


def test_what_looks_alike_is_not_the_whole_library(open_page: OpenPage) -> None:
    page = open_page("?like=m.1")
    page.locator(".card").first.wait_for()
    page.keyboard.press("Control+a")
    assert settled(page, page.get_by_role("region", name="Selection").count) == 0


def test_what_is_selected_while_others_are_confirmed_stays(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    page.locator("[data-index='1'] .card-box").wait_for()
    page.locator("[data-index='0'] .card-box").click()
    held = HeldRequests(page, "**/api/annotations/confirm")
    yes = page.get_by_role("region", name="Selection").get_by_role("button", name="Yes")
    yes.dblclick()
    held.wait_for(1)
    page.locator("[data-index='1'] .card-box").click()
    page.get_by_text("2 moments selected").wait_for()
    held.answer(0)
    page.get_by_text("1 moment selected").wait_for()
    assert len(held.routes) == 1
    undo_all(page)


def test_nothing_of_the_last_search_is_said_of_the_next(open_page: OpenPage) -> None:
    page = open_page("?q=nothing at all")
    page.get_by_text("Nothing fits this search.").wait_for()
    held = HeldRequests(page, "**/api/moments?q=yoga*")
    search_for(page, "yoga")
    held.wait_for(1)
    page.get_by_role("list", name="Moments").and_(page.locator("[aria-busy=true]")).wait_for()
    assert page.get_by_text("Nothing fits this search.").count() == 0
    assert page.locator(".result-count").inner_text() == ""
    held.answer(0)
    page.locator(".card-label", has_text="yoga").first.wait_for()
    page.locator(".grid[aria-busy=true]").wait_for(state="detached")


def test_the_search_field_goes_back_with_its_results(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    search_for(page, "skiing")
    page.go_back()
    page.wait_for_function("() => document.querySelector('#query').value === 'archery'")
    page.keyboard.press("Enter")  # the same search again
    assert page.evaluate("history.state.count") == 0  # one step back would leave the page


def test_of_two_corrections_the_later_is_shown(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    card = page.locator("[data-index='0']")
    card.wait_for()
    page.mouse.wheel(0, 200)  # so that the list is read again in its place
    held = HeldRequests(page, "**/api/moments?q=archery*", is_read=True)
    card.locator(".card-box").click()
    page.get_by_role("region", name="Selection").get_by_role("button", name="Yes").click()
    page.get_by_role("button", name="Undo: archery").wait_for()
    held.wait_for(1)
    before = len(held.routes)
    page.keyboard.press("u")
    held.wait_for(before + 1)
    for number in reversed(range(len(held.routes))):
        held.answer(number)
    assert "✓" not in settled(page, page.locator(".card-confidence").all_inner_texts)
    undo_all(page)


def test_keys_go_on_where_cards_are_not_loaded_yet(open_page: OpenPage) -> None:
    page = open_page("?q=yoga OR skiing")
    held = HeldRequests(page, "**/api/moments?*offset=100*")
    page.locator("[data-index='0'] a").wait_for()
    page.keyboard.press("Escape")
    page.locator("[data-index='0'] a").focus()
    page.keyboard.press("End")
    held.wait_for(1)
    page.keyboard.press("ArrowLeft")
    place = "document.activeElement.dataset.index ?? document.activeElement.closest('.card')?.dataset.index"
    place_before = page.evaluate(place)
    assert int(place_before) > 100
    page.keyboard.press("Enter")  # there is nothing to open yet
    assert "v=" not in page.url
    held.answer(0)
    page.wait_for_function("() => document.activeElement.matches('.card-link')")
    assert int(page.evaluate(place)) > 100
    page.keyboard.press("Home")
    page.wait_for_function("() => document.activeElement.closest('.card')?.dataset.index === '0'")


def test_a_list_that_is_read_again_does_not_blink(open_page: OpenPage, address: str) -> None:
    page = open_page("?q=archery")
    page.wait_for_function("() => document.querySelector('[data-index=\"0\"] img')?.naturalWidth")
    page.evaluate("() => { window.image = document.querySelector('[data-index=\"0\"] img'); }")
    tag = {"content": 5, "label": "archery", "start": "0:01", "end": "0:02"}
    page.request.post(f"{address}/api/annotations/add", data=tag)
    page.evaluate(_ASK_NOW)
    page.locator(".result-count", has_text="3 moments in 3 videos").wait_for()
    assert page.evaluate("window.image.isConnected && window.image.naturalWidth > 0")
    undo_all(page)


def test_the_pictures_under_the_pointer_go_with_it(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    picture = page.locator("[data-index='0'] .picture")
    picture.locator("img").wait_for()
    held = HeldRequests(page, "**/strip/**")
    for _ in range(2):
        picture.hover()
        held.wait_for(1)
        page.mouse.move(2, 2)
    picture.hover()
    held.wait_for(1)
    for number in range(len(held.routes)):
        held.answer(number)
    held.let_go()
    page.mouse.move(2, 2)
    picture.hover()
    picture.locator(".strip").wait_for()
    assert settled(page, picture.locator(".strip").count) == 1
    page.mouse.move(2, 2)
    picture.locator(".strip").wait_for(state="detached")


def test_a_double_press_on_a_card_opens_it_and_does_nothing_there(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    card = page.locator("[data-index='0'] .picture")
    card.wait_for()
    place = box_of(card)
    at = place["x"] + place["width"] / 2, place["y"] + place["height"] / 2
    page.evaluate("""() => { window.presses = []; for (const type of ['pointerdown', 'click'])
      document.querySelector('main').addEventListener(type, () => window.presses.push(type)); }""")
    page.mouse.click(*at)
    page.mouse.click(*at)
    page.wait_for_function(PLAYING)
    assert page.evaluate("window.presses") == ["pointerdown", "click"]


# library


def test_a_list_that_comes_late_leaves_the_next_view_alone(open_page: OpenPage) -> None:
    page = open_page("?q=yoga OR skiing")
    page.locator(".card").first.wait_for()
    held = HeldRequests(page, "**/api/videos/counts*")
    open_view(page, "Library")
    held.wait_for(1)
    page.go_back()
    page.mouse.wheel(0, 900)
    place = settled(page, lambda: page.evaluate("scrollY"))
    held.answer(0)
    assert place and settled(page, lambda: page.evaluate("scrollY")) == place
    assert page.title().startswith("yoga OR skiing")


def test_a_name_that_is_typed_filters_no_other_view(open_page: OpenPage) -> None:
    page = open_page("?view=library")
    page.locator(".library-view .card").first.wait_for()
    page.get_by_role("searchbox", name="File name").press_sequentially("second")
    open_view(page, "Search")
    assert settled(page, lambda: page.evaluate("location.search")) == ""


def test_the_problem_of_an_earlier_list_is_not_said_of_the_next(open_page: OpenPage) -> None:
    page = open_page("?view=library&sort=bogus")
    problem = page.locator(".library-view > .search-body .problem")
    problem.wait_for()
    held = HeldRequests(page, "**/api/videos/counts?*bogus*")
    page.reload()
    held.wait_for(1)
    go_to(page, "?view=library&name=second")
    page.locator(".library-view .card", has_text="second.mp4").wait_for()
    held.answer(0)
    assert settled(page, problem.inner_text) == ""
    page.get_by_role("searchbox", name="File name").fill("no such name")
    page.get_by_role("link", name="Show all videos").click()
    page.get_by_text("62 videos").wait_for()


def test_a_server_that_is_away_is_asked_calmly_and_the_page_goes_on_when_it_is_back(
    open_page: OpenPage,
) -> None:
    page = open_page("?view=library")
    page.locator(".library-view .card").first.wait_for()
    asked: list[str] = []

    def refuse(route: Route) -> None:
        asked.append(route.request.url)
        route.fulfill(status=409, json={"error": "the server is away"})

    page.route("**/api/**", refuse)
    open_view(page, "Search")
    page.get_by_text("the server is away").first.wait_for()
    page.evaluate(_ASK_NOW)
    page.locator(".notice", has_text="the server is away").wait_for()
    assert len(asked) < 20
    page.unroute("**/api/**")
    page.evaluate(_ASK_NOW)
    page.locator(".notice:empty").wait_for(state="attached")
    page.locator(".search-view .card").first.wait_for()
