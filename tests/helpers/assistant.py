"""Talks with `vtag mcp` as an assistant does, line by line, without an SDK that would mend what is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

_PATIENCE_S = 120.0
_GREETING = {
    "protocolVersion": "2025-06-18",
    "capabilities": {},
    "clientInfo": {"name": "test", "version": "1"},
}


class Assistant:
    """A conversation with a new server. A context manager; `messages` is what the server said on stderr."""

    def __init__(self, *options: str | Path) -> None:
        command = [sys.executable, "-m", "vtag.app", "mcp", *map(os.fspath, options)]
        self._server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._last_id = 0
        self.messages = ""

    def __enter__(self) -> Assistant:
        assert self._ask("initialize", _GREETING)["serverInfo"]["name"] == "vtag"
        self._send({"method": "notifications/initialized"})
        return self

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The result of a tool: its `content`, and `structuredContent` if nothing was wrong."""
        return self._ask("tools/call", {"name": tool, "arguments": arguments})

    def _ask(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        assert self._server.stdout is not None
        self._last_id += 1
        self._send({"id": self._last_id, "method": method, "params": parameters})
        patience = threading.Timer(_PATIENCE_S, self._server.kill)
        patience.start()
        line = self._server.stdout.readline()
        patience.cancel()
        answer = json.loads(line)  # valid UTF-8, too
        assert answer.keys() == {"jsonrpc", "id", "result"}, answer
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", self._last_id), answer
        result: dict[str, Any] = answer["result"]
        return result

    def _send(self, message: dict[str, Any]) -> None:
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._server.stdin.flush()

    def __exit__(self, *_: object) -> None:
        try:
            output, messages = self._server.communicate(timeout=_PATIENCE_S)
        finally:
            self._server.kill()
        self.messages = messages.decode("utf-8", "surrogateescape")
        assert output == b"" and "Traceback" not in self.messages, (output, self.messages)
