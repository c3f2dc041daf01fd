"""Names of clips: a template filled with what is known of a moment, safe on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from vtag.engine.errors import VtagError

DEFAULT_TEMPLATE = "{name} {start} {label}"
FIELDS = ("name", "label", "start", "end", "score", "id", "number")
_MOST_BYTES = 180  # a name may have 255, and an ending and a number come behind it
_FORBIDDEN = set('/\\:*?"<>|')
# names of devices on Windows, whatever ending they have
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def check_template(template: str) -> None:
    """Raise VtagError where a template names a field that there is none of, or a folder."""
    for field in re.findall(r"\{([^{}]*)\}", template):
        if field not in FIELDS:
            known = ", ".join(f"{{{known}}}" for known in FIELDS)
            raise VtagError(f"the template has no field {{{field}}}; it knows {known}")
    if "/" in template or "\\" in template:
        raise VtagError("a template names files, not folders: -o names the folder")


def format_clip_name(template: str, values: Mapping[str, str]) -> str:
    """The name of a clip without its ending; what comes from a disk cannot lead out of the folder."""
    name = re.sub(r"\{([^{}]*)\}", lambda match: values[match[1]], template)
    name = "".join("_" if c in _FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in name)
    name = " ".join(name.split()).lstrip(".-_ ").rstrip(". ")
    while len(name.encode("utf-8")) > _MOST_BYTES:
        name = name[:-1]
    name = name.rstrip(". ")
    return f"_{name}" if not name or _DEVICES.match(name) else name


def format_time_for_name(milliseconds: int) -> str:
    """A time as it may stand in a name: 1h02m03.4s; names sort as times do within an hour."""
    seconds, rest = divmod(milliseconds // 100, 10)
    hours = f"{seconds // 3600}h" if seconds >= 3600 else ""
    return f"{hours}{seconds // 60 % 60:02}m{seconds % 60:02}.{rest}s"
