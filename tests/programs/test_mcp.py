"""`vtag mcp` as an assistant sees it: the official SDK's own client over stdio, with a real process."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.film_library import Film, make_film_library
from helpers.footage import make_video

mcp = pytest.importorskip("mcp", reason="the package mcp is not installed (pip install 'vtag[mcp]')")

Run = Callable[..., subprocess.CompletedProcess[str]]
Call = Callable[..., Awaitable[dict[str, Any]]]
DOCS = (Path(__file__).parents[2] / "docs" / "mcp.md").read_text(encoding="utf-8")
FILMS = {
    "a.mp4": Film([("archery", 4), ("yoga", 4)]),
    "b.mp4": Film([("yoga", 6)], recorded="2023-06-30T09:12:00Z"),
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a library of two films."""

    def make_file(path: Path, film: Film, seed: int) -> None:
        make_video(path, seconds=film.seconds, width=64, height=48, seed=seed)

    return make_film_library(
        tmp_path_factory.mktemp("mcp"), FILMS, ("archery", "yoga", "dunking basketball"), make_file
    )


def ask(
    home: Path,
    conversation: Callable[[Any, Call], Awaitable[None]],
    *options: str | Path,
    mode: str = "auto",
) -> None:
    """Let a client talk with `vtag mcp` over stdio; `call` gives a tool's answer, or {"error": text}.

    `mode` legacy is the handshake of the protocol before 2026, which many assistants still use.
    """

    async def talk() -> None:
        command = ["-m", "vtag.app", "mcp", *map(str, options)]
        server = mcp.StdioServerParameters(command=sys.executable, args=command, env={"VTAG_HOME": str(home)})
        async with mcp.Client(server, mode=mode) as client:

            async def call(name: str, **arguments: object) -> dict[str, Any]:
                result = await client.call_tool(name, arguments)
                return {"error": result.content[0].text} if result.is_error else result.structured_content

            await conversation(client, call)

    asyncio.run(talk())


def test_an_assistant_reads_what_the_command_line_prints(home: Path, vtag: Run, monkeypatch: Any) -> None:
    monkeypatch.setenv("VTAG_HOME", str(home))
    expected = json.loads(vtag("search", "yoga", "--json").stdout)
    video = expected[0]["path"]

    async def conversation(client: Any, call: Call) -> None:
        tools = (await client.list_tools()).tools
        assert [tool.name for tool in tools] == ["search", "show", "similar", "labels", "scanned"]
        assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
        assert (await call("search", query="yoga"))["moments"] == expected
        assert len((await call("search", query="yoga", limit=1))["moments"]) == 1
        phrase = await call("search", query="slam dunk")
        assert phrase["searched_as"] == {"slam dunk": ["dunking basketball"]}
        shown = (await call("show", path=video))["moments"]
        assert {moment["label"] for moment in shown} >= {"yoga"} and shown[0]["path"] == video
        alike = (await call("similar", path=video, at_ms=1000))["moments"]
        assert alike and {"path", "label", "start_ms", "end_ms", "similarity"} == set(alike[0])
        assert set((await call("labels", containing="YOG"))["labels"]) == {"yoga"}
        scanned = await call("scanned")
        assert (scanned["videos"], scanned["models"], scanned["running"]) == (2, ["swin3d-t"], [])
        assert scanned["folders"] == [str(home.parent / "Videos")]

    ask(home, conversation)


def test_mistakes_are_sentences_and_nothing_else_is_opened(home: Path, tmp_path: Path) -> None:
    secret = make_video(tmp_path / "secret.mp4", seconds=1, width=64, height=48, seed=9)

    async def conversation(client: Any, call: Call) -> None:
        assert "column" in (await call("search", query="(yoga"))["error"]
        for tool in ("show", "similar"):
            assert "was not scanned" in (await call(tool, path=str(secret)))["error"]
        for tool in ("annotate", "cut", "undo"):
            assert f"Unknown tool: {tool}" in (await call(tool))["error"]
        assert "limit" in (await call("search", query="yoga", limit=10**9))["error"]

    ask(home, conversation, mode="legacy")


def test_with_permission_it_annotates_and_cuts_into_one_folder(
    home: Path, tmp_path: Path, vtag: Run, monkeypatch: Any
) -> None:
    own, clips = tmp_path / "home", tmp_path / "clips"
    shutil.copytree(home, own)
    clips.mkdir()
    monkeypatch.setenv("VTAG_HOME", str(own))
    video = json.loads(vtag("search", "archery", "--json").stdout)[0]["path"]

    async def conversation(client: Any, call: Call) -> None:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert not tools["cut"].annotations.read_only_hint
        assert await call("annotate", path=video, label="my dog", start_ms=1000, end_ms=2000) == {
            "is_new": True
        }
        (dog,) = (await call("search", query="dog"))["moments"]
        assert (dog["start_ms"], dog["end_ms"], dog["source"]) == (1000, 2000, "user")
        for _ in range(2):  # the second time it is there already
            (file,) = (await call("cut", moment_ids=[dog["id"]], is_exact=True))["files"]
        assert [str(path) for path in clips.iterdir()] == [file]
        await call("undo")
        assert (await call("search", query="dog"))["moments"] == []
        assert "gone" in (await call("cut", moment_ids=[dog["id"]]))["error"]
        assert "was not scanned" in (await call("annotate", path="/etc/passwd", label="x"))["error"]

    ask(own, conversation, "--allow-write", "--clips", clips)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_the_first_interrupt_ends_it(home: Path) -> None:
    begin = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": begin}
    command = [sys.executable, "-m", "vtag.app", "mcp", "--db", str(home / "library.db")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        server.stdin.write(json.dumps(message) + "\n")
        server.stdin.flush()
        assert json.loads(server.stdout.readline())["result"]["serverInfo"]["name"] == "vtag"
        server.send_signal(signal.SIGINT)
        try:
            assert server.wait(60) == 130
        finally:
            server.kill()


def test_permissions_are_said_together(vtag: Run, tmp_path: Path) -> None:
    assert vtag("mcp", "--clips", tmp_path).returncode == 2
    run = vtag("mcp", "--allow-write", "--clips", tmp_path / "no")
    assert run.returncode == 1 and "there is no folder" in run.stderr


def test_the_docs_name_every_tool_and_an_entry_that_assistants_take() -> None:
    entry = json.loads(re.findall(r"^```json\n(.*?)^```", DOCS, re.M | re.S)[0])
    assert entry["mcpServers"]["vtag"] == {"command": "vtag", "args": ["mcp"]}
    rows = " ".join(line for line in DOCS.splitlines() if line.startswith("| `"))
    names = ("search", "show", "similar", "labels", "scanned", "annotate", "undo", "cut")
    assert all(f"`{name}`" in rows for name in names)
