"""Search on the page, in a real browser: results, filters, groups, selection, similar moments, addresses."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import OpenPage, box_of, open_view, require_browser, search_for, settled, undo_all
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page_warm

if TYPE_CHECKING:
    from playwright.sync_api import Page, Request, Route

HOSTILE = "<img src=x onerror=alert(1)> & \"quoted\" 'name'.mp4"
LABELS = ("archery", "riding a bike", "yoga", "skiing", "none of these")
_PARTS = [("archery", 4), ("yoga", 4), ("skiing", 4)]
FILMS = {
    "lake/plain.mp4": Film(_PARTS, "2025-08-09T12:00:00Z"),
    HOSTILE: Film([("archery", 4), ("riding a bike", 4)], "2023-05-01T12:00:00Z"),
    "portrait.mp4": Film([("riding a bike", 6)], "2024-02-03T12:00:00Z"),
    "nothing/segway.mp4": Film([("none of these", 4)], "2022-02-03T12:00:00Z"),
    **{
        f"many/{number:02}.mp4": Film([("yoga", 3), ("skiing", 3)], f"2021-01-{number % 28 + 1:02}T12:00:00Z")
        for number in range(60)
    },
}

require_browser()


def make_file(path: Path, film: Film, seed: int) -> None:
    width, height = (48, 80) if path.name == "portrait.mp4" else (64, 48)
    make_video(path, seconds=film.seconds, fps=4, width=width, height=height, seed=seed)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film_library(tmp_path_factory.mktemp("page"), FILMS, LABELS, make_file)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


def wait_for_count(page: Page, text: str) -> None:
    page.locator(".result-count", has_text=re.compile(f"^{re.escape(text)}$")).wait_for()


def test_the_first_view_shows_the_best_moment_of_each_label_first(open_page: OpenPage) -> None:
    page = open_page()
    page.get_by_role("heading", name="The best moments of everything").wait_for()
    labels = page.locator(".card .card-label")
    labels.nth(4).wait_for()
    assert set(labels.all_inner_texts()[:4]) == {"archery", "riding a bike", "yoga", "skiing"}
    page.locator(".suggestions a", has_text="yoga").first.click()
    page.wait_for_url("**q=*yoga*")
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card-label')].every(e => e.innerText === 'yoga')"
    )


def test_results_have_a_count_facets_chips_and_groups(open_page: OpenPage) -> None:
    page = open_page("?q=yoga OR archery OR bike OR skiing", viewport={"width": 1300, "height": 800})
    wait_for_count(page, "126 moments in 63 videos")
    page.get_by_role("region", name="Year").get_by_role("link", name="2023").click()
    wait_for_count(page, "2 moments in 1 video")
    page.get_by_role("region", name="Label").get_by_role("link", name="archery").click()
    wait_for_count(page, "1 moment in 1 video")
    page.get_by_role("link", name="Remove the filter: recorded 2023").click()
    wait_for_count(page, "2 moments in 2 videos")
    page.go_back()
    wait_for_count(page, "1 moment in 1 video")
    page.get_by_role("link", name="Remove the filter: archery").click()
    page.get_by_label("Group").select_option("day")
    page.locator(".grid-heading", has_text="May 1, 2023").wait_for()


def test_filters_apply_without_a_query_and_say_what_is_wrong(open_page: OpenPage) -> None:
    page = open_page("?score=0.99", viewport={"width": 1300, "height": 800})
    page.get_by_text("Nothing fits this search.").wait_for()
    page.get_by_role("link", name="Remove the filter: confidence from 99 %").click()
    page.locator(".card").first.wait_for()
    slider = page.get_by_role("slider", name="Confidence")
    slider.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_url("**score=0.05*")
    page.get_by_role("textbox", name="Recorded from").fill("tomorrow")
    page.keyboard.press("Enter")
    problem = page.locator(
        ".filter-panel .field-problem", has_text="Recorded from: 'tomorrow' cannot be used"
    )
    problem.wait_for()
    assert "column" not in problem.inner_text()
    page.get_by_role("textbox", name="Recorded from").fill("2025")
    page.keyboard.press("Enter")
    wait_for_count(page, "3 moments in 1 video")
    page.goto(page.url.split("?")[0] + "?name=segway")
    page.locator(".card", has_text="segway.mp4").first.wait_for()  # nothing in it is sure


def test_mistakes_and_near_labels_are_said(open_page: OpenPage) -> None:
    page = open_page()
    search_for(page, "(archery")
    page.get_by_role("alert").wait_for()
    search_for(page, "yogaa")
    near = page.get_by_role("list", name="Near to it").get_by_role("link", name="yoga")
    near.click()
    page.locator(".card").first.wait_for()
    search_for(page, "<script>alert(1)</script>")
    page.get_by_text("Nothing fits this search.").wait_for()
    for example in page.evaluate("fetch('api/suggestions').then(r => r.json()).then(s => s.examples)"):
        search_for(page, example)
        page.locator(".card").first.wait_for()


def test_cards_are_links_and_back_returns_to_their_place_without_a_load(open_page: OpenPage) -> None:
    page = open_page("?q=yoga OR skiing")
    page.evaluate("window.isSamePage = true")
    page.locator(".card").first.wait_for()
    page.mouse.wheel(0, 2600)
    page.wait_for_function("() => document.querySelector('[data-index=\"70\"] a')")
    card = page.locator("[data-index='60'] a")
    card.focus()
    name = card.get_attribute("aria-label")
    scrolled = settled(page, lambda: page.evaluate("window.scrollY"))  # the wheel has come to rest
    page.keyboard.press("Enter")
    page.locator(".video-name").wait_for()
    assert page.evaluate("document.activeElement.className") == "video-name"
    page.keyboard.press("Escape")
    page.wait_for_function("name => document.activeElement.getAttribute('aria-label') === name", arg=name)
    assert page.evaluate("window.isSamePage") is True
    assert abs(page.evaluate("window.scrollY") - scrolled) < 5
    with page.context.expect_page() as opened:
        card.click(modifiers=["ControlOrMeta"])
    opened.value.locator(".video-name").wait_for()
    opened.value.close()


def test_many_are_selected_confirmed_and_undone_by_name(open_page: OpenPage) -> None:
    page = open_page("?q=skiing", viewport={"width": 1300, "height": 900})
    wait_for_count(page, "61 moments in 61 videos")
    page.locator("[data-index='0'] .card-box").click()
    page.locator("[data-index='7'] .card-box").click(modifiers=["Shift"])
    page.get_by_text("8 moments selected").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("Control+a")
    page.get_by_text("61 moments selected").wait_for()
    page.get_by_role("region", name="Selection").get_by_role("button", name="Yes").click()
    page.get_by_text("Skiing in 61 moments confirmed.").wait_for()
    undo = page.get_by_role("button", name="Undo: skiing in 61 moments confirmed")
    undo.click()
    page.get_by_text("Undone: skiing in 61 moments confirmed.").wait_for()
    page.get_by_role("button", name="Redo: skiing in 61 moments confirmed").wait_for()
    page.locator(".card-confidence", has_text="%").first.wait_for()


def test_a_selected_moment_stays_selected_when_undo_gives_it_another_id(open_page: OpenPage) -> None:
    page = open_page("?q=archery", viewport={"width": 1300, "height": 900})
    bar = page.get_by_role("region", name="Selection")
    guess = page.locator(".card.is-less-sure").first
    guess.locator(".card-box").click()
    name = str(guess.locator("a").get_attribute("aria-label")).rpartition(",")[0]
    bar.get_by_role("button", name="Yes").click()
    own = page.locator(".card:not(.is-less-sure)").filter(has=page.locator(f"a[aria-label^='{name}']"))
    own.locator(".card-box").click()
    page.keyboard.press("u")
    page.locator(".card.is-less-sure.is-selected").wait_for()
    bar.get_by_text("1 moment selected").wait_for()
    bar.get_by_role("button", name="Export").click()
    page.get_by_role("dialog").get_by_text("The browser saves 1 moment in 1 video").wait_for()


def test_the_focus_returns_from_the_selection_to_its_card(open_page: OpenPage) -> None:
    page = open_page("?q=skiing")
    page.locator("[data-index='2'] .card-link").focus()
    page.keyboard.press("Space")
    page.get_by_role("region", name="Selection").get_by_role("button", name="Yes").focus()
    page.keyboard.press("Enter")
    page.locator("[data-index='2'] .card-confidence", has_text="✓").wait_for()
    assert page.evaluate("document.activeElement.closest('[data-index]')?.dataset.index") == "2"
    undo_all(page)


def test_similar_moments_say_of_what_and_give_each_video_once(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    page.locator(".card", has_text="plain.mp4").get_by_role("button", name="More like this").click()
    page.get_by_role("heading", name="Looks like plain.mp4 at").wait_for()
    page.locator(".card").first.wait_for()
    names = page.locator(".card .card-name").all_inner_texts()[:20]
    assert len(names) == len(set(names))
    assert "like=m." in page.url
    page.go_back()
    wait_for_count(page, "2 moments in 2 videos")


def test_a_hostile_file_name_is_text_and_a_portrait_picture_is_whole(open_page: OpenPage) -> None:
    page = open_page("?q=bike")
    card = page.locator(".card", has_text="onerror")
    assert card.locator(".card-name").inner_text() == HOSTILE
    card.locator("a").click()
    page.locator(".video-name", has_text="onerror").wait_for()
    assert page.locator(".video-name").inner_text() == HOSTILE
    assert page.locator("img[src=x]").count() == 0
    page.go_back()
    image = page.locator(".card", has_text="portrait.mp4").locator("img")
    image.evaluate("async image => { while (!image.naturalWidth) await new Promise(requestAnimationFrame); }")
    assert image.evaluate("image => getComputedStyle(image).objectFit") == "contain"


def test_the_latest_search_stays_if_an_earlier_answer_is_late(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".card").first.wait_for()
    held: list[Route] = []
    ended: list[Request] = []
    page.on("requestfinished", lambda request: ended.append(request))
    page.on("requestfailed", lambda request: ended.append(request))
    page.route("**/api/moments?q=archery*", lambda route: held.append(route))
    search_for(page, "archery")
    search_for(page, "yoga")
    page.locator(".card-label", has_text="yoga").first.wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.card-label')].every(e => e.innerText === 'yoga')"
    )
    held[0].continue_()
    while held[0].request not in ended:
        page.wait_for_timeout(50)
    assert set(settled(page, page.locator(".card-label").all_inner_texts)) == {"yoga"}


def test_a_press_counts_though_an_answer_arrives_in_the_middle_of_it(open_page: OpenPage) -> None:
    page = open_page()
    chip = page.get_by_role("list", name="Labels").get_by_role("link", name="yoga")
    waiting: list[Route] = []
    page.route("**/api/moments/counts", lambda route: waiting.append(route))
    page.reload()
    chip.wait_for()
    place = box_of(chip)
    page.mouse.move(place["x"] + 5, place["y"] + 5)
    page.mouse.down()
    for route in waiting:
        route.continue_()
    page.wait_for_timeout(500)
    page.mouse.up()
    page.wait_for_function("() => new URLSearchParams(location.search).get('q') === '\"yoga\"'")


def test_the_list_follows_the_slider_while_it_is_dragged(open_page: OpenPage) -> None:
    page = open_page("?q=archery")
    count = page.locator(".result-count")
    count.filter(has_text="moment").wait_for()
    before = count.inner_text()
    place = box_of(page.get_by_role("slider", name="How sure"))
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down()
    page.mouse.move(place["x"] + 2, place["y"] + place["height"] / 2, steps=4)
    page.wait_for_function(f"() => document.querySelector('.result-count').innerText !== {before!r}")
    page.mouse.up()


def test_what_changed_while_another_view_was_open_is_there(open_page: OpenPage, address: str) -> None:
    page = open_page()
    page.locator(".card").first.wait_for()
    open_view(page, "Tools")
    tag = {"content": 1, "label": "brand new", "start": "0:01", "end": "0:02"}
    change = page.request.post(f"{address}/api/annotations/add", data=tag).json()["id"]
    page.get_by_role("button", name="Undo: brand new").wait_for()
    open_view(page, "Search")
    page.locator(".card-label", has_text="brand new").wait_for()
    page.request.post(f"{address}/api/annotations/undo", data={"change": change})
