"""The starter's recipe on the card for some minutes, on data that was packed beside the wheels."""

from __future__ import annotations

from pathlib import Path

from card_parts.report import Report, Scale


def run_h(report: Report, scale: Scale, *, minutes: float, packed: Path | None) -> None:
    """Say that nothing is packed, or run the recipe."""
    if packed is None:
        report.say(
            "nothing is packed for the starter's recipe: put it into the folder of the wheels, as starter/"
        )
    elif not minutes:
        report.say("give --minutes for the starter's recipe")
