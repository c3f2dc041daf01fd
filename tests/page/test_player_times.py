"""The page shows and takes the times of players: of files whose picture begins 3 s after the sound, in a browser."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from helpers import clock_footage as footage
from helpers.browser import OpenPage, require_browser
from helpers.film_library import Film, make_film_library
from helpers.footage import read_number
from helpers.page_server import serve_page_warm

from vtag.engine.library.database import open_reader

if TYPE_CHECKING:
    from playwright.sync_api import Page

require_browser()

FILMS = {
    "late.mp4": Film([("archery", 5)]),  # played in place
    "late.mkv": Film([("archery", 5)]),  # streamed
    "joined.ts": Film([("none of these", 10)]),  # its clock begins anew
    "ahead.ts": Film([("none of these", 505)]),  # its clock jumps ahead, and players leave that out
}
NUMBER = """() => {
  const canvas = Object.assign(document.createElement("canvas"), { width: 160, height: 120 });
  const context = canvas.getContext("2d");
  context.drawImage(document.querySelector("vtag-player").video, 0, 0, 160, 120);
  return [...context.getImageData(0, 0, 160, 120).data];
}"""
AT = """seconds => { const player = document.querySelector("vtag-player");
  return player && !player.video.seeking && player.video.readyState >= 2
    && Math.abs(player.currentTime - seconds) < 0.05; }"""
SEEK = """seconds => { const player = document.querySelector("vtag-player");
  player.pause(); player.seek(seconds); }"""
POST = """async ([path, body]) => (await fetch(path, { method: "POST",
  headers: { "content-type": "application/json" }, body: JSON.stringify(body) })).json()"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_film_library(
        tmp_path_factory.mktemp("late"),
        FILMS,
        ("archery", "none of these"),
        make_file,
    )


def make_file(path: Path, film: Film, seed: int) -> None:
    if path.name.startswith("late"):
        footage.late_picture(path.parent, path.name)
    else:
        footage.joined(path.parent, path.name, second_offset_s=500 if path.name == "ahead.ts" else 0)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


def seek(page: Page, seconds: float) -> None:
    """Show the picture at a time, and stay there."""
    page.evaluate(SEEK, seconds)
    page.wait_for_function(AT, arg=seconds)


def shown_number(page: Page) -> int:
    """The number of the frame that the browser shows."""
    pixels = np.array(page.evaluate(NUMBER), np.uint8).reshape(120, 160, 4)
    return read_number(pixels[..., :3], 1.0)


def wait_for_number(page: Page, expected: int) -> None:
    """Wait until the browser shows this frame, or one beside it: it draws a picture some time after the seek."""
    deadline = time.monotonic() + 120
    while abs(shown_number(page) - expected) > 1:
        assert time.monotonic() < deadline, (shown_number(page), expected)
        page.wait_for_timeout(100)


def ranges_in_library(home: Path, label: str) -> list[tuple[int, int]]:
    with closing(open_reader(home / "library.db")) as reader:
        rows = reader.execute("SELECT start_ms, end_ms FROM words WHERE label = ? ORDER BY id", (label,))
        return list(rows)


@pytest.mark.parametrize("content", [1, 2])
def test_the_page_shows_and_takes_the_times_of_players(open_page: OpenPage, home: Path, content: int) -> None:
    name = list(FILMS)[content - 1]
    frames = footage.shown_frames(home.parent / "Videos" / name)
    expected = [number for time_s, number in frames if time_s <= 5.0015][-1]
    page = open_page("?q=archery")
    card = page.locator(".card", has_text=name).first
    start_s, end_s = frames[0][0], frames[-1][0] + 1 / footage.FPS  # in mkv 3.023 and 8.023
    times = card.locator(".card-time").inner_text()
    assert times == f"0:0{int(start_s)}–0:0{math.ceil(end_s - 0.001)}"
    page.goto(f"{page.url.partition('?')[0]}?v={content}&t=5000")
    page.locator(".timeline-span", has_text="0:08").wait_for()
    seek(page, 5.02)
    wait_for_number(page, expected)
    still = page.request.get(f"{page.url.partition('?')[0]}still/{content}/5000").body()
    assert abs(footage.number_of_picture(still) - expected) <= 1
    check_tags(page, home, f"waving {content}", round(1000 * start_s))
    seek(page, 5.02)
    page.get_by_role("button", name="More like what is shown now").click()
    page.get_by_text(f"Looks like {name} at 0:05").wait_for()


@pytest.mark.parametrize("content", [pytest.param(3, marks=pytest.mark.slow), 4])
def test_a_video_whose_clock_begins_anew_shows_what_players_show(
    open_page: OpenPage, home: Path, content: int
) -> None:
    frames = footage.shown_frames(home.parent / "Videos" / list(FILMS)[content - 1])
    page = open_page(f"?v={content}&t=2000")
    page.locator(".timeline-span", has_text="0:10").wait_for()
    for seconds in (2.02, 8.02, 1.02, 6.02):
        seek(page, seconds)
        wait_for_number(page, [number for time_s, number in frames if time_s <= seconds][-1])
    seek(page, 4.0)
    page.evaluate("document.querySelector('vtag-player').play()")
    page.wait_for_function("() => document.querySelector('vtag-player').currentTime > 6.5")


def check_tags(page: Page, home: Path, label: str, first_ms: int) -> None:
    """Tag with typed times, and with the keyboard."""
    form = page.get_by_role("form", name="Add a tag")
    form.get_by_label("Tag").fill(label)
    form.get_by_label("From", exact=True).fill("0:04")
    form.get_by_label("To", exact=True).fill("0:06.5")
    page.keyboard.press("Enter")
    page.locator(".toast", has_text=f"{label} 0:04–0:07").first.wait_for()
    page.locator(".tag-group", has_text=label).get_by_text("0:04–0:07").wait_for()
    assert ranges_in_library(home, label) == [(4000 - first_ms, 6500 - first_ms)]
    page.keyboard.press("Escape")  # out of the field
    page.locator(".video-name").focus()
    page.keyboard.press("i")
    assert form.get_by_label("From", exact=True).input_value() == "0:05"
    page.get_by_role("button", name=f"Play {label}").click()
    end = page.get_by_role("slider", name=f"End of {label}")
    end.focus()
    page.keyboard.press("ArrowLeft")
    page.locator(f".time-handle[aria-label='End of {label}'][aria-valuenow='6400']").wait_for()
    page.locator(".toast", has_text="moved").first.wait_for()  # it is sent when the keys rest
    assert (4000 - first_ms, 6400 - first_ms) in ranges_in_library(home, label)


def test_teach_judges_the_range_that_was_shown(open_page: OpenPage, home: Path) -> None:
    page = open_page("?view=teach")
    candidates = page.evaluate(
        "async () => (await fetch('api/teach/candidates?q=archery&tag=shooting')).json()"
    )
    moment = next(each for each in candidates["moments"] if each["content"] == 1)
    assert (moment["start_ms"], moment["end_ms"]) == (3000, 8000)
    video = page.evaluate("async () => (await fetch('api/videos/1')).json()")
    assert [video["moments"][0][key] for key in ("start_ms", "sure")] == [3000, True]
    verdict = {key: moment[key] for key in ("content", "start_ms", "end_ms")}
    answer = page.evaluate(POST, ["api/teach/verdict", {**verdict, "tag": "shooting", "is_example": True}])
    assert "0:03–0:08" in answer["message"]
    assert ranges_in_library(home, "shooting") == [(0, 5000)]
    examples = page.evaluate("async () => (await fetch('api/teach/examples?tag=shooting')).json()")[
        "examples"
    ]
    assert [(each["start_ms"], each["end_ms"]) for each in examples] == [(3000, 8000)]
    early = {"content": 1, "start_ms": 0, "end_ms": 1000, "tag": "shooting", "is_example": True}
    refused = page.evaluate(POST, ["api/teach/verdict", early])
    assert refused["error"] == "the picture of this video begins at 3.0 s, after that moment ends"
    undone = page.evaluate("async () => (await fetch('api/state')).json()")["undo"]["text"]
    assert "0:03–0:08" in undone
