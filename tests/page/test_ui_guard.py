"""Which requests the page refuses: hostile requests to a running server."""

from __future__ import annotations

import http.client
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from helpers.page_server import make_library, serve_page, serve_page_warm


class Client:
    """Plain HTTP, with any header, path and method."""

    def __init__(self, address: str) -> None:
        self.netloc = urlsplit(address).netloc
        self.cookie = ""

    def ask(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection(self.netloc, timeout=180)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.cookie and "Cookie" not in sent:
            sent["Cookie"] = self.cookie
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()

    def open_page(self) -> None:
        status, headers, _ = self.ask("/")
        assert status == 200
        self.cookie = headers["Set-Cookie"].split(";")[0]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_library(tmp_path_factory.mktemp("guard"), videos=1, seconds=3)


@pytest.fixture(scope="module")
def address(home: Path) -> Iterator[str]:
    with serve_page_warm(home) as (server_address, _):
        yield server_address


@pytest.fixture
def client(address: str) -> Client:
    client = Client(address)
    client.open_page()
    return client


def test_a_video_is_served_in_place_with_ranges(client: Client, home: Path) -> None:
    file = home.parent / "clips" / "video0.mp4"
    status, headers, body = client.ask("/media/1")
    assert (status, headers["Content-Type"], body) == (200, "video/mp4", file.read_bytes())
    status, headers, body = client.ask("/media/1", Range="bytes=10-19")
    assert (status, body) == (206, file.read_bytes()[10:20])
    assert headers["Content-Range"] == f"bytes 10-19/{file.stat().st_size}"
    assert client.ask("/media/1", Range=f"bytes={file.stat().st_size}-")[0] == 416


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/media/1",
        "/picture/1",
        "/still/1/0",
        "/api/state",
        "/long/gradio_api/info",
        "/page/x/main.js",
    ],
)
def test_a_foreign_name_for_this_machine_is_refused(client: Client, path: str) -> None:
    """DNS rebinding: the attacker's name resolves to the loopback address."""
    status, headers, _ = client.ask(path, Host="evil.example:80")
    assert status == 403
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "host",
    ["localhost.evil.example:7860", "evil.example", "127.0.0.1.evil.example", "localhost:1:2", "localhost@evil", "",
     "[::1].evil.example", "127.0.0.2:80", "0.0.0.0:80"],
)  # fmt: skip
def test_what_only_looks_like_this_machine_is_refused(client: Client, host: str) -> None:
    """And the answer says in plain words what to do."""
    status, _, body = client.ask("/", Host=host)
    assert (status, b"vtag ui --auth" in body, b"http://localhost:" in body) == (403, True, True)


@pytest.mark.parametrize(
    "host", ["localhost:9000", "127.0.0.1:9000", "[::1]:9000", "localhost", "LOCALHOST:9000"]
)
def test_a_forwarded_port_is_answered(address: str, host: str) -> None:
    """As by `ssh -L 9000:localhost:7860`, or the port of a container."""
    client = Client(address)
    status, headers, _ = client.ask("/", Host=host)
    assert status == 200
    client.cookie = headers["Set-Cookie"].split(";")[0]
    assert client.ask("/media/1", Host=host, Origin=f"http://{host.lower()}")[0] == 200
    assert client.ask("/api/scan", "POST", b"{}", Host=host, Origin="http://localhost:1234")[0] == 403


def test_two_servers_on_one_machine_keep_their_sessions(client: Client, tmp_path: Path) -> None:
    """A browser sends the cookies of a host to all of its ports."""
    (tmp_path / "home").mkdir()
    with serve_page_warm(tmp_path / "home") as (address, _):
        other = Client(address)
        other.open_page()
        jar = dict(c.cookie.split("=", 1) for c in (client, other))
        assert len(jar) == 2
        both = "; ".join(f"{name}={value}" for name, value in jar.items())
        assert client.ask("/media/1", Cookie=both)[0] == 200
        assert other.ask("/api/state", Cookie=both)[0] == 200
        status, _, body = other.ask("/api/state", Cookie=client.cookie)
        assert (status, b"Load it again" in body) == (403, True)


@pytest.mark.parametrize("path", ["/media/1", "/api/scan", "/long/gradio_api/call/cut", "/api/state"])
def test_another_sites_page_is_refused(client: Client, path: str) -> None:
    assert client.ask(path, "POST", b"{}", Origin="https://evil.example")[0] == 403
    assert client.ask(path, Origin="null")[0] == 403
    assert client.ask(path, Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="no-cors")[0] == 403


@pytest.mark.parametrize(
    "path", ["/media/1", "/picture/1", "/api/state", "/long/gradio_api/call/cut/x", "/page/x"]
)
def test_a_client_that_did_not_open_the_page_is_refused(client: Client, address: str, path: str) -> None:
    stranger = Client(address)
    session_name = client.cookie.split("=")[0]
    assert stranger.ask(path)[0] == 403
    assert stranger.ask(path, Cookie=f"{session_name}=guess")[0] == 403
    assert stranger.ask(path, Cookie=f'{session_name}="\\\x7f;;=')[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../../../etc/passwd",
        "/media/%2e%2e/%2e%2e/etc/passwd",
        "/media//etc/passwd",
        "/media/99999999999999999999999999",
        "/media/-1",
        "/media/2",
        "/picture/987654321",
        "/picture/99999999999999999999999999",
        "/still/2/0",
        "/still/1/-1",
        "/gradio_api/file=/etc/passwd",
        "/long/gradio_api/file=/etc/passwd",
        "/long/gradio_api/call/../file=/etc/passwd",
        "/page/../../pyproject.toml",
        "/file=/etc/passwd",
        "/long/gradio_api/upload",
        "/long/gradio_api/proxy=http://169.254.169.254/",
        "/long/config",
        "/long/",
        "/docs",
        "/openapi.json",
        "/api/v1/openapi.json",  # only with --api
        "/api/v1/search",
    ],
)
def test_only_files_of_the_library_are_reachable(client: Client, path: str) -> None:
    status, _, body = client.ask(path)
    assert (status, b"root:" in body) == (404, False)


@pytest.mark.parametrize("beyond_ms", [1, 10**6, 10**30])
def test_a_time_after_the_end_of_the_video_makes_no_picture(
    client: Client, home: Path, beyond_ms: int
) -> None:
    """Otherwise each number would leave one more file in the cache."""
    assert client.ask("/still/1/0")[0] == client.ask("/still/1/3000")[0] == 200
    pictures = sorted((home / "cache" / "pictures").iterdir())
    assert client.ask(f"/still/1/{3000 + beyond_ms}")[0] == 404
    assert len(sorted((home / "cache" / "pictures").iterdir())) - len(pictures) <= 1


def test_a_link_that_leads_out_of_the_roots_is_not_followed(
    client: Client, home: Path, tmp_path: Path
) -> None:
    file = home.parent / "clips" / "video0.mp4"
    aside = tmp_path / "aside.mp4"
    os.replace(file, aside)
    try:
        file.symlink_to(aside)
        assert client.ask("/media/1")[0] == 404
        file.unlink()
        os.mkfifo(file)
        assert client.ask("/media/1")[0] == 404
    finally:
        file.unlink()
        os.replace(aside, file)
    assert client.ask("/media/1")[0] == 200


def test_a_long_call_runs_in_the_queue_and_says_what_is_wrong(client: Client) -> None:
    body = json.dumps({"data": [{"folders": ["/nowhere"]}]}).encode()
    status, _, answer = client.ask(
        "/long/gradio_api/call/estimate_scan", "POST", body, Content_Type="application/json"
    )
    assert status == 200
    _, _, events = client.ask(f"/long/gradio_api/call/estimate_scan/{json.loads(answer)['event_id']}")
    assert b"there is no '/nowhere' on this machine" in events


def test_every_response_has_the_security_headers(client: Client) -> None:
    for path in ("/", "/media/1", "/nothing/here"):
        _, headers, _ = client.ask(path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "variables",
    [
        {
            "ALL_PROXY": "socks5://127.0.0.1:9",
            "HTTP_PROXY": "http://127.0.0.1:9",
            "HTTPS_PROXY": "nonsense",
            "SSL_CERT_FILE": "/gone",
        },
        {"all_proxy": "socks://127.0.0.1:9/", "no_proxy": "example.org"},
        {
            "GRADIO_ROOT_PATH": "/moved",
            "GRADIO_ALLOWED_PATHS": "/",
            "GRADIO_WATCH_DIRS": "/",
            "GRADIO_MCP_SERVER": "True",
            "GRADIO_SSR_MODE": "True",
            "GRADIO_NODE_PATH": "/nothing",
            "GRADIO_SERVER_PORT": "not a port",
        },
    ],
)
def test_what_is_set_for_other_programs_does_not_change_the_page(
    home: Path, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with serve_page(home) as (address, _):
        client = Client(address)
        client.open_page()
        assert client.ask("/api/state")[0] == 200
        assert client.ask("/long/config")[0] == 404
        body = json.dumps({"data": [{"folders": []}]}).encode()
        call = client.ask(
            "/long/gradio_api/call/estimate_scan", "POST", body, Content_Type="application/json"
        )
        assert call[0] == 200


def test_a_session_outlives_the_server(home: Path) -> None:
    with serve_page_warm(home) as (address, _):
        first_client = Client(address)
        first_client.open_page()
    with serve_page_warm(home) as (address, _):
        second_client = Client(address)
        second_client.cookie = first_client.cookie
        assert second_client.ask("/media/1")[0] == 200
    assert (home / "session.key").stat().st_mode & 0o077 == 0


def test_nothing_is_shown_without_the_password(home: Path) -> None:
    with serve_page_warm(home, password="right horse") as (address, _):
        client = Client(address)
        assert client.ask("/")[0] == 303
        assert client.ask("/media/1", Sec_Fetch_Mode="no-cors")[0] == 401
        assert client.ask("/api/v1/search")[0] == 401  # a program is not sent to a form
        form = {"Content_Type": "application/x-www-form-urlencoded"}
        for _ in range(20):  # on a busy machine two requests may take longer than the delay between them
            start_s = time.monotonic()
            assert client.ask("/login", "POST", b"password=wrong", **form)[0] == 401
            second_status = client.ask("/login", "POST", b"password=right+horse", **form)[0]
            if second_status == 429:
                break
            assert time.monotonic() - start_s > 1.0
        assert second_status == 429  # within a second after a wrong password, none is tried
        time.sleep(1.1)
        status, headers, _ = client.ask("/login", "POST", b"password=right+horse", **form)
        assert status == 303
        client.cookie = headers["Set-Cookie"].split(";")[0]
        assert client.ask("/media/1")[0] == 200
        assert client.ask("/media/1", Host="vtag.example.org")[0] == 200  # behind a proxy
        assert client.ask("/media/1", Host="vtag.example.org", Origin="https://evil.example")[0] == 403
        assert client.ask("/login", "POST", b"x" * 10_000, **form)[0] in (401, 413, 429)


def test_the_network_needs_a_password(vtag) -> None:
    run = vtag("ui", "--host", "0.0.0.0", "--port", "0", "--no-browser")
    assert run.returncode == 1
    assert "password" in run.stderr.splitlines()[-1]


def test_a_port_that_is_taken_is_named(vtag, address: str) -> None:
    run = vtag("ui", "--port", address.rsplit(":", 1)[1], "--no-browser")
    assert run.returncode == 1
    assert "choose another --port" in run.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", f"/media/{'9' * 5000}", b"", 404),
        ("GET", f"/strip/video/1/0/{2**63}", b"", 404),
        ("POST", "/long/gradio_api/call/nothing", b'{"data": [{}]}', 404),
        ("POST", "/long/gradio_api/call/cut%00", b'{"data": [{}]}', 404),
        ("GET", "/long/gradio_api/call/cut/no-such-event", b"", 200),  # with no values
        ("POST", "/long/gradio_api/call/cut", b"1e99999", 422),
        ("POST", "/long/gradio_api/call/cut", b'{"data": [{"moments": [NaN]}]}', 422),
        ("POST", "/long/gradio_api/call/cut", b'{"data": ' + b"[" * 5000, 422),
    ],
)
def test_what_no_page_sends_is_refused_in_a_sentence(
    client: Client, method: str, path: str, body: bytes, status: int
) -> None:
    """As tests/reliability/test_http_requests.py found; each was an error of the server."""
    answered, _, text = client.ask(path, method, body, Content_Type="application/json")
    assert (answered, text != b"Internal Server Error") == (status, True)
