"""The HTTP API for programs, against a real `vtag ui --api`: answers, the guard, and its own description."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video
from helpers.page_server import serve_page

from vtag.engine import Library
from vtag.engine.library import database
from vtag.engine.library.search.contents import require_content
from vtag.engine.library.store.clocks import save_clock
from vtag.engine.video.read.probe import probe
from vtag.engine.video_clock import ClockStretch, VideoClock

DOCS = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
LABELS = ("archery", "yoga", "dunking basketball")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a library of two films; the first picture of b.mp4 comes 3 s after the file's start."""

    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, width=64, height=48, seed=seed)

    films = {"a.mp4": Film([("archery", 4), ("yoga", 4)]), "b.mp4": Film([("yoga", 6)])}
    home = make_film_library(tmp_path_factory.mktemp("http"), films, LABELS, make_file)
    with database.LibraryWriter.open(home / "library.db") as library:
        content = require_content(library.connection, os.fsencode(home.parent / "Videos" / "b.mp4"))
        save_clock(library, content.id, VideoClock((ClockStretch(0, 3_000_000),)))
    return home


@pytest.fixture(scope="module")
def temporary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder for temporary files."""
    return tmp_path_factory.mktemp("temporary")


@pytest.fixture(scope="module")
def address(home: Path, temporary: Path) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(temporary))
        with serve_page(home, "--api") as (address, _):
            yield address


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    """A program with a session."""
    with httpx.Client(base_url=address, timeout=60) as client:
        client.get("/")
        yield client


def test_it_finds_what_the_library_finds(client: httpx.Client, home: Path) -> None:
    library = Library.open(home / "library.db")
    for query, less_sure in (("yoga", False), ("archery OR yoga", True)):
        answer = client.get("/api/v1/search", params={"q": query, "less_sure": less_sure}).json()
        expected = library.search(query, less_sure="all" if less_sure else "none")
        assert [(m["id"], m["path"], m["start_ms"], m["end_ms"], m["sure"]) for m in answer["moments"]] == [
            (m.id, str(m.file), m.start_ms, m.end_ms, m.sure) for m in expected
        ]
    best = client.get("/api/v1/search").json()["moments"]
    assert {moment["label"] for moment in best[:2]} == {"archery", "yoga"}
    first, second = (client.get("/api/v1/search", params={"limit": 1, "offset": n}).json() for n in (0, 1))
    assert first["has_more"] and first["moments"] != second["moments"]
    meanings = client.get("/api/v1/search", params={"q": "slam dunk"}).json()["searched_as"]
    assert meanings == {"slam dunk": ["dunking basketball"]}


def test_a_video_has_its_moments_by_the_players_clock(client: httpx.Client, home: Path) -> None:
    path = home.parent / "Videos" / "b.mp4"
    moments = client.get("/api/v1/search", params={"q": "yoga path:b.mp4"}).json()["moments"]
    video = client.get(f"/api/v1/videos/{moments[0]['video']}").json()
    assert (video["path"], video["present"], video["codec"]) == (str(path), True, "h264")
    assert [m["start_ms"] for m in video["moments"]] == [
        m.start_ms for m in Library.open(home / "library.db").moments(path, less_sure="none")
    ]
    assert min(m["start_ms"] for m in video["moments"]) >= 3000


@pytest.mark.parametrize("exact", [False, True])
def test_a_clip_is_the_moment_as_a_video(client: httpx.Client, tmp_path: Path, exact: bool) -> None:
    (moment, *_) = client.get("/api/v1/search", params={"q": "archery"}).json()["moments"]
    answer = client.get(f"/api/v1/moments/{moment['id']}/clip", params={"exact": exact})
    assert answer.status_code == 200 and answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"].endswith("''a%2000m00.0s.mp4")
    (tmp_path / "clip.mp4").write_bytes(answer.content)
    length_ms = probe(os.fsencode(tmp_path / "clip.mp4")).duration_ms
    wanted_ms = moment["end_ms"] - moment["start_ms"]
    assert abs(length_ms - wanted_ms) <= 50 if exact else length_ms >= wanted_ms - 50


@pytest.mark.parametrize(
    ("part", "status"), [("bytes=0-9", 206), ("bytes=99999999-", 416), ("seconds=1", 400)]
)
def test_no_clip_is_left_behind(client: httpx.Client, temporary: Path, part: str, status: int) -> None:
    (moment, *_) = client.get("/api/v1/search", params={"q": "archery"}).json()["moments"]
    answer = client.get(f"/api/v1/moments/{moment['id']}/clip", headers={"range": part})
    assert answer.status_code == status
    deadline = time.monotonic() + 60  # the last byte is here before the clip is gone
    while (left := list(temporary.glob("vtag-clip-*"))) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left


def test_mistakes_are_sentences(client: httpx.Client) -> None:
    for path, status in (
        ("search?q=(yoga", 422), ("search?limit=0", 422), ("search?sort=nonsense", 422), ("videos/99", 404),
        ("moments/99/clip", 404), ("videos/x", 422), ("nothing", 404),
    ):  # fmt: skip
        answer = client.get(f"/api/v1/{path}")
        assert answer.status_code == status, path
    assert "column" in client.get("/api/v1/search?q=(yoga").json()["error"]
    assert client.post("/api/v1/search").status_code == 405


def test_the_guard_stands_before_it(address: str, client: httpx.Client) -> None:
    path = "/api/v1/search?q=yoga"
    assert httpx.get(address + path).status_code == 403  # no session
    for headers in (
        {"host": "evil.example"},
        {"origin": "https://evil.example"},
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "cors"},
    ):
        assert client.get(path, headers=headers).status_code == 403
    answer = client.get(path)
    assert (
        answer.headers["x-content-type-options"] == "nosniff"
        and "default-src 'none'" in answer.headers["content-security-policy"]
    )


def test_it_describes_itself(client: httpx.Client) -> None:
    description = client.get("/api/v1/openapi.json").json()
    assert set(description["paths"]) == {"/search", "/videos/{video_id}", "/moments/{moment_id}/clip"}
    assert all("get" in path and len(path) == 1 for path in description["paths"].values())
    assert description["servers"] == [{"url": "/api/v1"}]
    assert client.get("/api/v1/docs").status_code == 404  # it would load scripts from elsewhere
    documented = set(re.findall(r"`/api/v1(/[\w/.]+)", DOCS))
    assert documented == {"/search", "/videos/ID", "/moments/ID/clip", "/openapi.json"}


def test_the_shell_lines_of_the_docs_run(client: httpx.Client, address: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    (moment, *_) = client.get("/api/v1/search", params={"q": "archery"}).json()["moments"]
    lines = re.findall(r"^```sh\n(.*?)^```", DOCS, re.M | re.S)[0].splitlines()
    lines = [
        line.replace("http://localhost:7860", address).replace("/12/", f"/{moment['id']}/") for line in lines
    ]
    outputs = [
        subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True).stdout
        for line in lines
    ]
    assert json.loads(outputs[1])["moments"][0]["id"] == moment["id"]
    assert probe(os.fsencode(tmp_path / "clip.mp4")).duration_ms > 0
