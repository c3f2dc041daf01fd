"""The SHA-256 of the first file that each address delivered. Later downloads have to match it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vtag.engine.errors import ModelError
from vtag.engine.models.catalog import CatalogEntry
from vtag.engine.paths import models_dir
from vtag.engine.system.atomic_write import write_atomically
from vtag.engine.text import display_path

HASHES_FILE = "downloads.json"


def known_sha256(entry: CatalogEntry) -> str:
    """The SHA-256 of an entry's file in hex: of its first download, else the digits that are published.

    Raises ModelError if the recorded hashes cannot be read.
    """
    recorded = _read().get(entry.url, {}).get("sha256", "")
    if isinstance(recorded, str) and len(recorded) == 64 and recorded.startswith(entry.sha256):
        return recorded
    return entry.sha256


def record_download(entry: CatalogEntry, sha256: str, size_bytes: int) -> None:
    """Record the hash of an address's first file; later calls change nothing. The caller holds the models' lock."""
    records = _read()
    if entry.url in records:
        return
    records[entry.url] = {
        "sha256": sha256,
        "size_bytes": size_bytes,
        "first": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(_path(), json.dumps(records, indent=1).encode())


def _path() -> Path:
    return models_dir() / HASHES_FILE


def _read() -> dict[str, dict[str, Any]]:
    """The records by address; empty if there are none yet."""
    try:
        records = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{display_path(_path())} cannot be read ({error}): delete it") from error
    if not isinstance(records, dict) or not all(isinstance(record, dict) for record in records.values()):
        raise ModelError(f"{display_path(_path())} is not a record of downloads: delete it")
    return records
