"""How the tabs wire their events: all private, none queued, and every number from the browser a sound one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vtag.assets import asset

MOST_MS = 10**10  # four months: no video is longer
_MOST_ID = 2**63 - 1  # SQLite's integers end there
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
# the search's fields, in their order, as the page's address; what was watched is left out of it
KEEP_ADDRESS = """(...values) => {
  const here = new URL(window.location);
  ["q", "score", "model", "source", "after", "before"].forEach((name, i) => {
    values[i] ? here.searchParams.set(name, values[i]) : here.searchParams.delete(name);
  });
  here.searchParams.delete("v");
  here.searchParams.delete("t");
  if (here.href !== window.location.href) window.history.pushState({}, "", here);
}"""


def on(
    event: Callable[..., Any], answer: Callable[..., Any], inputs: Any, outputs: Any, *, is_slow: bool = False
) -> Any:
    """`answer` on `event`; private, at once; a spinner where it is slow."""
    return event(answer, inputs, outputs, **_PRIVATE | ({"show_progress": "minimal"} if is_slow else {}))


def script(name: str) -> str:
    """A script of the page, from the assets."""
    return asset("page", name).read_text(encoding="utf-8")


def number(value: object) -> int:
    """A whole number that the browser sent, 0 where it is none that can be."""
    try:
        return min(max(int(float(str(value))), 0), _MOST_ID)
    except (ValueError, OverflowError):
        return 0
