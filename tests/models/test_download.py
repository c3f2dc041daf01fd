"""A download is whole and right, or it is an error that says what to do; a broken one goes on where it stopped."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.file_server import (
    FileServer,
    chunked_response,
    file_response,
    file_server,
    redirect_response,
    responses_in_order,
    stalled_response,
    status_response,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from vtag.engine.errors import DownloadError
from vtag.engine.models.download import DownloadedFile, fetch
from vtag.engine.models.https import Limits, is_allowed

BODY = np.random.default_rng(0).bytes(300_000)
HASH = hashlib.sha256(BODY).hexdigest()
BY_HAND = "fetch it elsewhere, then `vtag models import FILE --name some-model`"


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as running:
        yield running


@pytest.fixture
def goal(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "model.pth"


def get(url: str, goal: Path, **kwargs: Any) -> DownloadedFile:
    return fetch(url, goal, **{"pause_s": 0.0, "manual_steps": BY_HAND, **kwargs})


def refused(url: str, goal: Path, **kwargs: Any) -> str:
    """The one line that a download ends with; the file must not be there."""
    with pytest.raises(DownloadError) as caught:
        get(url, goal, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    assert message.isprintable()
    assert not goal.exists()
    return message


def said_of(message: str, host: str = "127.0.0.1") -> bool:
    """Whether a message begins with the host and ends with the way around."""
    return message.startswith(host) and message.endswith(f"by hand: {BY_HAND}")


def part_of(goal: Path) -> Path:
    return goal.with_name("model.pth.part")


def file_names(goal: Path) -> list[str]:
    return sorted(path.name for path in goal.parent.iterdir())


def test_a_file_comes_whole_and_nothing_else_is_left(server: FileServer, goal: Path) -> None:
    calls: list[tuple[int, int | None]] = []
    got = get(
        server.serve(file_response(BODY)),
        goal,
        sha256_prefix=HASH[:8],
        on_progress=lambda *progress: calls.append(progress),
    )
    assert goal.read_bytes() == BODY
    assert got == DownloadedFile(goal, HASH, len(BODY))
    assert file_names(goal) == ["model.pth"]
    assert calls[-1] == (len(BODY), len(BODY))
    assert calls == sorted(calls)
    assert goal.stat().st_mode & 0o077 == 0


def test_a_broken_connection_is_taken_up_where_it_broke(server: FileServer, goal: Path) -> None:
    get(server.serve(file_response(BODY, breaks=[100_000, 50_000])), goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY
    assert server.ranges() == [None, "bytes=100000-", "bytes=150000-"]
    assert server.requests[1][1]["If-Range"] == f'"{hashlib.md5(BODY).hexdigest()}"'


def test_what_came_is_kept_and_the_next_call_asks_for_the_rest_alone(server: FileServer, goal: Path) -> None:
    url = server.serve(file_response(BODY, breaks=[123_456]))
    message = refused(url, goal, attempts=1)
    assert said_of(message)
    assert "broke off" in message
    assert part_of(goal).read_bytes() == BODY[:123_456]
    get(url, goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY
    assert server.ranges()[1:] == ["bytes=123456-"]
    assert file_names(goal) == ["model.pth"]


def test_an_interruption_keeps_what_came(server: FileServer, goal: Path) -> None:
    url = server.serve(file_response(BODY))

    def interrupt(have: int, _total: int | None) -> None:
        if have > 100_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(url, goal, on_progress=interrupt)
    assert not goal.exists()
    had = part_of(goal).stat().st_size
    assert 100_000 < had < len(BODY) + 1
    get(url, goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY


def test_a_date_serves_where_there_is_no_etag(server: FileServer, goal: Path) -> None:
    day = "Tue, 15 Nov 2022 12:45:26 GMT"
    get(server.serve(file_response(BODY, etag=None, modified=day, breaks=[70_000])), goal, sha256_prefix=HASH)
    assert server.requests[1][1]["If-Range"] == day
    assert server.ranges() == [None, "bytes=70000-"]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_sure_sign_that_it_is_the_same_file_it_begins_anew(
    server: FileServer, goal: Path, etag: str | None
) -> None:
    get(server.serve(file_response(BODY, etag=etag, breaks=[70_000])), goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY
    assert server.ranges() == [None, None]


def test_a_server_that_ignores_ranges_begins_anew(server: FileServer, goal: Path) -> None:
    get(server.serve(file_response(BODY, ranges=False, breaks=[70_000])), goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(server: FileServer, goal: Path) -> None:
    changed = BODY[::-1]
    url = server.serve(responses_in_order(file_response(BODY, breaks=[70_000]), file_response(changed)))
    get(url, goal)
    assert goal.read_bytes() == changed


def test_a_file_that_became_shorter_begins_anew(server: FileServer, goal: Path) -> None:
    url = server.serve(
        responses_in_order(
            file_response(BODY, etag='"same"', breaks=[200_000]), file_response(BODY[:100_000], etag='"same"')
        )
    )
    get(url, goal)
    assert goal.read_bytes() == BODY[:100_000]


@pytest.mark.parametrize(
    "content_range",
    [
        "bytes 0-299999/300000",
        "bytes 70001-299999/300000",
        "bytes 70000-299998/300000",
        "bytes 70000-299999/300001",
        "bytes 70000-299999/*",
        "70000-299999/300000",
        "bytes 70000-299999/300000, bytes 0-1/300000",
        "",
    ],
)
def test_another_part_than_the_one_asked_for_is_refused(
    server: FileServer, goal: Path, content_range: str
) -> None:
    url = server.serve(file_response(BODY, breaks=[70_000], content_range=content_range))
    assert said_of(refused(url, goal, sha256_prefix=HASH))
    assert file_names(goal) == []  # so that the next call does not fail in the same way


def test_a_part_with_another_etag_is_refused(server: FileServer, goal: Path) -> None:
    def changed(request: Any) -> None:
        file_response(BODY, etag=request.headers["If-Range"], headers={"ETag": '"other"'})(request)

    assert "another part" in refused(
        server.serve(responses_in_order(file_response(BODY, breaks=[70_000]), changed)), goal
    )


def test_a_complete_part_needs_no_more_than_its_check(server: FileServer, goal: Path) -> None:
    url = server.serve(file_response(BODY, breaks=[70_000]))
    refused(url, goal, attempts=1)
    part_of(goal).write_bytes(BODY)
    get(url, goal, sha256_prefix=HASH)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "notes", ["", "{", "[]", '{"url": 3}', "null", '{"url": "x", "total_bytes": -1}', "[" * 9999]
)
def test_damaged_notes_of_a_part_only_cost_the_part(server: FileServer, goal: Path, notes: str) -> None:
    goal.parent.mkdir()
    part_of(goal).write_bytes(b"something else entirely")
    part_of(goal).with_name("model.pth.part.json").write_text(notes)
    get(server.serve(file_response(BODY)), goal, sha256_prefix=HASH)
    assert goal.read_bytes() == BODY


@settings(max_examples=25, deadline=None)
@given(
    size=st.integers(1, 5000),
    breaks=st.lists(st.integers(0, 5000), max_size=4),
    etag=st.sampled_from(["", None, 'W/"weak"']),
    ranges=st.booleans(),
)
def test_wherever_it_breaks_the_file_is_right(
    size: int, breaks: list[int], etag: str | None, ranges: bool
) -> None:
    body = BODY[:size]
    with tempfile.TemporaryDirectory() as folder, file_server() as server:
        goal = Path(folder) / "model.pth"
        get(server.serve(file_response(body, breaks=breaks, etag=etag, ranges=ranges)), goal, attempts=9)
        assert goal.read_bytes() == body
        assert file_names(goal) == ["model.pth"]


def test_a_wrong_hash_is_refused_and_thrown_away(server: FileServer, goal: Path) -> None:
    message = refused(server.serve(file_response(BODY)), goal, sha256_prefix="7615ae03")
    assert said_of(message)
    assert "7615ae03" in message
    assert HASH[:8] in message
    assert file_names(goal) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (status_response(404, b"<html>no</html>"), "no such file"),
        (status_response(410), "no such file"),
        (status_response(403), "does not give"),
        (status_response(511, b"<html>login</html>"), "login"),
        (status_response(418), "418"),
        (status_response(204), "204"),
        (status_response(206, b"x", {"Content-Type": "text/plain"}), "a part"),
        (status_response(503), "503"),
        (status_response(200, b"<html>hello</html>"), "web page"),
        (file_response(b"\xef\xbb\xbf \n<!DOCTYPE html><html>log in</html>"), "web page"),
        (file_response(b"<HTML><body>log in"), "web page"),
        (chunked_response(b"<html><body>log in"), "web page"),
        (
            file_response(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
            "LFS pointer",
        ),
        (file_response(BODY, headers={"Content-Encoding": "gzip"}), "coding"),
        (file_response(b""), "0 bytes"),
        (chunked_response(b""), "0 bytes"),
        (status_response(302), "redirects"),
        (redirect_response("file:///etc/passwd"), "redirects"),
        (redirect_response("ftp://example.org/model.pth"), "not https"),
        (redirect_response("http://192.0.2.1/model.pth"), "not https"),
        (redirect_response("http://user@127.0.0.1/model.pth"), "not https"),
        (redirect_response("https://[broken/model.pth"), ""),
    ],
)
def test_what_is_not_the_file_is_one_line_with_the_host_and_the_way_around(
    server: FileServer, goal: Path, answer: Any, words: str
) -> None:
    message = refused(server.serve(answer), goal)
    assert said_of(message)
    assert words in message
    assert file_names(goal) == []


def test_a_page_in_between_does_not_cost_what_came(server: FileServer, goal: Path) -> None:
    page = status_response(200, b"<html>please log in</html>")
    url = server.serve(responses_in_order(file_response(BODY, breaks=[200_000]), page, file_response(BODY)))
    assert "web page" in refused(url, goal)
    get(url, goal, sha256_prefix=HASH)
    assert server.ranges()[2] == "bytes=200000-"


def test_a_captive_portal_is_named(server: FileServer, goal: Path) -> None:
    with file_server() as portal:
        portal.serve(status_response(200, b"<html>Welcome to the hotel</html>"), "/login")
        message = refused(server.serve(redirect_response(portal.url("/login", "localhost"))), goal)
    assert "localhost" in message
    assert "login" in message
    assert said_of(message)


def test_a_few_redirects_are_followed_and_the_range_goes_along(server: FileServer, goal: Path) -> None:
    for i in range(4):
        server.serve(redirect_response(f"/{i + 1}", code=(301, 302, 307, 308)[i]), f"/{i}")
    server.serve(redirect_response("/file"), "/4")
    server.serve(file_response(BODY, breaks=[100_000]), "/file")
    get(server.url("/0"), goal, sha256_prefix=HASH)
    assert [headers.get("Range") for path, headers in server.requests if path == "/file"] == [
        None,
        "bytes=100000-",
    ]


def test_a_redirect_loop_ends(server: FileServer, goal: Path) -> None:
    server.serve(redirect_response("/a"), "/b")
    message = refused(server.serve(redirect_response("/b"), "/a"), goal)
    assert said_of(message)
    assert "more than 5" in message
    assert len(server.requests) == 6


@pytest.mark.parametrize("attempts", [1, 3])
def test_a_server_in_trouble_is_asked_again_but_not_for_ever(
    server: FileServer, goal: Path, attempts: int
) -> None:
    refused(server.serve(status_response(503)), goal, attempts=attempts)
    assert len(server.requests) == attempts
    server.serve(responses_in_order(status_response(502), status_response(429), file_response(BODY)))
    get(server.url(), goal, sha256_prefix=HASH)


def test_an_answer_shorter_than_it_says_is_kept_as_a_part(server: FileServer, goal: Path) -> None:
    message = refused(
        server.serve(file_response(BODY, length=len(BODY) + 10, ranges=False)), goal, attempts=2
    )
    assert said_of(message)
    assert "10 bytes early" in message


def test_an_answer_longer_than_it_says_is_cut_and_fails_its_hash(server: FileServer, goal: Path) -> None:
    assert "another file" in refused(server.serve(file_response(BODY, length=1000)), goal, sha256_prefix=HASH)


def test_a_length_far_from_the_published_one_is_refused_before_it_is_taken(
    server: FileServer, goal: Path
) -> None:
    message = refused(server.serve(file_response(BODY)), goal, expected_bytes=2 * len(BODY))
    assert said_of(message)
    assert "as published" in message
    get(server.serve(file_response(BODY)), goal, expected_bytes=len(BODY) + 5000)


@pytest.mark.parametrize("answer", [file_response(BODY), chunked_response(BODY)])
def test_more_than_the_most_is_refused(server: FileServer, goal: Path, answer: Any) -> None:
    assert said_of(refused(server.serve(answer), goal, max_bytes=100_000))
    assert file_names(goal) == []


def test_an_endless_answer_without_a_length_ends_at_the_published_size(
    server: FileServer, goal: Path
) -> None:
    message = refused(server.serve(chunked_response(BODY)), goal, expected_bytes=100_000)
    assert "more than" in message
    assert file_names(goal) == []


def test_an_answer_in_chunks_comes_whole_or_not_at_all(server: FileServer, goal: Path) -> None:
    get(server.serve(chunked_response(BODY)), goal, sha256_prefix=HASH)
    goal.unlink()
    assert "broke off" in refused(server.serve(chunked_response(BODY, cut=50_000)), goal, attempts=2)


def test_a_full_disk_is_known_before_anything_is_written(server: FileServer, goal: Path) -> None:
    room = shutil.disk_usage(goal.parents[1]).free
    assert "free" in refused(server.serve(file_response(BODY)), goal, spare_bytes=room)
    assert file_names(goal) == []


def test_a_folder_that_cannot_be_written_is_one_line(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = refused(server.serve(file_response(BODY)), tmp_path / "file" / "model.pth")
    assert "cannot be written" in message


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/model.pth",
        "file:///etc/passwd",
        "ftp://example.org/model.pth",
        "https://",
        "https://user:word@example.org/model.pth",
        "https://example.org/mod\nel.pth",
        "https://[::1/model.pth",
        "http://127.0.0.1.example.org/model.pth",
        "http://localhost.example.org/model.pth",
    ],
)
def test_nothing_but_https_is_asked(goal: Path, url: str) -> None:
    assert "https" in refused(url, goal)


def test_https_never_leads_to_http_not_even_at_home() -> None:
    assert is_allowed("http://127.0.0.1/", loopback=True)
    assert not is_allowed("http://127.0.0.1/", loopback=False)
    assert not is_allowed("http://192.0.2.1/", loopback=True)


def test_an_address_without_a_server_is_one_line_at_once(goal: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        started = time.monotonic()
        message = refused(f"https://127.0.0.1:{reserved.getsockname()[1]}/model.pth", goal, pause_s=60.0)
    assert said_of(message)
    assert "cannot be reached" in message
    assert time.monotonic() - started < 30  # half of one pause


def test_a_server_that_does_not_encrypt_is_not_waited_for(goal: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/model.pth"
        message = refused(url, goal, limits=Limits(connect_s=0.6))
        assert time.monotonic() - started < 20
    assert said_of(message)
    assert "cannot be reached" in message


def test_a_server_that_falls_silent_is_left(server: FileServer, goal: Path) -> None:
    url = server.serve(stalled_response(server, BODY[:1000], len(BODY)))
    message = refused(url, goal, limits=Limits(read_s=0.3), attempts=2)
    assert said_of(message)
    assert part_of(goal).read_bytes() == BODY[:1000]


def test_two_at_once_do_not_write_into_each_other(server: FileServer, goal: Path) -> None:
    begun = threading.Event()
    done: list[str] = []

    def first() -> None:
        url = server.serve(stalled_response(server, BODY[:1000], len(BODY)))
        with pytest.raises(DownloadError) as caught:
            get(url, goal, attempts=1, on_progress=lambda *_: begun.set())
        done.append(str(caught.value))

    thread = threading.Thread(target=first)
    thread.start()
    assert begun.wait(180)
    assert "another process" in refused(server.url(), goal)
    server.released.set()  # the first need not wait any longer
    thread.join()
    assert "broke off" in done[0]
    assert not goal.with_name("model.pth.lock").exists()


@pytest.mark.parametrize("header", ["ETag", "Last-Modified", "Content-Range", "Content-Type", "X-Strange"])
@pytest.mark.parametrize("value", ["\x1b[31m", "x" * 60_000, "é"])
def test_strange_headers_change_nothing(server: FileServer, goal: Path, header: str, value: str) -> None:
    get(
        server.serve(file_response(BODY, breaks=[1000], headers={header: value})),
        goal,
        sha256_prefix=HASH,
        attempts=9,
    )
    assert goal.read_bytes() == BODY


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if not shutil.which("openssl"):
        pytest.skip("no openssl here to make a certificate with")
    file = tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(tmp_path / "key.pem"), "-out", str(file)),
        ],
        check=True,
        capture_output=True,
    )
    file.write_text(file.read_text() + (tmp_path / "key.pem").read_text())
    return file


def test_a_certificate_that_nobody_vouches_for_is_refused(certificate: Path, goal: Path) -> None:
    with file_server(certificate) as server:
        server.serve(file_response(BODY))
        message = refused(server.url(host="localhost"), goal)
        assert said_of(message, "localhost")
        assert "certificate" in message
        assert server.requests == []


def test_https_with_a_trusted_certificate_works_and_never_falls_back_to_http(
    certificate: Path, goal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with file_server(certificate) as server, file_server() as plain:
        server.serve(file_response(BODY, breaks=[1000]))
        get(server.url(host="localhost"), goal, sha256_prefix=HASH)
        goal.unlink()
        server.serve(redirect_response(plain.serve(file_response(BODY))))
        message = refused(server.url(host="localhost"), goal)
        assert "not https" in message
        assert plain.requests == []
