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
from vtag.engine.text import display_path

_LOG_BYTES = 200_000  # of the end of each log
_PACKAGES = re.compile(
    r"(vtag|torch.*|onnx.*|av|gradio.*|sqlite-utils|numpy|safetensors|ray|fastapi|starlette|typer|rich|nvidia-.*)",
    re.IGNORECASE,
)
HIDDEN = "[path]"


def write_bug_report(
    target: Path, library: Path, findings: Iterable[Finding], logs: Iterable[Path], *, with_paths: bool
) -> list[str]:
    """Write the report to the new file `target`; returns the names of its parts.

    Without `with_paths`, paths are left out of every text. Labels, annotations and pictures are never in it.

    Raises VtagError if the file exists or cannot be written.
    """
    hide = (lambda text: text) if with_paths else hide_paths
    parts = {
        "system.json": _system(),
        "checks.json": [{name: hide(str(v)) for name, v in asdict(finding).items()} for finding in findings],
        "library.json": describe_library(library, hide),
    }
    texts = {name: json.dumps(content, indent=1, ensure_ascii=False) for name, content in parts.items()}
    for log in logs:
        with contextlib.suppress(OSError):
            lines = log.read_bytes()[-_LOG_BYTES:].decode("utf-8", "replace").splitlines()
            texts[f"logs/{log.name}"] = "\n".join(map(hide, lines)) + "\n"
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
    """A line up to its first path, of which nothing is left.

    A name may have blanks, commas and colons, so where a path ends is unknown. Why files failed is in library.json.
    """
    match = re.search(r"[^\s\"'(=\[]*[/\\]", text)
    return text if match is None else text[: match.start()] + HIDDEN


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
