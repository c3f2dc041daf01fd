"""A bug report as a zip file: versions, checks, numbers and the last messages, without a person's paths and names."""

from __future__ import annotations

import contextlib
import json
import platform
import re
import sqlite3
import sys
import zipfile
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from vtag.engine.doctor import Finding
from vtag.engine.errors import VtagError
from vtag.engine.library.maintenance.describe import describe_library
from vtag.engine.text import display_path, to_json

_LOG_BYTES = 200_000  # of the end of each log
_PACKAGES = re.compile(
    r"(vtag|torch.*|onnx.*|av|gradio.*|sqlite-utils|numpy|safetensors|ray|fastapi|starlette|typer|rich|nvidia-.*)",
    re.IGNORECASE,
)
# From a quotation mark that begins a word to the last one of its kind that ends one
_QUOTED = re.compile(r"""(?<!\w)(['"]).*\1(?!\w)|“.*”""")
HIDDEN, HIDDEN_TEXT = "[path]", "[text]"


def write_bug_report(
    target: Path, library: Path, findings: Iterable[Finding], logs: Iterable[Path], *, with_paths: bool
) -> list[str]:
    """Write the report to the new file `target`; returns the names of its parts.

    Without `with_paths`, paths, file names, and what a person typed are left out of every text. Pictures are never
    in it.

    Raises VtagError if the file exists or cannot be written.
    """
    hide, hide_line = (_same, _same) if with_paths else (hide_paths, hide_in_line)
    parts = {
        "system.json": _system(),
        "checks.json": [{name: hide(str(v)) for name, v in asdict(finding).items()} for finding in findings],
        "library.json": describe_library(library, hide),
    }
    texts = {name: to_json(content, indent=1) for name, content in parts.items()}
    for log in logs:
        with contextlib.suppress(OSError):
            lines = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace").splitlines()
            texts[f"logs/{log.name}"] = "\n".join(map(hide_line, lines)) + "\n"
    try:
        with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
            for name, text in texts.items():
                archive.writestr(name, text.encode("utf-8", "backslashreplace"))
    except FileExistsError:
        raise VtagError(f"{display_path(target)} exists already: name another file") from None
    except OSError as error:
        target.unlink(missing_ok=True)
        raise VtagError(f"{display_path(target)} cannot be written: {error.strerror}") from error
    return list(texts)


def hide_paths(text: str) -> str:
    """A line cut before its first path; the path and all after it are gone.

    A name may have blanks, commas and colons, so where a path ends is unknown. Why files failed is in library.json.
    """
    match = re.search(r"[^\s\"'(=\[]*[/\\]", text)
    return text if match is None else text[: match.start()] + HIDDEN


def hide_in_line(line: str) -> str:
    """A line of a log without paths, quotations and arguments; a line of `--log-file` stays JSON."""
    try:
        entry = json.loads(line)
    except ValueError:
        return hide_quoted(line)
    if not isinstance(entry, dict):
        return hide_quoted(line)
    arguments = entry.get("arguments")
    if isinstance(arguments, list):  # a query, a label or a relative path looks like any word
        entry["arguments"] = [_hide_argument(number, str(each)) for number, each in enumerate(arguments)]
    return to_json({name: _hide_value(value) for name, value in entry.items()})


def hide_quoted(text: str) -> str:
    """A text as of `hide_paths`, and without what it quotes: a query, a label, a name."""
    return hide_paths(_QUOTED.sub(HIDDEN_TEXT, text))


def _hide_argument(number: int, argument: str) -> str:
    """A command and the names of options; nothing of their values."""
    if argument.startswith("--"):
        return argument.partition("=")[0]
    return argument if number == 0 and argument.isalpha() else HIDDEN_TEXT


def _hide_value(value: Any) -> Any:
    """A value of a log's line without paths and quotations."""
    if isinstance(value, str):
        return "\n".join(map(hide_quoted, value.splitlines()))
    if isinstance(value, list):
        return [_hide_value(each) for each in value]
    if isinstance(value, dict):
        return {name: _hide_value(each) for name, each in value.items()}
    return value


def _same(text: str) -> str:
    return text


def _system() -> dict[str, Any]:
    packages = {
        dist.metadata["Name"]: dist.version
        for dist in distributions()
        if dist.metadata["Name"] and _PACKAGES.fullmatch(dist.metadata["Name"])
    }
    return {
        "python": sys.version,
        "platform": platform.platform(),
        "machine": platform.machine(),
        "sqlite": sqlite3.sqlite_version,
        "packages": dict(sorted(packages.items())),
    }
