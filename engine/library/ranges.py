"""Ranges of a video in milliseconds: the end that stands for "to the end", and when one range covers another."""

from __future__ import annotations

# The end of a range whose real end is not known. Readers of JSON may round integers above it.
END_OF_TIME_MS = 1 << 53
COVERED_SHARE = 0.5  # an annotation covers a range if it overlaps at least this share of it


def covers(start_ms: int, end_ms: int, covered_start_ms: int, covered_end_ms: int) -> bool:
    """Whether the first range overlaps at least COVERED_SHARE of the second."""
    overlap_ms = min(end_ms, covered_end_ms) - max(start_ms, covered_start_ms)
    return overlap_ms >= COVERED_SHARE * (covered_end_ms - covered_start_ms)
