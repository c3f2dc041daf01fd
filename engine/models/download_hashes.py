"""What was downloaded: the hash of each address's first file, which later ones are held against."""

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

LEDGER = "downloads.json"


def known_sha256(entry: CatalogEntry) -> str:
    """What is known of the SHA-256 of an entry's file: all of it once it was downloaded, else what is published.

    Raises ModelError where the record cannot be read.
    """
    recorded = _read().get(entry.url, {}).get("sha256", "")
    if isinstance(recorded, str) and len(recorded) == 64 and recorded.startswith(entry.sha256):
        return recorded
    return entry.sha256


def record_download(entry: CatalogEntry, sha256: str, size_bytes: int) -> None:
    """Write down the first file of an address; a later one changes nothing. The caller holds the models' lock."""
    told = _read()
    if entry.url in told:
        return
    told[entry.url] = {
        "sha256": sha256,
        "size_bytes": size_bytes,
        "first": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    write_atomically(_path(), json.dumps(told, indent=1).encode())


def _path() -> Path:
    return models_dir() / LEDGER


def _read() -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(_path().read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{display_path(_path())} cannot be read ({error}): delete it") from error
    if not isinstance(told, dict) or not all(isinstance(entry, dict) for entry in told.values()):
        raise ModelError(f"{display_path(_path())} is not a record of downloads: delete it")
    return told
