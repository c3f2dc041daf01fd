"""A quick person and a slow server, in a real browser: Watch, dialogs and Teach while answers are on their way."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from helpers.browser import PLAYING, OpenPage, go_to, require_browser, settled, undo_all
from helpers.film_library import Film, make_film_library
from helpers.held_requests import HeldRequests
from helpers.page_server import serve_page_warm

LABELS = ("archery", "yoga", "skiing", "none of these")
FILMS = {
    "first.mp4": Film([("archery", 4), ("yoga", 4)], "2025-08-09T12:00:00Z"),
    "second.mp4": Film([("archery", 4), ("skiing", 4)], "2025-08-08T12:00:00Z"),
}

require_browser()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = make_film_library(tmp_path_factory.mktemp("slow"), FILMS, LABELS)
    with serve_page_warm(home) as (server_address, _):
        yield server_address


def test_of_two_moments_of_a_video_the_one_opened_last_plays(open_page: OpenPage) -> None:
    page = open_page("?q=yoga OR archery")
    held = HeldRequests(page, "**/api/videos/1?*")
    page.locator(".card", has_text="first.mp4").filter(has_text="archery").locator("a").click()
    held.wait_for(1)
    page.go_back()
    page.locator(".card", has_text="first.mp4").filter(has_text="yoga").locator("a").click()
    held.answer(1)
    page.wait_for_function(PLAYING)
    held.answer(0)
    selected = page.locator(".tag-group", has=page.locator(".is-selected")).locator(".tag-label")
    assert settled(page, selected.all_inner_texts) == ["yoga"]


def test_a_video_that_is_gone_says_nothing_in_the_next(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    page.wait_for_function(PLAYING)
    held = HeldRequests(page, "**/api/videos/999?*")
    go_to(page, "?v=999")
    held.wait_for(1)
    assert page.locator(".tag-line").count() == 0  # those of the video before
    page.go_back()
    page.wait_for_function(PLAYING)
    held.answer(0)
    assert settled(page, page.locator("vtag-player").count) == 1


def test_a_score_is_of_the_video_that_is_shown(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    held = HeldRequests(page, "**/curve?*")
    page.get_by_role("combobox", name="Score of").fill("yoga")
    page.keyboard.press("Enter")
    held.wait_for(1)
    go_to(page, "?v=2")
    page.locator(".video-name", has_text="second.mp4").wait_for()
    held.answer(0)
    assert settled(page, page.locator(".curve").count) == 0


def test_ends_moved_by_many_keys_are_where_the_keys_put_them(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    page.get_by_role("button", name="Play yoga").click()
    end = page.get_by_role("slider", name="End of yoga")
    at = int(end.get_attribute("aria-valuenow") or 0)
    held = HeldRequests(page, "**/api/annotations/move")
    end.focus()
    for _ in range(5):
        page.keyboard.press("ArrowLeft")
    held.wait_for(1)
    for _ in range(2):
        page.keyboard.press("ArrowLeft")
    assert end.get_attribute("aria-valuenow") == str(at - 700)
    held.answer(0)
    held.answer(1)
    page.wait_for_function(
        "at => fetch('api/videos/1').then(answer => answer.json())"
        ".then(({ moments }) => moments.some(({ label, end_ms }) => label === 'yoga' && end_ms === at))",
        arg=at - 700,
    )
    assert len(held.routes) == 2  # five keys, and two while the server was busy
    page.wait_for_function("() => document.activeElement.getAttribute('aria-label') === 'End of yoga'")
    held.let_go()
    undo_all(page)


def test_the_next_tag_is_typed_while_the_last_one_is_saved(open_page: OpenPage) -> None:
    page = open_page("?v=1")
    form = page.get_by_role("form", name="Add a tag")
    label = form.get_by_label("Tag")
    held = HeldRequests(page, "**/api/annotations/add")
    label.fill("jumping")
    form.get_by_label("To", exact=True).fill("0:02")
    form.get_by_role("button", name="Add tag").dblclick()
    held.wait_for(1)
    label.fill("landing")
    held.answer(0)
    page.get_by_role("button", name="Play jumping").wait_for()
    assert label.input_value() == "landing"
    assert len(held.routes) == 1
    undo_all(page)


def test_a_renamed_tag_stays_selected(open_page: OpenPage) -> None:
    page = open_page("?v=2")
    page.get_by_role("button", name="Play skiing").click()
    page.keyboard.press("r")
    page.get_by_role("dialog").get_by_role("combobox").fill("sliding")
    page.keyboard.press("Enter")
    page.locator(".is-selected").get_by_role("button", name="Play sliding").wait_for()
    undo_all(page)


def test_a_dialog_that_was_closed_says_what_went_wrong(open_page: OpenPage) -> None:
    page = open_page("?v=2")
    page.get_by_role("button", name="Rename: skiing").click()
    held = HeldRequests(page, "**/api/annotations/rename")
    page.get_by_role("dialog").get_by_role("combobox").fill("\u0007")
    page.keyboard.press("Enter")
    held.wait_for(1)
    page.keyboard.press("Escape")
    held.answer(0)
    page.locator(".toast.is-error", has_text="Rename skiing").wait_for()


def test_only_what_was_looked_at_can_be_forgotten(open_page: OpenPage, address: str) -> None:
    page = open_page("?view=tools")
    tool = page.locator(".tool", has=page.get_by_label("File or folder"))
    path = tool.get_by_label("File or folder")
    path.fill(page.request.get(f"{address}/api/videos/1").json()["path"])
    held = HeldRequests(page, "**/call/forget/*")
    tool.get_by_role("button", name="What would happen?").click()
    held.wait_for(1)
    path.fill("/elsewhere")
    held.answer(0)
    tool.get_by_role("button", name="What would happen?", disabled=False).wait_for()
    assert tool.get_by_role("button", name="Forget").is_disabled()
    assert tool.locator(".preview").inner_text() == ""


def test_of_yes_and_no_the_last_press_counts_and_shows_at_once(open_page: OpenPage) -> None:
    page = open_page("?view=teach&tag=waving")
    page.get_by_label("Find examples by a search").fill("archery")
    page.get_by_role("button", name="Find", exact=True).click()
    yes = page.get_by_role("button", name="Yes: first.mp4").first
    no = page.get_by_role("button", name="No, not: first.mp4").first
    held = HeldRequests(page, "**/api/teach/verdict")
    yes.click()
    yes.and_(page.locator("[aria-pressed=true]")).wait_for()
    no.click()
    no.and_(page.locator("[aria-pressed=true]")).wait_for()
    assert len(held.routes) == 1  # the second waits for the first
    held.answer(0)
    held.answer(1)
    page.get_by_role("region", name="0 of waving, 1 of something else").wait_for()
    held.let_go()
    undo_all(page)


@pytest.mark.slow  # the server loads what trains
def test_what_was_tried_for_one_tag_is_not_shown_for_another(open_page: OpenPage) -> None:
    page = open_page("?view=teach&tag=waving")
    held = HeldRequests(page, "**/call/try_tag/*")
    page.get_by_role("button", name="Try it").click()
    held.wait_for(1)
    go_to(page, "?view=teach&tag=nodding")
    page.wait_for_function("() => document.querySelector('.teach-form input').value === 'nodding'")
    held.answer(0)
    page.get_by_role("button", name="Try it", disabled=False).wait_for()
    assert page.locator(".teach-form .problem").inner_text() == ""
    assert page.locator(".teach-message").inner_text() == ""
