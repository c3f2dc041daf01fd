"""The page's server and its tab in the browser take no more memory after many searches and videos than after few."""

from __future__ import annotations

import http.client
import json
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlsplit

import pytest
from helpers.browser import PLAYING, OpenPage, open_view, require_browser, search_for
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession, Page

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Memory"
LABELS = ("archery", "riding a bike", "yoga", "skiing", "none of these")
MANY, FEW = 40, 8  # videos of the long form, and of the short one
STREAM_BYTES = 20_000  # of a stream, after which its reader leaves
GROWTH = 1.1
UNDO_STEPS = 1000  # Chromium keeps no more of them

require_browser()


@pytest.fixture(scope="module")
def video_count(request: pytest.FixtureRequest) -> int:
    return MANY if request.config.getoption("--long") else FEW


@pytest.fixture(scope="module")
def home(video_count: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    films = {}
    for number in range(video_count):
        parts = [(LABELS[number % 4], 3), (LABELS[(number + 1) % 4], 3)]
        name = f"folder{number % 5}/{number:03}.{'mkv' if number % 4 == 0 else 'mp4'}"
        films[name] = Film(parts, f"20{10 + number % 15}-01-{number % 28 + 1:02}T12:00:00Z")

    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, fps=4, width=64, height=48, seed=seed)

    return make_film_library(tmp_path_factory.mktemp("page"), films, LABELS, make_file)


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[tuple[str, int]]:
    with serve_page(home) as (address, pid):
        yield address, pid


@pytest.fixture(scope="module")
def address(server: tuple[str, int]) -> str:
    return server[0]


def memory_mb(pid: int) -> float:
    """The memory of a process and its children: what they allocated, not what they mapped of files."""
    total_kb, pids = 0, [pid]
    while pids:
        each = pids.pop()
        try:
            rollup = Path(f"/proc/{each}/smaps_rollup").read_text()
            children = Path(f"/proc/{each}/task").iterdir()
            pids += [int(child) for task in children for child in (task / "children").read_text().split()]
        except FileNotFoundError:
            continue  # it ended meanwhile
        total_kb += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", rollup, re.MULTILINE)))
    return total_kb / 1024


class Reader:
    """Asks the server what the page asks."""

    def __init__(self, address: str, videos: int) -> None:
        self.videos = videos
        self.connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
        self.cookie = ""
        self.get("/")

    def get(self, path: str, limit: int | None = None) -> bytes:
        """What is at an address; `limit`: leave after so many bytes."""
        self.connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = self.connection.getresponse()
        if cookie := answer.headers["Set-Cookie"]:
            self.cookie = cookie.split(";")[0]
        assert answer.status in (200, 206), (path, answer.status, answer.read())
        body = answer.read(limit)
        if limit is not None:
            self.connection.close()
        return body

    def get_json(self, path: str) -> Any:
        return json.loads(self.get(path))

    def search(self, number: int) -> None:
        """A search that was not made before: its moments, counts, next page, and what is similar to the first."""
        rng = random.Random(number)
        words = [rng.choice(LABELS[:4]) for _ in range(rng.randrange(1, 4))]
        query = rng.choice((" OR ", " ", " THEN ")).join(f'"{word}"' for word in words)
        query += f" score>{rng.random() / 4:.6f}"
        form = f"q={quote_plus(query)}&folder={rng.choice(('', '/a'))}&year={rng.choice(('', 2010 + number % 15))}"
        sort = rng.choice(("score", "date", "length"))
        found = self.get_json(f"/api/moments?{form}&sort={sort}&limit=20")["moments"]
        self.get(f"/api/moments/counts?{form}")
        self.get(f"/api/moments?{form}&offset=20&limit=20")
        self.get(f"/api/videos?name=0{number % self.videos:02}&offset=0&tag={quote_plus(words[0])}")
        if found and number % 5 == 0:
            self.get(f"/api/similar?moment={found[0]['id']}")

    def open_video(self, number: int) -> None:
        """All that the page asks of a video that a person watches for a while."""
        rng = random.Random(number)
        content = number % self.videos + 1
        self.get(f"/api/videos/{content}?less_sure=true")
        self.get(f"/api/videos/{content}/curve?label={LABELS[number % 4].replace(' ', '+')}")
        self.get(f"/poster/{content}")
        self.get(f"/strip/video/{content}/0/0")
        for _ in range(3):
            self.get(f"/still/{content}/{rng.randrange(5900)}")
        plan = self.get_json(f"/media/{content}/plan")
        self.get(plan["ways"][0]["url"], limit=STREAM_BYTES)
        if number % 4 == 0:
            self.get(
                f"/media/{content}/stream?way=convert&from={rng.random() * 4:.2f}&player=p",
                limit=STREAM_BYTES,
            )
        self.get("/api/state")


def test_the_servers_memory_is_where_it_was(
    server: tuple[str, int], video_count: int, is_long: bool, record: Callable
) -> None:
    """After 1,000 searches and 200 videos it is where it was after 100 and 20."""
    address, pid = server
    reader = Reader(address, video_count)
    few, many = (100, 1000) if is_long else (30, 60)
    taken: dict[int, float] = {}
    for number in range(many):
        reader.search(number)
        if number % 5 == 0:
            reader.open_video(number // 5)
        if number + 1 in (few, many):
            taken[number + 1] = memory_mb(pid)
    assert taken[many] < GROWTH * taken[few], taken
    happened = f"{taken[few]:.0f} MB after {few} searches, {taken[many]:.0f} MB after {many:,}"
    record(PART, "the page's server and its processes: searches, after every fifth a video", many, happened)


class Tab:
    """A page in the browser, and what it keeps after its garbage was collected."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.typed = 0
        self.session: CDPSession = page.context.new_cdp_session(page)
        self.session.send("Performance.enable")

    def metrics(self) -> dict[str, float]:
        """Megabytes of the heap, nodes and listeners, of all that is still referred to."""
        for _ in range(3):  # what a finalizer lets go is collected by the next one
            self.session.send("HeapProfiler.collectGarbage")
        values = {
            each["name"]: each["value"] for each in self.session.send("Performance.getMetrics")["metrics"]
        }
        return {
            "MB": values["JSHeapUsedSize"] / 2**20,
            # the browser's own undo keeps the texts that were typed into a field
            "nodes": values["Nodes"] - min(self.typed, UNDO_STEPS),
            "listeners": values["JSEventListeners"],
        }

    def type_query(self, query: str) -> None:
        """Search as a person does."""
        self.typed += 1
        search_for(self.page, query)

    def search(self, number: int) -> None:
        """A search that was not made before, to its last picture."""
        self.type_query(f"{LABELS[number % 4].split()[-1]} score>{number / 10_000:.4f}")
        self.page.locator(".search-view .card-link").first.wait_for()

    def watch(self, number: int) -> None:
        """Leave a card whose pictures change under the pointer; play a video, look at what is similar, leave it."""
        page = self.page
        cards = page.locator(".search-view .card-link")
        cards.first.hover()
        page.locator(".search-view .strip").wait_for()
        self.type_query(f"path:folder{number % 5}")
        page.mouse.move(1, 1)
        cards.nth(number % 3).click()
        page.wait_for_function(PLAYING)
        page.get_by_role("button", name="More like what is shown now").click()
        page.locator(".search-view.is-similar .card-link").first.wait_for()
        open_view(page, "Library")
        page.locator(".library-view .card-link").first.wait_for()

    def rest(self) -> None:
        """Show what it shows at first, so that measurements compare."""
        self.type_query("yoga")
        self.page.locator(".search-view .card-link").first.wait_for()
        self.page.wait_for_load_state("networkidle")


@pytest.mark.usefixtures("only_long")
def test_the_tabs_memory_does_not_grow(open_page: OpenPage, times: Callable, record: Callable) -> None:
    """Nodes, listeners and the heap of JavaScript after many searches and videos are those after a few."""
    tab = Tab(open_page())
    many = times(0, 1000)
    few = many // 5  # more than the ten lists that are kept for Back
    taken: dict[int, dict[str, float]] = {}
    for number in range(many):
        tab.search(number)
        if number % 5 == 0:
            tab.watch(number // 5)
        if number + 1 in (few, many):
            tab.rest()
            taken[number + 1] = tab.metrics()
    for name, before in taken[few].items():
        assert taken[many][name] < GROWTH * before, taken
    few_said, many_said = (
        f"{row['MB']:.1f} MB, {row['nodes']:,.0f} nodes, {row['listeners']:,.0f} listeners"
        for row in (taken[few], taken[many])
    )
    happened = f"{few_said} after {few} searches; {many_said} after {many:,}"
    record(PART, "a tab of the page: searches, after every fifth a video that plays", many, happened)
