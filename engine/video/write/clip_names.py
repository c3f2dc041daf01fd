"""File names of clips: a template with fields of a moment, safe on every file system."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from vtag.engine.errors import VtagError

DEFAULT_TEMPLATE = "{name} {start} {label}"
TEMPLATE_FIELDS = ("name", "label", "start", "end", "score", "id", "number")
_MAX_BYTES = 180  # of at most 255 on file systems; a number and a suffix follow
_FORBIDDEN = set('/\\:*?"<>|')
# names of devices on Windows, with any suffix
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)


def check_template(template: str) -> None:
    """Raise VtagError if a template has an unknown field or names a folder."""
    for field in re.findall(r"\{([^{}]*)\}", template):
        if field not in TEMPLATE_FIELDS:
            fields = ", ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)
            raise VtagError(f"the template has no field {{{field}}}; it knows {fields}")
    if "/" in template or "\\" in template:
        raise VtagError("a template names files, not folders: -o names the folder")


def format_clip_name(template: str, values: Mapping[str, str]) -> str:
    """The file name of a clip, without its suffix. No value can lead out of the folder."""
    name = re.sub(r"\{([^{}]*)\}", lambda match: values[match[1]], template)
    name = "".join("_" if c in _FORBIDDEN or unicodedata.category(c)[0] == "C" else c for c in name)
    name = " ".join(name.split()).lstrip(".-_ ").rstrip(". ")
    while len(name.encode("utf-8")) > _MAX_BYTES:
        name = name[:-1]
    name = name.rstrip(". ")
    return f"_{name}" if not name or _DEVICES.match(name) else name


def format_time_for_name(milliseconds: int) -> str:
    """A time for a file name, such as 1h02m03.4s. Within an hour names sort by time."""
    seconds, tenths = divmod(milliseconds // 100, 10)
    hours = f"{seconds // 3600}h" if seconds >= 3600 else ""
    return f"{hours}{seconds // 60 % 60:02}m{seconds % 60:02}.{tenths}s"
