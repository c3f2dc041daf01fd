"""Whatever is asked of the page's server, it answers; only the page gets in, and of files only videos get out."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.http_requests import (
    Answer,
    Endpoint,
    RawClient,
    Request,
    RequestMaker,
    api_endpoints,
    call_endpoint,
    make_foreign,
    plain_endpoints,
)
from helpers.page_server import serve_page_warm

from vtag.app.ui.api.all_routes import _LONG_CALLS
from vtag.app.ui.api.context import PageContext
from vtag.app.ui.long_calls import _CALLS, PATH
from vtag.app.ui.public_api import API_PATH, build_public_api
from vtag.app.ui.server import build_application
from vtag.engine.jobs.job_queue import JobQueue
from vtag.engine.jobs.model_downloads import ModelDownloads
from vtag.engine.library.database import LibraryWriter
from vtag.engine.models.catalog import read_catalog
from vtag.engine.video.write.render_pool import RenderPool

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(0)]
PART = "Untrusted input"
CI, LONG = 300, 30_000
TIMEOUT_S = 60.0
PASSWORD = "open sesame"
REFUSALS = (0, 303, 400, 401, 403, 404)  # 404: a path with `..`; 303: to the login
SECRET = b"the key of the house is under the mat"
LABELS = ("archery", "riding a bike", "yoga")
QUERIES = ('label:"riding a bike"', "yoga -archery", "archery THEN yoga", "path:*.mp4", "score>0.2 yoga")
FILMS = {
    "lake/archery.mp4": Film([("archery", 4), ("yoga", 4)], "2025-08-09T12:00:00Z"),
    "two.mkv": Film([("riding a bike", 5)], "2023-05-01T12:00:00Z"),
    "yoga.mp4": Film([("yoga", 4)]),
}
# a process each, which takes a second or many: asked less often, and those of many seconds in the long form alone
SLOW = {"estimate_scan", "try_tag", "keep_tags", "rename_tag", "remove_tag", "/api/scan", "/api/teach/folder"}
SLOW_SHARE, STREAM_SHARE = 0.03, 0.1
STREAM = "/media/{content}/stream"
PLAIN_QUERIES = {
    STREAM: {
        "way": {"enum": ["copy", "convert", "file"]},
        "from": {"type": "number", "minimum": 0, "maximum": 8},
        "player": {"type": "string"},
        "side": {"type": "integer", "minimum": 144, "maximum": 720},
    }
}
# what only a person of this library may see: its own files, and those of the machine
LEAKS = (SECRET, b"SQLite format 3", b"root:x:0:", b"VTAG_HOME=")
EXPECTED = re.compile(r"\s*$|starting \.\.\.$|vtag is at |the API is described at ")
TRACES = re.compile(r"Traceback|File \"|line \d+, in |site-packages")


class House(NamedTuple):
    """A library with its server's routes, and files beside it that nobody may get."""

    home: Path
    clips: Path
    endpoints: list[Endpoint]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    folder = tmp_path_factory.mktemp("page")

    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, fps=4, width=64, height=48, seed=seed)

    home = make_film_library(folder, FILMS, LABELS, make_file)
    for place in (home, folder, folder / "Videos"):
        (place / "secret.txt").write_bytes(SECRET)
    library = home / "library.db"
    app = build_application(library, pictures=home / "cache", password=None, has_api=False)
    context = PageContext(library, JobQueue(library), ModelDownloads(), home / "cache", RenderPool(1))
    endpoints = [*api_endpoints(app), *plain_endpoints(app, PLAIN_QUERIES)]
    endpoints += api_endpoints(build_public_api(context), API_PATH)
    endpoints += [
        call_endpoint(f"{PATH}{_CALLS}{call.name}", call.body)
        for part in _LONG_CALLS
        for call in part.long_calls(context)
    ]
    text: dict[str, Any] = {"type": "string"}
    endpoints.append(Endpoint("GET", "/page/{version}/{asset}", {"version": text, "asset": text}, None, {}))
    return House(home, folder / "Videos", endpoints)


class Visitor:
    """Opens the page as a browser does, and asks as the page does, rightly and wrongly."""

    def __init__(
        self, house: House, address: str, seed: int, *, password: str = "", is_long: bool = False
    ) -> None:
        self.house = house
        self.client = RawClient(address, TIMEOUT_S)
        self.host = address.removeprefix("http://")
        self.rng = random.Random(seed)
        self.password = password
        self.is_long = is_long
        self.first = sorted(filter(self.share, house.endpoints), key=lambda each: each.method, reverse=True)
        self.cookie = self._open()
        self.known: dict[str, list[Any]] = {}
        self.maker = RequestMaker(self.rng, lambda name: self.known.get(name, []), self.cookie, self.host)

    def _open(self) -> str:
        form = f"password={self.password}".encode()
        host = [("Host", self.host)]
        login = Request("POST", b"/login", host, form) if self.password else Request("GET", b"/", host, b"")
        answer = self.client.send(login)
        assert answer.status in (200, 303), answer
        return str(answer.headers["Set-Cookie"]).split(";")[0]

    def read_json(self, target: str) -> Any:
        answer = self.client.send(
            Request("GET", target.encode(), [("Host", self.host), ("Cookie", self.cookie)], b"")
        )
        assert answer.status == 200, answer
        return json.loads(answer.body)

    def learn(self) -> None:
        """Read what exists now: ids of moments and videos, labels, folders, the change that can be undone."""
        moments = self.read_json("/api/moments?margin=-20")["moments"]
        videos = [video["id"] for video in self.read_json("/api/videos")["videos"]]
        state = self.read_json("/api/state")
        empty, missing = self.house.home.parent / "empty", self.house.home.parent / "no such folder"
        index = self.client.send(Request("GET", b"/", [("Host", self.host), ("Cookie", self.cookie)], b""))
        version = re.findall(rb"page/(\w+)/", index.body)
        self.known = {
            **{name: [moment["id"] for moment in moments] for name in ("moment", "moments", "moment_id")},
            **{name: videos for name in ("content", "videos", "video_id", "video")},
            **{name: [*LABELS, "a new tag"] for name in ("label", "tag", "name")},
            "q": [
                *LABELS,
                'label:"riding a bike"',
                "yoga -archery",
                "archery THEN yoga",
                "path:*.mp4",
                "score>0.2 yoga",
            ],
            **{name: [str(empty), str(missing)] for name in ("folder", "folders", "old", "new", "path")},
            "model": ["swin3d-t", "starter"],
            "change": [change["id"] for change in (state["undo"], state["redo"]) if change] or [1],
            **{name: ["", "0:01", "3"] for name in ("start", "end")},
            **{name: ["2023-01-01", "2024"] for name in ("after", "before", "year")},
            "template": ["{name} {start} {label}"],
            **{name: [0, 0, 1] for name in ("level", "part")},
            "ms": [0, 500, 2500],
            "version": [part.decode() for part in version[:1]],
            "asset": ["main.js", "style.css", "logo.svg"],
        }

    def choose(self) -> Endpoint:
        """One of the endpoints; at first each once, those that read before those that change something."""
        if self.first:
            return self.first.pop()
        while True:
            endpoint = self.rng.choice(self.house.endpoints)
            if self.rng.random() < self.share(endpoint):
                return endpoint

    def share(self, endpoint: Endpoint) -> float:
        if endpoint.path.removeprefix(f"{PATH}{_CALLS}") in SLOW:
            return SLOW_SHARE if self.is_long else 0.0
        return STREAM_SHARE if endpoint.path == STREAM else 1.0

    def next_request(self) -> tuple[Endpoint, Request]:
        faults = 0 if self.first else self.rng.choice((0, 0, 1, 1, 1, 2, 3))
        endpoint = self.choose()
        request = self.maker.make(endpoint, faults)
        if endpoint.path.endswith("models/download") and any(
            n.encode() in request.body for n in read_catalog()
        ):
            return self.next_request()  # it would begin a download
        return endpoint, request

    def read_events(self, endpoint: Endpoint, answer: Answer) -> Answer:
        """What a long call says until it ends."""
        if not endpoint.is_long_call or answer.status != 200 or b"event_id" not in answer.body:
            return answer
        event = json.loads(answer.body)["event_id"]
        headers = [("Host", self.host), ("Cookie", self.cookie)]
        return self.client.send(Request("GET", f"{endpoint.path}/{event}".encode(), headers, b""))


@pytest.fixture(scope="module")
def server(house: House) -> Iterator[tuple[str, Path]]:
    messages: list[Path] = []
    with serve_page_warm(house.home, "--api", messages=messages) as (address, _):
        yield address, messages[0]


def check_answer(request: Request, answer: Answer, messages: Path) -> None:
    """No error of the server, no trace of its code, and nobody's files."""
    asked = (request.method, request.target[:300], request.headers, request.body[:300])
    said = [line for line in messages.read_text("utf-8", "replace").splitlines() if not EXPECTED.match(line)]
    assert answer.status < 500, (answer.status, answer.body[:500], asked, said[-30:])
    assert not said, (said[-30:], asked)
    for leak in LEAKS:
        assert leak not in answer.body, (leak, asked)
    if not answer.headers.get_content_type().startswith(
        ("video", "image", "application/octet", "text/javascript")
    ):
        assert not TRACES.search(answer.body.decode("utf-8", "replace")), (answer.body[:500], asked)


def numbers_without_bounds(schema: Any, definitions: Mapping[str, Any]) -> Iterator[Any]:
    """The parts of a schema that take whole numbers of any size; SQLite's have 64 bits."""
    if isinstance(schema, Mapping):
        if schema.get("type") == "integer" and sum("imum" in name.casefold() for name in schema) < 2:
            yield schema
        if "$ref" in schema:
            yield from numbers_without_bounds(definitions[schema["$ref"].rpartition("/")[2]], definitions)
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from numbers_without_bounds(part, definitions)


def test_every_number_has_bounds(house: House) -> None:
    unbounded = {
        (each.method, each.path): found
        for each in house.endpoints
        if each.path.startswith(
            ("/api/", API_PATH, PATH)
        )  # other routes have numbers of few digits (_Number)
        and (found := [*numbers_without_bounds([each.parameters, each.body], each.definitions)])
    }
    assert unbounded == {}


def test_http_requests(
    house: House, server: tuple[str, Path], is_long: bool, times: Callable, record: Callable
) -> None:
    """Requests made from the server's own routes and schemas, with up to three faults each."""
    address, messages = server
    count = times(CI, LONG)
    fates: Counter[int] = Counter()
    reached: Counter[str] = Counter()
    visitor = Visitor(house, address, seed=1, is_long=is_long)
    for number in range(count):
        if number % 100 == 0:
            visitor.learn()
        endpoint, request = visitor.next_request()
        answer = visitor.read_events(endpoint, visitor.client.send(request))
        check_answer(request, answer, messages)
        fates[answer.status] += 1
        reached[endpoint.path] += answer.status not in (400, 404, 405)
    assert {each.path for each in house.endpoints if visitor.share(each)} == set(+reached)
    check_health(house, visitor)
    happened = f"{describe(fates)}; none with an error of the server, none with a file that is no video"
    record(PART, "HTTP requests to the page", count, happened)


def describe(fates: Counter[int]) -> str:
    """What was answered how often; 0 stands for a connection that the server closed."""
    answers = ", ".join(f"{number:,} with {status}" for status, number in sorted(fates.items()) if status)
    return f"answered {answers}" + (f", {fates[0]:,} closed" if fates[0] else "")


def ask_as_strangers(visitor: Visitor, count: int, messages: Path) -> Counter[int]:
    """How requests of strangers were answered: refused, sent to the login, or not understood."""
    fates: Counter[int] = Counter()
    stranger = RawClient(f"http://{visitor.host}", TIMEOUT_S)
    while fates.total() < count:
        _, request = visitor.next_request()
        if request.target.partition(b"?")[0].strip(b"/") == b"":
            continue  # anybody on this machine may open the page itself
        foreign = make_foreign(visitor.rng, request, visitor.host, bool(visitor.password))
        answer = stranger.send(foreign)
        check_answer(foreign, answer, messages)
        assert answer.status in REFUSALS, (foreign, answer)
        assert answer.status == 303 or "Set-Cookie" not in answer.headers, (foreign, answer)
        fates[answer.status] += 1
    stranger.close()
    return fates


def test_no_stranger_gets_in(
    house: House, server: tuple[str, Path], times: Callable, record: Callable
) -> None:
    """Requests by other names, from other sites and without a session, to a page with and without a password."""
    count = times(100, 10_000)
    visitor = Visitor(house, server[0], seed=2)
    visitor.learn()
    fates = ask_as_strangers(visitor, count, server[1])
    messages: list[Path] = []
    with serve_page_warm(house.home, "--api", password=PASSWORD, messages=messages) as (address, _):
        visitor = Visitor(house, address, seed=3, password=PASSWORD)
        visitor.learn()
        fates += ask_as_strangers(visitor, count, messages[0])
        check_health(house, visitor)
    tried = "HTTP requests of strangers: another Host or Origin, no session, no password"
    record(PART, tried, 2 * count, f"{describe(fates)}; nobody got in")


def check_health(house: House, visitor: Visitor) -> None:
    """The server still answers, rightly, and the library is whole."""
    visitor.learn()
    file = house.clips / "lake" / "archery.mp4"
    videos = visitor.read_json("/api/videos")["videos"]
    assert {video["path"] for video in videos} == {str(house.clips / name) for name in FILMS}
    content = next(video["id"] for video in videos if video["path"] == str(file))
    own = [("Host", visitor.host), ("Cookie", visitor.cookie)]
    assert (
        visitor.client.send(Request("GET", f"/media/{content}".encode(), own, b"")).body == file.read_bytes()
    )
    with LibraryWriter.open(house.home / "library.db") as library:
        assert library.connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
