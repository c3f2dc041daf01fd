"""Which moments are sure: those from a margin above their label's threshold on that the sensitivity gives.

A margin is a difference of log odds (engine/library/analysis/segments.py). One step of the dial is 1.5: the odds
change by a factor of 4.5.
"""

from __future__ import annotations

import sqlite3
from typing import Literal, get_args

Sensitivity = Literal["low", "normal", "high"]
SENSITIVITIES: tuple[Sensitivity, ...] = get_args(Sensitivity)
SENSITIVITY_SETTING = "sensitivity"
COUNTED_MARGIN = -3.0  # a less sure moment below is shown, and is not worth counting
ANNOTATED_MARGIN = 1000.0  # of what a person confirmed or added
_MIN_MARGINS: dict[str, float] = {"low": 1.5, "normal": 0.0, "high": -1.5}  # as in the view sure_segments

# the margin of a row of the table `segments`
MARGIN_SQL = f"iif(verdict IS NULL, margin, {ANNOTATED_MARGIN})"


def min_margin_of(sensitivity: Sensitivity) -> float:
    """The margin from which a moment is sure."""
    return _MIN_MARGINS[sensitivity]


def library_sensitivity(reader: sqlite3.Connection) -> Sensitivity:
    """The sensitivity that the library remembers."""
    row = reader.execute("SELECT value FROM settings WHERE key = ?", (SENSITIVITY_SETTING,)).fetchone()
    return next((name for name in SENSITIVITIES if row and row[0] == name), "normal")


def library_min_margin(reader: sqlite3.Connection) -> float:
    """The margin from which a moment of this library is sure."""
    return min_margin_of(library_sensitivity(reader))
