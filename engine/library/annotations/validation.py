"""Checks the labels and ranges of annotations."""

from __future__ import annotations

from vtag.engine.errors import LibraryError
from vtag.engine.library.database import LibraryWriter
from vtag.engine.library.ranges import END_OF_TIME_MS
from vtag.engine.library.store.label_names import label_spellings
from vtag.engine.swin.config import NONE_OF_THESE
from vtag.engine.text import has_letters, normalize_label, printable
from vtag.engine.video_clock import VideoClock

_MAX_LABEL_LENGTH = 200  # characters


def is_valid_label(text: str) -> bool:
    """Whether `text` can be a label: normal, printable, with letters, not too long, not NONE_OF_THESE."""
    return (
        has_letters(text)
        and len(text) <= _MAX_LABEL_LENGTH
        and printable(text) == text == normalize_label(text)
        and text.casefold() != NONE_OF_THESE
    )


def resolve_label(library: LibraryWriter, label: str) -> str:
    """`label` as the library spells it, or as a new label. Raises LibraryError if it is invalid."""
    label = normalize_label(label)
    if not is_valid_label(label):
        raise LibraryError(
            f"{printable(label[:40])!r} cannot be a label: use letters, and at most {_MAX_LABEL_LENGTH} characters"
        )
    return label_spellings(library.connection).get(label.casefold(), label)


def checked_range(
    start_ms: int | None, end_ms: int | None, duration_ms: int | None, clock: VideoClock
) -> tuple[int | None, int | None]:
    """The range, ended by the video's end. Raises LibraryError if it is empty or outside of the video.

    Times are the library's; messages have those of the player.
    """
    if start_ms is None and end_ms is None:
        return None, None
    start = start_ms or 0
    end = end_ms if end_ms is not None else duration_ms
    if end is None:
        raise LibraryError("the length of this video is not known yet: give --to, too")
    if duration_ms is not None:
        end = min(end, duration_ms)
        if start >= duration_ms:
            end_s = clock.player_ms(duration_ms) / 1000
            raise LibraryError(f"the video ends at {end_s:.1f} s, before that moment begins")
    if start < 0 or end <= start or end >= END_OF_TIME_MS:
        raise LibraryError("a moment has to end after it begins")
    return start, end
