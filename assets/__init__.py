"""What is not code: the catalogue, labels, recipes, the starter model, web page styles and scripts."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def asset(*parts: str) -> Traversable:
    """One asset by its place below this folder, wherever the package is installed."""
    return files(__name__).joinpath(*parts)


def kinetics400_labels() -> tuple[str, ...]:
    """The 400 names of Kinetics-400 in the order of the published class ids (5 is archery)."""
    return tuple(asset("labels", "kinetics400.txt").read_text(encoding="utf-8").splitlines())
