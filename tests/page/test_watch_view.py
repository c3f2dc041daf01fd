"""Watch on the page, in a real browser: playing, the timeline, corrections, undo and redo, and the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from helpers.browser import PLAYING, OpenPage, box_of, play_video, require_browser, search_for, settled
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page_warm

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

LABELS = ("archery", "riding a bike", "yoga", "skiing", "none of these")
LONG = 100 * "l" + ".mp4"
FILMS = {
    "plain.mp4": Film([("archery", 4), ("yoga", 4), ("archery", 4)], "2025-08-09T12:00:00Z"),
    "old.avi": Film([("riding a bike", 6)]),
    "other.mp4": Film([("archery", 4)]),
    LONG: Film([("skiing", 4), ("none of these", 5)] * 46),
}

require_browser()


def make_file(path: Path, film: Film, seed: int) -> None:
    codec = "mpeg4" if path.suffix == ".avi" else "libx264"
    fps = 2 if path.name == LONG else 10
    make_video(path, seconds=film.seconds, fps=fps, width=64, height=48, seed=seed, codec=codec)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = make_film_library(tmp_path_factory.mktemp("watch"), FILMS, LABELS, make_file)
    with serve_page_warm(home) as (server_address, _):
        yield server_address


# the tags as the list shows them: label, times, state
LINES = """[...document.querySelectorAll('.tag-line')].map(line => [
  line.closest('details').querySelector('.tag-label'), ...line.querySelectorAll('.tag-time, .tag-state')
].map(part => part.innerText).join(' '))"""


def lines(page: Page) -> list[str]:
    return page.evaluate(LINES)


def undo_by_key(page: Page) -> None:
    """Press u, and wait until Undo names another change."""
    before = page.get_by_role("button", name="Undo: ").get_attribute("aria-label")
    page.keyboard.press("u")
    named = "[...document.querySelectorAll('button')].map(button => button.getAttribute('aria-label'))"
    page.wait_for_function(f"before => !{named}.includes(before)", arg=before)


def wait_for_line(page: Page, text: str) -> None:
    page.wait_for_function(f"text => {LINES}.some(line => line.includes(text))", arg=text)


def test_a_moment_plays_from_its_time_in_a_player_that_stays(open_page: OpenPage) -> None:
    page = open_page("?q=archery", viewport={"width": 1300, "height": 600})
    card = page.locator(".card", has_text="plain.mp4").nth(1)
    card.locator("a").click()
    page.wait_for_function("() => document.querySelector('vtag-player')?.currentTime >= 7")
    assert page.locator(".tag-line.is-selected").count() == 1
    height = box_of(page.locator("vtag-player"))["height"]
    page.wait_for_function(PLAYING)
    assert box_of(page.locator("vtag-player"))["height"] == height
    page.mouse.wheel(0, 3000)
    assert page.locator("vtag-player").is_visible()
    assert box_of(page.locator(".add-tag"))["y"] < 600
    page.get_by_role("navigation", name="Views").get_by_role("link", name="Library").click()
    assert page.evaluate(
        "document.querySelector('vtag-player').paused"
    )  # no sound from a view that is not shown
    page.go_back()
    page.keyboard.press("Escape")
    page.locator(".card", has_text="plain.mp4").first.locator("a").click()  # the same video again plays, too
    page.wait_for_function("() => !document.querySelector('vtag-player').paused")
    second_page = open_page("?v=1&t=5000")
    second_page.wait_for_function("() => document.querySelector('vtag-player')?.currentTime >= 5")


def test_corrections_are_shown_undone_and_done_again_by_name(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    wait_for_line(page, "archery 0:00–0:05")
    first_lines = lines(page)
    page.get_by_role("button", name="Yes: archery 0:00").click()
    wait_for_line(page, "archery 0:00–0:05 ✓ yes")
    page.get_by_role("button", name="No: archery 0:00").click()
    wait_for_line(page, "archery 0:00–0:05 ✗ no")
    page.get_by_role("button", name="Rename: archery 0:00").click()
    page.get_by_role("dialog").get_by_role("combobox").fill("opening a door")
    page.get_by_role("dialog").get_by_role("button", name="Rename").click()
    wait_for_line(page, "opening a door 0:00–0:05 yours")
    other = open_page("?v=3")
    undo = other.get_by_role("button", name="Undo: archery renamed to opening a door")
    undo.wait_for()  # from another video the name says what would be taken back
    assert "in plain.mp4" in str(undo.get_attribute("aria-label"))
    for name in ("renamed to opening a door", "rejected", "confirmed"):
        page.get_by_role("button", name="Undo: ").and_(page.locator(f"[aria-label*='{name}']")).click()
        page.get_by_text("Undone: ").and_(page.locator(f":text('{name}')")).first.wait_for()
    page.wait_for_function(f"lines => JSON.stringify({LINES}) === JSON.stringify(lines)", arg=first_lines)
    page.get_by_role("button", name="Redo: archery").click()
    wait_for_line(page, "archery 0:00–0:05 ✓ yes")
    page.keyboard.press("u")
    page.get_by_role("button", name="Undo: nothing was changed").wait_for()


def test_corrections_made_faster_than_the_server_answers_keep_their_order(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    page.get_by_role("button", name="Play archery 0:00").click()
    first_lines = lines(page)

    def answer_later(route: Route) -> None:
        page.wait_for_timeout(100)
        route.continue_()

    page.route("**/api/annotations/*", answer_later)
    for key in "yxuu":
        page.keyboard.press(key)
    page.locator(".toast", has_text="Undone").filter(has_text="confirmed").wait_for()
    page.get_by_role("button", name="Undo: nothing was changed").wait_for()
    page.wait_for_function(f"lines => JSON.stringify({LINES}) === JSON.stringify(lines)", arg=first_lines)
    assert page.locator(".toast.is-error").count() == 0


def test_a_less_sure_tag_stays_selected_after_a_yes(open_page: OpenPage) -> None:
    page = open_page("?v=3")
    page.get_by_label("Less sure, too").check()
    guess = page.locator(".tag-line.is-less-sure").first
    guess.get_by_role("button", name="Play").click()
    times = guess.locator(".tag-time").inner_text()
    page.keyboard.press("y")
    page.locator(".tag-line.is-selected", has_text=times).get_by_text("yours").wait_for()
    page.keyboard.press("x")
    page.locator(".toast", has_text="removed").or_(page.locator(".toast", has_text="rejected")).wait_for()
    page.keyboard.press("u")
    page.keyboard.press("u")
    page.get_by_role("button", name="Undo: nothing was changed").wait_for()


def test_a_range_is_tagged_its_ends_are_moved_and_a_mistake_keeps_the_form(open_page: OpenPage) -> None:
    page = open_page("?v=3")
    box = settled(page, lambda: box_of(page.locator(".ruler")))
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + 10, steps=5)
    page.mouse.up()
    form = page.get_by_role("form", name="Add a tag")
    assert form.get_by_label("From", exact=True).input_value() == "0:01"
    form.get_by_label("Tag").fill("waving <b>")
    form.get_by_label("To", exact=True).fill("0:00")
    form.get_by_role("button", name="Add tag").click()
    form.get_by_text("the tag has to end after it begins").wait_for()
    assert form.get_by_label("Tag").input_value() == "waving <b>"
    form.get_by_label("To", exact=True).fill("0:03")
    page.keyboard.press("Enter")
    wait_for_line(page, "waving <b> 0:01–0:03 yours")
    page.get_by_role("button", name="Play waving <b>").click()
    end = page.get_by_role("slider", name="End of waving <b>")
    end.focus()
    page.keyboard.press("Shift+ArrowLeft")
    wait_for_line(page, "waving <b> 0:01–0:02 yours")
    page.wait_for_function("() => document.activeElement.getAttribute('aria-label') === 'End of waving <b>'")
    handle = page.get_by_role("slider", name="Start of archery")
    page.get_by_role("button", name="Play archery").first.click()
    place = handle.bounding_box()
    assert place is not None
    page.mouse.move(place["x"] + 7, place["y"] + 8)
    page.mouse.down()
    page.mouse.move(place["x"] + 7 + box["width"] * 0.25, place["y"] + 8, steps=5)
    page.mouse.up()
    wait_for_line(page, "archery 0:01–0:04 yours")
    for _ in range(3):
        undo_by_key(page)
    page.get_by_role("button", name="Undo: nothing was changed").wait_for()


def test_the_timeline_zooms_and_shows_the_score_of_any_label(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    page.get_by_role("button", name="Zoom in (+)").click()
    page.locator(".timeline-span", has_text="of 0:12").wait_for()
    page.keyboard.press("-")
    page.locator(".timeline-span", has_text="0:12").wait_for()
    form = page.get_by_role("form", name="Score of a label")
    form.get_by_label("Score of").fill("yoga")
    page.keyboard.press("Enter")
    page.get_by_role("img", name="Score of yoga: highest").wait_for()
    form.get_by_label("Score of").fill("unheard of")
    page.keyboard.press("Enter")
    form.get_by_text("no label is called 'unheard of'").wait_for()


def test_nothing_can_be_pressed_before_the_video_is_there(open_page: OpenPage) -> None:
    page = open_page()
    waiting: list[Route] = []
    page.route("**/api/videos/1?*", lambda route: waiting.append(route))
    page.locator(".card-link", has_text="plain.mp4").first.click()
    page.locator(".watch-view:visible").wait_for()
    idle = page.evaluate("[...document.querySelectorAll('.watch-view [inert]')].map(part => part.className)")
    assert idle == ["watch-choices", "timeline", "tag-panel"]
    waiting[0].continue_()
    page.get_by_role("button", name="Zoom in (+)").click()
    page.locator(".timeline-span", has_text="of 0:12").wait_for()
    assert page.locator(".watch-view [inert]").count() == 0


def test_a_long_video_with_many_tags_fits_the_screen(open_page: OpenPage) -> None:
    page = open_page("?v=4", viewport={"width": 1280, "height": 800})
    page.locator(".tag-line").nth(45).wait_for()
    assert page.evaluate("document.documentElement.scrollHeight") < 1.3 * 800
    form = box_of(page.get_by_role("form", name="Add a tag"))
    assert form["y"] + form["height"] < 800
    last = page.locator(".tag-line").last
    last.get_by_role("button", name="Play").click()  # the list scrolls by itself
    assert page.evaluate("scrollY") < 300
    page.wait_for_function("() => document.querySelector('vtag-player').currentTime > 200")
    for _ in range(4):
        page.keyboard.press("+")
    page.wait_for_function("() => document.querySelectorAll('.time-bar').length < 6")
    bars = "[...document.querySelectorAll('.time-bar')].map(bar => bar.getBoundingClientRect().width)"
    assert min(page.evaluate(bars)) > 15  # read at once: the timeline goes on with the video


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_stay_on_the_page(open_page: OpenPage, width: int) -> None:
    page, tag = open_page("?v=4", viewport={"width": width, "height": 800}), 100 * "t"
    page.locator(".tag-line").first.wait_for()
    form = page.get_by_role("form", name="Add a tag")
    form.get_by_label("Tag").fill(tag)
    form.get_by_label("To", exact=True).fill("0:02")
    page.keyboard.press("Enter")
    wait_for_line(page, tag)
    fits = "() => document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    page.get_by_role("button", name=f"Rename: {tag}").click()
    dialog = box_of(page.get_by_role("dialog"))
    assert dialog["x"] >= 0 and dialog["x"] + dialog["width"] <= width
    page.keyboard.press("Escape")
    page.locator(".toast").first.wait_for()
    assert page.evaluate(fits)
    search_for(page, tag)
    page.locator(".card", has_text=LONG).first.wait_for()
    assert page.evaluate(fits)
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    page.locator(".toast", has_text="Undone").wait_for()
    assert page.evaluate(fits)


def test_a_file_that_browsers_cannot_play_is_converted_and_says_so(open_page: OpenPage) -> None:
    page = open_page("?q=bike", viewport={"width": 1280, "height": 800})
    play_video(page, "old.avi")
    note = page.locator(".vtag-player-note")
    assert note.inner_text() != ""
    stage, said = box_of(page.locator(".stage")), box_of(note)
    assert said["y"] + said["height"] <= stage["y"] + stage["height"] + 1  # it is not cut off


def test_everything_can_be_done_by_keyboard(open_page: OpenPage) -> None:
    page = open_page()
    page.locator(".card").first.wait_for()
    page.keyboard.press("/")
    page.wait_for_function("() => document.activeElement.id === 'query'")
    search_for(page, "archery")
    page.locator(".card", has_text="plain.mp4").first.wait_for()
    page.keyboard.press("Escape")  # out of the field
    page.keyboard.press("ArrowRight")
    page.wait_for_function("() => document.activeElement.matches('.card-link')")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    page.wait_for_function(PLAYING)
    page.wait_for_function("() => !document.querySelector('vtag-player').paused")  # else "k" starts it
    page.keyboard.press("?")
    assert page.locator("dialog[open]").get_by_text("play or pause").first.is_visible()
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    page.keyboard.press("k")
    page.wait_for_function("() => document.querySelector('vtag-player').paused")
    for key, message in (("n", None), ("y", "confirmed"), ("x", "rejected")):
        page.keyboard.press(key)
        if message:
            page.locator(".toast", has_text=message).first.wait_for()
    before = page.evaluate("document.querySelector('vtag-player').currentTime")
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('vtag-player').currentTime > before", arg=before)
    page.keyboard.press("i")
    page.keyboard.press("a")
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    wait_for_line(page, "by keyboard")
    page.keyboard.press("Escape")
    for _ in range(3):
        undo_by_key(page)
    page.get_by_role("button", name="Undo: nothing was changed").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_function("() => document.activeElement.matches('.search-view .card-link')")
