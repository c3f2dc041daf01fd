"""Requests to the page's server, made from its own routes and OpenAPI schemas, and then spoilt."""

from __future__ import annotations

import http.client
import json
import random
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from fastapi import FastAPI
    from pydantic import BaseModel

Schema = Mapping[str, Any]
_METHODS = ("get", "post", "put", "delete", "patch")
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")
_HUGE = ("9" * 40, "9" * 5000, str(2**63), str(2**64), "1" + "0" * 400)
_WRONG_TEXTS = (
    *("", " ", "-1", "-0", "0", "1e9", "1e999", "nan", "inf", "0x10", "1_0", "\u0663", "true", "null", "[]", "{}"),
    *("\x00", "a\x00b", "\x1b[2J", "\ufeff", "\u202e", "\ud800", "ü" * 300, "a" * 5000, "'", '"', "1;2", "a b"),
    *("..", "../../etc/passwd", "/etc/passwd", "/proc/self/environ", "~root", "%00", "%2e%2e%2f", "file:///etc/passwd"),
    *("(" * 300, '"' * 7, "* OR *", "score:>nan", "after:9999999", "path:[", "-", "THEN", "a THEN 9e99s b"),
    *_HUGE,
)  # fmt: skip
_WRONG_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**53, 2**63, 2**64, -(2**63) - 1, 10**30, 10**400, 1.5, -0.0, 1e308, 5e-324),
    *(float("nan"), float("inf"), [], {}, [[]], [None], {"a": 1}, [2**70], ["1"], *_WRONG_TEXTS[:32]),
)  # fmt: skip
_RANGES = (
    *("bytes=0-", "bytes=-1", "bytes=0-0", "bytes=9-1", "bytes=10-19", "bytes=0-1,3-4", "bytes=-0", "bytes=--1"),
    *("bytes=", "bytes", "x", "bytes=a-b", "bytes=0-99999999999999999999", f"bytes={'9' * 30}-", "bytes=1-,-1"),
    *("items=0-1", "bytes=0-0," * 900 + "0-0", f"bytes={','.join(f'{n}-' for n in range(900))}", "bytes=\u00b2-"),
)  # fmt: skip
_HEADERS = (
    *(("Range", each) for each in _RANGES),
    *(("If-Range", "x"), ("If-Modified-Since", "x"), ("If-None-Match", "*"), ("If-Range", "Thu, 01 Jan 1970")),
    *(("Accept-Encoding", "br;q=9,,"), ("Expect", "100-continue"), ("X-Forwarded-Host", "evil"), ("TE", "x")),
    *(("X-HTTP-Method-Override", "DELETE"), ("Cookie", '"'), ("Cookie", "\xff=\xfe"), ("X-Long", "a" * 20_000)),
    *(("Upgrade", "websocket"), ("Connection", "upgrade"), ("Accept", "\x00"), ("Forwarded", "host=evil")),
)  # fmt: skip
_CONTENT_TYPES = ("text/plain", "multipart/form-data; boundary=x", "application/json; charset=utf-16", "", "x" * 999,
                  "application/x-www-form-urlencoded", "application/xml", "application/json-patch+json")  # fmt: skip
_BAD_BODIES = (
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b'"',
    b"[" * 5000,
    b'{"a":' * 3000,
    b"\x00" * 99,
    b"1e99999",
)
_WRONG_METHODS = (
    "GET",
    "POST",
    "PUT",
    "DELETE",
    "HEAD",
    "OPTIONS",
    "PATCH",
    "TRACE",
    "CONNECT",
    "get",
    "X" * 99,
)
_SPLICES = (b"", b"\x00", b"\xff", b"NaN", b"-", b"]", b"}", b'"', b"1e999", b"\\ud800", b",", b"9" * 99)
_PATH_ENDS = ("/", "//", "/..", "/%2e%2e/%2e%2e/etc/passwd", "%2f..%2f..%2fsession.key", "/.", "%00", "%", "%zz",
              "%5c..%5c", ";x", "/" + "a" * 9000, "%c0%ae%c0%ae/", "\xff", "?" * 9, "#x", ".json")  # fmt: skip


class Endpoint(NamedTuple):
    """A route with the schemas of its parameters and its body. `definitions`: what `$ref` names."""

    method: str
    path: str
    parameters: Mapping[str, Schema]
    body: Schema | None
    definitions: Mapping[str, Schema]
    is_long_call: bool = False

    @property
    def name(self) -> str:
        """The path without its parameters' values, such as `/api/videos/{content}`."""
        return self.path


class Request(NamedTuple):
    """What is sent: a line, headers and a body, as bytes that need not be valid."""

    method: str
    target: bytes
    headers: list[tuple[str, str]]
    body: bytes


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def api_endpoints(app: FastAPI, prefix: str = "") -> Iterator[Endpoint]:
    """The JSON routes of an application, as its OpenAPI schema describes them."""
    schema = app.openapi()
    definitions = schema.get("components", {}).get("schemas", {})
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            if method in _METHODS:
                parameters = {each["name"]: each["schema"] for each in operation.get("parameters", ())}
                content = operation.get("requestBody", {}).get("content", {})
                body = content.get("application/json", {}).get("schema")
                yield Endpoint(method.upper(), prefix + path, parameters, body, definitions)


def plain_endpoints(app: FastAPI, queries: Mapping[str, Mapping[str, Schema]]) -> Iterator[Endpoint]:
    """The routes without a schema: media, pictures, the page's files. `queries`: parameters by the path."""
    from starlette.routing import Route

    for route in app.routes:
        if type(route) is Route:
            path = _PATH_PARAMETER.sub(r"{\1}", route.path)
            names = {name: {"type": "integer"} for name in _PATH_PARAMETER.findall(route.path)}
            yield Endpoint("GET", path, {**names, **queries.get(path, {})}, None, {})


def call_endpoint(path: str, body: type[BaseModel]) -> Endpoint:
    """A long call that waits for the queue."""
    schema = body.model_json_schema()
    return Endpoint("POST", path, {}, schema, schema.get("$defs", {}), is_long_call=True)


class RequestMaker:
    """Makes valid requests and spoils them. `known_values` gives values that exist, by the name of a parameter."""

    def __init__(
        self, rng: random.Random, known_values: Callable[[str], list[Any]], cookie: str, host: str
    ) -> None:
        self._rng = rng
        self._known_values = known_values
        self._headers = [("Host", host), ("Cookie", cookie)]

    def make(self, endpoint: Endpoint, faults: int) -> Request:
        """A request to `endpoint` with so many faults."""
        rng = self._rng
        values = {name: self._value(name, schema, endpoint) for name, schema in endpoint.parameters.items()
                  if f"{{{name}}}" in endpoint.path or rng.random() < 0.5}  # fmt: skip
        body = self._value("", endpoint.body, endpoint) if endpoint.body is not None else None
        request_faults = []
        for _ in range(faults):
            kind = rng.choice(("value", "value", "value", "body", "body", "header", "path", "method", "raw"))
            if kind == "value" and values:
                values[rng.choice(list(values))] = rng.choice(_WRONG_TEXTS)
            elif kind in ("value", "body") and body is not None:
                body = self._spoil(body)
            else:
                request_faults.append(kind)
        data = {"data": [body]} if endpoint.is_long_call else body
        sent = json.dumps(data).encode() if body is not None else b""
        content_type = [("Content-Type", "application/json")] if body is not None else []
        request = Request(
            endpoint.method, self._target(endpoint, values), [*self._headers, *content_type], sent
        )
        for kind in request_faults:
            request = self._spoil_request(request, kind)
        return request

    def _target(self, endpoint: Endpoint, values: Mapping[str, Any]) -> bytes:
        path = _PATH_PARAMETER.sub(
            lambda match: quote(_as_text(values[match[1]]), safe="", errors="surrogatepass"), endpoint.path
        )
        query = "&".join(
            f"{quote(name)}={quote_plus(_as_text(value), errors='surrogatepass')}"
            for name, value in values.items()
            if f"{{{name}}}" not in endpoint.path
        )
        return f"{path}?{query}".encode() if query else path.encode()

    def _value(self, name: str, schema: Schema, endpoint: Endpoint) -> Any:
        """A value that the schema allows, one that exists if possible."""
        rng = self._rng
        if reference := schema.get("$ref"):
            return self._value(name, endpoint.definitions[reference.rsplit("/", 1)[-1]], endpoint)
        if choices := schema.get("anyOf"):
            return self._value(name, rng.choice(choices), endpoint)
        if choices := schema.get("enum"):
            return rng.choice(choices)
        if "const" in schema:
            return schema["const"]
        match schema.get("type"):
            case "object":
                properties = schema.get("properties", {}).items()
                required = schema.get("required", ())
                return {key: self._value(key, of, endpoint) for key, of in properties
                        if key in required or rng.random() < 0.7}  # fmt: skip
            case "array":
                return [self._value(name, schema["items"], endpoint) for _ in range(rng.choice((1, 1, 2, 5)))]
            case "boolean":
                return rng.random() < 0.5 if name != "apply" else False
            case "null":
                return None
            case "integer" | "number" if not self._known_values(name):
                low = schema.get("minimum", schema.get("exclusiveMinimum", 0))
                high = min(schema.get("maximum", schema.get("exclusiveMaximum", 100)), low + 9000)
                return (
                    rng.randint(int(low), int(high))
                    if schema["type"] == "integer"
                    else rng.uniform(low, high)
                )
        return rng.choice(self._known_values(name) or ["", "a", "yoga", "2024"])

    def _spoil(self, body: Any) -> Any:
        """`body` with a wrong value somewhere, or something less or more."""
        rng = self._rng
        if isinstance(body, dict) and body and rng.random() < 0.9:
            key = rng.choice(list(body))
            what = rng.random()
            if what < 0.1:
                return {name: value for name, value in body.items() if name != key}
            if what < 0.15:
                return {**body, "\x00x" * 9: rng.choice(_WRONG_VALUES)}
            if what < 0.2:
                return {**body, key: _nest(rng.choice((3, 400)))}
            return {**body, key: self._spoil(body[key])}
        if isinstance(body, list) and body and rng.random() < 0.6:
            return [*body[1:], self._spoil(body[0])] if rng.random() < 0.8 else body * 15_000
        return rng.choice(_WRONG_VALUES)

    def _spoil_request(self, request: Request, kind: str) -> Request:
        rng = self._rng
        if kind == "path":
            path, mark, query = request.target.partition(b"?")
            return request._replace(target=path + rng.choice(_PATH_ENDS).encode("latin-1") + mark + query)
        if kind == "method":
            method = rng.choice(
                ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "X" * 99)
            )
            return request._replace(method=method)
        if kind == "raw" and request.body:
            return request._replace(body=self._spoil_bytes(request.body))
        if kind == "body" and request.body:
            headers = [each for each in request.headers if each[0] != "Content-Type"]
            return request._replace(headers=[*headers, ("Content-Type", rng.choice(_CONTENT_TYPES))])
        return request._replace(headers=[*request.headers, rng.choice(_HEADERS)])

    def _spoil_bytes(self, body: bytes) -> bytes:
        rng = self._rng
        if rng.random() < 0.5:
            return rng.choice(_BAD_BODIES)
        at = rng.randrange(len(body))
        piece = rng.choice(
            (b"", b"\x00", b"\xff", b"NaN", b"-", b"]", b"}", b'"', b"1e999", b"\\ud800", b",", b"9" * 99)
        )
        return body[:at] + piece + body[at + rng.randrange(3) :]


def make_foreign(rng: random.Random, request: Request, host: str, has_password: bool) -> Request:
    """`request` as a stranger sends it: by another name or site, or without a session. It has to be refused."""
    headers = [each for each in request.headers if each[0] not in ("Host", "Cookie")]
    own = [each for each in request.headers if each[0] in ("Host", "Cookie")]
    no_cookie = [
        ("Host", host),
        rng.choice((("X", "y"), ("Cookie", "vtag_session_0=0"), ("Cookie", "a=b; \xff"))),
    ]
    name, port = host.rsplit(":", 1)
    hosts = ("evil.example", f"{name}.evil.example", f"evil@{host}", f"{name}:{port}:1", "", "127.0.0.2", "[::2]",
             f"{name}.", f" {host}x", "0x7f.1", f"{name}%00", f"{host}/")  # fmt: skip
    origins = (
        "https://evil.example",
        "null",
        "http://evil.example:" + port,
        f"http://{name}:1",
        f"x://{host}.evil",
    )
    kinds: list[list[tuple[str, str]]] = [no_cookie, [*own, ("Origin", rng.choice(origins))]]
    if not has_password:  # with one, any name is allowed
        kinds.append([("Host", rng.choice(hosts)), *(each for each in own if each[0] != "Host")])
    if request.method != "GET":
        kinds.append([*own, ("Sec-Fetch-Site", rng.choice(("cross-site", "same-site")))])
    return request._replace(headers=[*rng.choice(kinds), *headers])


class RawClient:
    """Sends requests as bytes, over one connection as long as the server keeps it."""

    def __init__(self, address: str, timeout_s: float) -> None:
        host, port = address.removeprefix("http://").rsplit(":", 1)
        self._place = host, int(port)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None

    def send(self, request: Request) -> Answer:
        """The answer; status 0 if the server closed the connection without one. Raises TimeoutError."""
        lines = [f"{request.method} ".encode() + request.target + b" HTTP/1.1"]
        lines += [f"{name}: {value}".encode("utf-8", "surrogatepass") for name, value in request.headers]
        if request.body:
            lines.append(b"Content-Length: %d" % len(request.body))
        data = b"\r\n".join(lines) + b"\r\n\r\n" + request.body
        for is_last in (False, True):
            is_new = self._socket is None
            try:
                return self._exchange(request.method, data)
            except (ConnectionError, http.client.HTTPException):
                self.close()
                if is_new or is_last:
                    return Answer(0, http.client.HTTPMessage(), b"")
        raise AssertionError

    def _exchange(self, method: str, data: bytes) -> Answer:
        if self._socket is None:
            self._socket = socket.create_connection(self._place, self._timeout_s)
        self._socket.sendall(data)
        response = http.client.HTTPResponse(self._socket, method=method)
        response.begin()
        answer = Answer(response.status, response.headers, response.read())
        if response.will_close:
            self.close()
        return answer

    def close(self) -> None:
        """End the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _as_text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "", True: "true", False: "false"}[value]
    return str(value)


def _nest(depth: int) -> Any:
    value: Any = 1
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value
