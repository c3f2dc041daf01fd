"""Two pages of one library, of one server or of two: each sees what the other says, and nothing is lost."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from helpers.browser import OpenPage, require_browser, search_for
from helpers.footage import make_video
from helpers.page_server import make_library, serve_page

from vtag.engine.library.annotations import annotation_log
from vtag.engine.library.database import LibraryWriter

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Two at once"
EVERYTHING = 'archery OR "riding a bike" OR yoga'
SEEN_MS = 15_000  # the page asks every four seconds; a busy machine takes longer
# says something of each moment, by the page's own address; what was answered, in the order of the moments
SAY = """async ([moments, action, label]) => Promise.all(moments.map(async moment => {
  const headers = {"content-type": "application/json"};
  const body = JSON.stringify({moments: [moment], label});
  const answer = await fetch(`api/annotations/${action}`, {method: "POST", headers, body});
  return [answer.status, await answer.json()];
}))"""
FIND = """async query => {
  const answer = await fetch(`api/moments?margin=-20&limit=200&q=${encodeURIComponent(query)}`);
  return (await answer.json()).moments;
}"""

require_browser()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_library(tmp_path, videos=4, seconds=6)


@contextlib.contextmanager
def two_pages(home: Path, open_page: OpenPage, servers: int) -> Iterator[tuple[Page, Page]]:
    """Two tabs of one server, or one of each of two."""
    with contextlib.ExitStack() as stack:
        addresses = [stack.enter_context(serve_page(home))[0] for _ in range(servers)]
        pages = [
            stack.enter_context(contextlib.closing(open_page(base_url=addresses[i % servers])))
            for i in (0, 1)
        ]
        yield pages[0], pages[1]


def judge_first(page: Page, answer: str) -> None:
    """Say Yes or No to the first moment of the results."""
    page.locator(".search-view [data-index='0'] .card-box").click()
    page.get_by_role("region", name="Selection").get_by_role("button", name=answer, exact=True).click()
    undo_button(page, "confirmed" if answer == "Yes" else "rejected").wait_for()


def undo_button(page: Page, text: str) -> Any:
    return page.get_by_role("button", name=re.compile(f"^Undo: .*{text}"))


@pytest.mark.usefixtures("only_long")
@pytest.mark.parametrize("servers", [2, 1])
def test_each_page_sees_the_other_and_nothing_is_lost(
    open_page: OpenPage, home: Path, tmp_path: Path, servers: int, record: Callable
) -> None:
    more = tmp_path / "more"
    more.mkdir()
    for seed in range(3):
        make_video(more / f"more{seed}.mp4", seconds=6, seed=20 + seed)
    with two_pages(home, open_page, servers) as (one, other):
        take_turns(one, other)
        scan = subprocess.Popen(  # beside the pages that say more
            [sys.executable, "-c", "import sys; from pathlib import Path; from helpers.page_server import scan_into;"
             "scan_into(*map(Path, sys.argv[1:]))", home, more, tmp_path / "model"],
            cwd=Path(__file__).parents[1],
        )  # fmt: skip
        said, renamed = say_much(one, other)
        assert scan.wait(300) == 0
        with LibraryWriter.open(home / "library.db") as library:
            kept = len(annotation_log.list_annotations(library.connection))
        assert kept == said + renamed  # a new label is one annotation more, beside a No to the old one
        undone = undo_all(one, other)
        with LibraryWriter.open(home / "library.db") as library:
            assert annotation_log.list_annotations(library.connection) == []
            assert library.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        one.locator(".search-view .card-link").nth(1).wait_for()
    tried = f"two pages of {'one server' if servers == 1 else 'two servers'} and a scan, on one library"
    happened = (
        f"{said} tags, none lost, {undone} undone by both in turn; each saw the other's; no lock was seen"
    )
    record(PART, tried, said + undone, happened)


def take_turns(one: Page, other: Page) -> None:
    """One confirms, the other sees it and rejects; what Undo would take back is what was said last."""
    for page in (one, other):
        search_for(page, EVERYTHING)
        page.locator(".search-view .card-link").nth(2).wait_for()
    judge_first(one, "Yes")
    other.locator(".card-confidence", has_text="✓").first.wait_for(timeout=SEEN_MS)
    undo_button(other, "confirmed").wait_for(timeout=SEEN_MS)
    search_for(other, "yoga")
    other.locator(".search-view .card-link").first.wait_for()
    judge_first(other, "No")
    undo_button(one, "rejected").wait_for(timeout=SEEN_MS)
    undo_button(one, "rejected").click()  # it is the other's, and the message says so
    one.locator(".toast", has_text=re.compile("^Undone: .*rejected")).wait_for()
    undo_button(other, "confirmed").wait_for(timeout=SEEN_MS)
    other.locator(".card.is-rejected").wait_for(state="detached", timeout=SEEN_MS)
    other.keyboard.press("Control+z")
    other.locator(".toast", has_text=re.compile("^Undone: .*confirmed")).wait_for()
    one.get_by_role("button", name="Undo: nothing was changed").wait_for(timeout=SEEN_MS)


def say_much(one: Page, other: Page) -> tuple[int, int]:
    """Confirm, reject or rename every moment, each by one of the pages, at the same time: how many, and renamed."""
    moments = [moment["id"] for moment in one.evaluate(FIND, EVERYTHING)]
    assert len(moments) > 10
    one.evaluate("argument => { window.said = (" + SAY + ")(argument); }", [moments[::2], "confirm", ""])
    third = len(moments) // 3
    answers = other.evaluate(SAY, [moments[1 : 2 * third : 2], "reject", ""])
    renamed = other.evaluate(SAY, [moments[2 * third + 1 :: 2], "rename", "something new"])
    answers += [*renamed, *one.evaluate("() => window.said")]
    assert {status for status, _ in answers} == {200}, answers
    return len(answers), len(renamed)


def undo_all(one: Page, other: Page) -> int:
    """Take back everything by both pages in turn; how many changes there were."""
    undone = 0
    while True:
        [[status, answer]] = (one, other)[undone % 2].evaluate(SAY, [[0], "undo", ""])
        if status != 200:
            assert "nothing to undo" in answer["error"], answer
            return undone
        assert answer["message"].startswith("Undone: "), answer
        undone += 1
