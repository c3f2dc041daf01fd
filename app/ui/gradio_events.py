"""Connects Gradio events to functions: all private, each at once or in order, with checked numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from vtag.app.ui.html_parts import note
from vtag.assets import asset

MAX_TIME_MS = 10**10  # about four months; no video is longer
_SERIAL_PREFIX = "serial group "  # marks our group names among Gradio's own concurrency ids
_MAX_ID = 2**63 - 1  # the largest integer of SQLite
_PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "queue": False}
# Writes the search fields, in this order, to the page's address and removes the video from it.
UPDATE_ADDRESS = """(...values) => {
  const address = new URL(window.location);
  ["q", "score", "model", "source", "after", "before"].forEach((name, i) => {
    values[i] ? address.searchParams.set(name, values[i]) : address.searchParams.delete(name);
  });
  address.searchParams.delete("v");
  address.searchParams.delete("t");
  if (address.href !== window.location.href) window.history.pushState({}, "", address);
}"""


def connect(
    event: Callable[..., Any],
    function: Callable[..., Any],
    inputs: Any,
    outputs: Any,
    *,
    is_slow: bool = False,
    serial_group: str = "",
    once: bool = False,
) -> Any:
    """Call `function` on `event`, as a private endpoint; returns Gradio's dependency, which has `then`.

    Requests of one `serial_group` run one after the other, in the order in which the browser made them. Functions
    that update the same part of the page share a group. Otherwise a late answer to an earlier request could overwrite
    a newer one. The browser keeps the order (serial_requests.js), because Gradio's own queue loses an answer if two
    requests are close together.

    Args:
        is_slow: shows a spinner, and ignores further events until the function has returned.
        once: ignores further events until the function has returned. Without it no event is lost.
    """
    settings: dict[str, Any] = {"show_progress": "minimal"} if is_slow else {}
    if serial_group:
        settings["concurrency_id"] = _SERIAL_PREFIX + serial_group
    if not is_slow and not once:
        settings["trigger_mode"] = "multiple"
    return event(function, inputs, outputs, **_PRIVATE | settings)


def show_immediately(event: Callable[..., Any], message: gr.HTML, sentence: str) -> None:
    """Show `sentence` while a slow request runs. The browser does it alone, before it sends the request."""
    event(None, None, message, js=f"() => {json.dumps(note(sentence))}", api_visibility="private")


def serial_groups(page: gr.Blocks) -> dict[int, str]:
    """The serial group of each event that has one, by the event's number on the page."""
    return {
        number: function.concurrency_id.removeprefix(_SERIAL_PREFIX)
        for number, function in page.fns.items()
        if function.concurrency_id.startswith(_SERIAL_PREFIX)
    }


def startup_script(page: gr.Blocks) -> str:
    """The JavaScript that the page runs once, when it opens."""
    keep_order = f"({read_script('serial_requests.js')})({json.dumps(serial_groups(page))})"
    return f"() => {{ {keep_order}; ({read_script('keyboard.js')})(); }}"


def read_script(name: str) -> str:
    """The text of a script from the folder `assets/page`."""
    return asset("page", name).read_text(encoding="utf-8")


def parse_integer(value: object) -> int:
    """`value` from the browser as an integer from 0 to SQLite's largest; 0 if it is not a number."""
    try:
        return min(max(int(float(str(value))), 0), _MAX_ID)
    except (ValueError, OverflowError):
        return 0


def parse_milliseconds(value: object) -> int:
    """`value` from the browser as milliseconds, at most MAX_TIME_MS."""
    return min(parse_integer(value), MAX_TIME_MS)
