"""The frame rate of a list that has one, and how rates are written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from vtag.engine.video_clock import DEFAULT_RATE

if TYPE_CHECKING:
    from fractions import Fraction

    from vtag.engine.library.exports.exported_moments import ExportedMoment


def most_common_rate(items: Sequence[ExportedMoment]) -> Fraction:
    """The rate of most of the moments."""
    counts = Counter(item.clock.timecode_rate for item in items)
    return counts.most_common(1)[0][0] if counts else DEFAULT_RATE


def format_rate(rate: Fraction) -> str:
    """A frame rate as editors write it: 25, 29.97."""
    return f"{float(rate):.3f}".rstrip("0").rstrip(".")
