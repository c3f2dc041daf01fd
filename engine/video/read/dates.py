"""Reads when a video was recorded from the tags of its container, each of which spells dates in its own way."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial

from vtag.engine.text import printable

# in lower case, since each container spells them in its own way; those that name the recording come first
_DATE_TAGS = (
    "com.apple.quicktime.creationdate",
    "date_recorded",  # Matroska
    "date_time_original",  # FLV, and MP4 of some cameras
    "datetimeoriginal",
    "creation_time",
    "date",
    "idit",  # AVI
    "icrd",  # AVI
    "date_digitized",
    "modification_date",  # MXF: has no other
)
_ISO_DATE = re.compile(r"\d{4}(-?)\d{2}\1\d{2}($|[T ])")
_YEAR_FIRST = re.compile(r"^(\d{4})[:/.](\d{2})[:/.](\d{2})(?=$|[T ])")  # as cameras write it
_DAY_FIRST = re.compile(r"^(\d{2})\.(\d{2})\.(\d{4})(?=$|[T ])")


def find_recording_time(*metadata: dict[str, str]) -> str | None:
    """The first valid date among the tags, as ISO 8601. The zero date of a camera's unset clock is not valid."""
    # Matroska's tags may have the part that they describe in front, as in MOVIE/DATE_RECORDED
    readable = [{tag.rpartition("/")[2].lower(): text for tag, text in tags.items()} for tags in metadata]
    for tag in _DATE_TAGS:
        for tags in readable:
            date = _iso_date(tags.get(tag, ""))
            if date is not None and 1971 <= datetime.fromisoformat(date).year <= 2200:
                return printable(date)
    return None


def _iso_date(text: str) -> str | None:
    """A date as a container has it, as ISO 8601; None if it is none, or only a year."""
    text = " ".join(text.replace("UTC", " ").split()) + "Z" * ("UTC" in text)
    ordered = _DAY_FIRST.sub(r"\3-\2-\1", _YEAR_FIRST.sub(r"\1-\2-\3", text))
    with contextlib.suppress(ValueError):
        date = datetime.fromisoformat(ordered)
        return text if _ISO_DATE.match(text) else date.isoformat().removesuffix("T00:00:00")
    for parse in (parsedate_to_datetime, partial(_parse_c_date, text.endswith("Z"))):
        with contextlib.suppress(ValueError):
            return parse(text).isoformat()
    return None


def _parse_c_date(is_utc: bool, text: str) -> datetime:
    """A date as C's ctime writes it. Raises ValueError."""
    date = datetime.strptime(text.removesuffix("Z"), "%a %b %d %H:%M:%S %Y")
    return date.replace(tzinfo=UTC) if is_utc else date
