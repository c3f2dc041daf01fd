"""How the tabs wire their events: all private, at once or in turn, and every number from a browser a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import gradio as gr

from vtag.app.ui.html_parts import note
from vtag.assets import asset

MOST_MS = 10**10  # four months: no video is longer
_TURN = "turn of "  # begins the name of one among Gradio's
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
    event: Callable[..., Any],
    answer: Callable[..., Any],
    inputs: Any,
    outputs: Any,
    *,
    is_slow: bool = False,
    turn: str = "",
    once: bool = False,
) -> Any:
    """`answer` on `event`; private; a spinner where it is slow.

    At once, or where a `turn` is named after all that was asked for before under the same name: whatever answers into
    one place takes its turn there, since an earlier question that is answered late would else overwrite a later one.
    The browser holds the order (turns.js); Gradio's own queue loses an answer where two questions are close together.
    A press that is slow, or that counts `once`, is not heard again before it was answered; any other is never lost.
    """
    more: dict[str, Any] = {"show_progress": "minimal"} if is_slow else {}
    if turn:
        more["concurrency_id"] = _TURN + turn
    if not is_slow and not once:
        more["trigger_mode"] = "multiple"
    return event(answer, inputs, outputs, **_PRIVATE | more)


def at_once(event: Callable[..., Any], said: gr.HTML, sentence: str) -> None:
    """Say a sentence while a slow answer is under way; the browser says it by itself, before the question leaves."""
    event(None, None, said, js=f"() => {json.dumps(note(sentence))}", api_visibility="private")


def turns(page: gr.Blocks) -> dict[int, str]:
    """The number of every event of a page that takes its turn, and the turn's name."""
    return {
        number: function.concurrency_id.removeprefix(_TURN)
        for number, function in page.fns.items()
        if function.concurrency_id.startswith(_TURN)
    }


def scripts(page: gr.Blocks) -> str:
    """What the page runs once, when it is opened."""
    return f"() => {{ ({script('turns.js')})({json.dumps(turns(page))}); ({script('keys.js')})(); }}"


def script(name: str) -> str:
    """A script of the page, from the assets."""
    return asset("page", name).read_text(encoding="utf-8")


def number(value: object) -> int:
    """A whole number that the browser sent, 0 where it is none that can be."""
    try:
        return min(max(int(float(str(value))), 0), _MOST_ID)
    except (ValueError, OverflowError):
        return 0
