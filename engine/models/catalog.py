"""What others published: names, addresses, sizes, licences. The list that comes with vtag, and a person's own."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, fields
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from vtag.assets import asset
from vtag.engine.errors import ModelError
from vtag.engine.models.https import host_of
from vtag.engine.paths import home
from vtag.engine.text import display_path, printable

OWN_FILE = "models.toml"  # at home: entries of one's own, as for a mirror; they win over vtag's
KINDS = ("video", "image")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MB = 2**20


@dataclass(frozen=True)
class CatalogEntry:
    """A model that somebody published; `assets/models.toml` says what each field means."""

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
        """Where a download comes from."""
        return host_of(self.url)

    @property
    def size_bytes(self) -> int | None:
        """About how long the file is, where its publisher says it."""
        return round(self.size_mb * _MB) if self.size_mb else None

    @property
    def file_name(self) -> str:
        """What the download is called here: our name, and the ending that was published."""
        ending = PurePosixPath(urlsplit(self.url).path).suffix
        return self.name + (ending if re.fullmatch(r"\.[A-Za-z0-9]{1,16}", ending) else "")

    @property
    def terms(self) -> str:
        """Size, host and licence, as they are shown before anything is downloaded."""
        size = f"{self.size_mb:g} MB" if self.size_mb else "size not published"
        trained = f", trained on {self.trained_on}" if self.trained_on else ""
        return f"{size} from {self.host}, {self.licence}{trained}"

    @property
    def by_hand(self) -> str:
        """How to bring the model in where vtag cannot download it."""
        return f"fetch {self.url} elsewhere, then `vtag models import FILE --name {self.name}`"

    @property
    def how_to_get(self) -> str:
        """What to do about a model that is not here, in one clause."""
        return f"`vtag models pull {self.name}` downloads it ({self.terms}); by hand: {self.by_hand}"


def is_model_name(name: str) -> bool:
    """Whether `name` can be a model's: a-z, 0-9, dots, dashes and underscores, 64 at most."""
    return bool(_NAME.fullmatch(name)) and not name.endswith(".")


def read_catalog() -> dict[str, CatalogEntry]:
    """All entries by name, in the file's order, then those of `models.toml` at home.

    Raises ModelError where that file is not sound.
    """
    entries = _entries(asset(OWN_FILE).read_text(encoding="utf-8"), "the catalogue")
    own = home() / OWN_FILE
    if own.is_file():
        try:
            text = own.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{display_path(own)} cannot be read: {printable(str(error))}") from error
        entries |= _entries(text, display_path(own))
    return entries


def _entries(text: str, where: str) -> dict[str, CatalogEntry]:
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{where} is no sound TOML: {printable(str(error))}") from error
    return {name: _entry(name, values, where) for name, values in table.items()}


def _entry(name: str, values: Any, where: str) -> CatalogEntry:
    said = f"{where}: {printable(name)[:64]!r}"
    if not is_model_name(name) or not isinstance(values, dict):
        raise ModelError(f"{said} is no entry: [name] with a-z, 0-9, dots and dashes, and its fields below")
    known = {field.name: str(field.type) for field in fields(CatalogEntry) if field.name != "name"}
    for key, value in values.items():
        if key not in known:
            raise ModelError(f"{said} has a field that is not known: {printable(key)[:40]!r}")
        wanted = str if "str" in known[key] else (int, float)
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ModelError(f"{said} has a {key} of the wrong kind: {printable(str(value))[:40]!r}")
    if missing := [key for key in ("title", "url", "licence") if not values.get(key)]:
        raise ModelError(f"{said} lacks its {missing[0]}")
    entry = CatalogEntry(name=name, **values)
    if entry.kind not in KINDS or not re.fullmatch(r"[0-9a-f]{0,64}", entry.sha256):
        raise ModelError(f"{said} has a kind or a sha256 that cannot be")
    return entry
