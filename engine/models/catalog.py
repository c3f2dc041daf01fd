"""Published models: names, addresses, sizes, licences. From the list that ships with vtag and the user's own."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vtag.assets import asset
from vtag.engine.errors import ModelError
from vtag.engine.models.https import host_name
from vtag.engine.paths import home
from vtag.engine.text import display_path, printable, read_text_file

# ships with vtag; entries of the user's own file at home replace them, for example for a mirror
CATALOG_FILE = "models.toml"
KINDS = ("video", "image")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MB = 2**20


@dataclass(frozen=True)
class CatalogEntry:
    """A published model; `assets/models.toml` documents the fields."""

    name: str
    title: str
    url: str
    licence: str
    kind: str = "video"
    sha256: str = ""
    size_mb: float | None = None
    classes: int | None = None
    labels: str = ""
    trained_on: str = ""
    top1: float | None = None
    rate: float | None = None
    note: str = ""

    @property
    def host(self) -> str:
        """The host to download from."""
        return host_name(self.url)

    @property
    def size_bytes(self) -> int | None:
        """The approximate size of the file, if it is published."""
        return round(self.size_mb * _MB) if self.size_mb else None

    @property
    def file_name(self) -> str:
        """The name of the downloaded file: the model's name with the published extension."""
        extension = PurePosixPath(urlsplit(self.url).path).suffix
        return self.name + (extension if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", extension) else "")

    @property
    def terms(self) -> str:
        """Size, host and licence, to show before a download."""
        size = f"{self.size_mb:g} MB" if self.size_mb else "size not published"
        trained = f", trained on {self.trained_on}" if self.trained_on else ""
        return f"{size} from {self.host}, {self.licence}{trained}"

    @property
    def manual_steps(self) -> str:
        """How to install the model if vtag cannot download it."""
        return f"fetch {self.url} elsewhere, then `vtag models import FILE --name {self.name}`"

    @property
    def how_to_get(self) -> str:
        """How to install the model, as a clause."""
        return f"`vtag models pull {self.name}` downloads it ({self.terms}); by hand: {self.manual_steps}"


def model_stem(path: Path, max_length: int = 64) -> str:
    """The file name without its suffix as far as a model's name may have it; empty if nothing of it may."""
    return re.sub(r"[^a-z0-9._-]+", "-", path.absolute().stem.lower()).strip("-._")[:max_length]


def is_model_name(name: str) -> bool:
    """Whether `name` may name a model: at most 64 of a-z, 0-9, dots, dashes and underscores."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".")


def read_catalog() -> dict[str, CatalogEntry]:
    """All entries by name, in the file's order, then those of `models.toml` at home.

    Raises ModelError if that file is invalid.
    """
    entries = _entries(asset(CATALOG_FILE).read_text(encoding="utf-8"), "the catalogue")
    own_file = home() / CATALOG_FILE
    if own_file.is_file():
        try:
            text = read_text_file(own_file)
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{display_path(own_file)} cannot be read: {printable(str(error))}") from error
        entries |= _entries(text, display_path(own_file))
    return entries


def _entries(text: str, source: str) -> dict[str, CatalogEntry]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{source} is not valid TOML: {printable(str(error))}") from error
    return {name: _entry(name, values, source) for name, values in table.items()}


def _entry(name: str, values: Any, source: str) -> CatalogEntry:
    prefix = f"{source}: {printable(name)[:64]!r}"
    if not is_model_name(name) or not isinstance(values, dict):
        raise ModelError(
            f"{prefix} is not an entry: write [name] of a-z, 0-9, dots and dashes, and fields below"
        )
    field_types = {field.name: str(field.type) for field in fields(CatalogEntry) if field.name != "name"}
    for key, value in values.items():
        if key not in field_types:
            raise ModelError(f"{prefix} has an unknown field: {printable(key)[:40]!r}")
        expected_type = str if "str" in field_types[key] else (int, float)
        if not isinstance(value, expected_type) or isinstance(value, bool):
            raise ModelError(f"{prefix} has a {key} of the wrong type: {printable(str(value))[:40]!r}")
    if missing := [key for key in ("title", "url", "licence") if not values.get(key)]:
        raise ModelError(f"{prefix} lacks its {missing[0]}")
    entry = CatalogEntry(name=name, **values)
    if entry.kind not in KINDS or not re.fullmatch(r"[0-9a-f]{0,64}", entry.sha256):
        raise ModelError(f"{prefix} has an invalid kind or sha256")
    return entry
