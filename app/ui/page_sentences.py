"""Sentences of vtag as the page says them: with the page's way where the terminal's name a command or an option.

Messages are written for the terminal. Where the page can do the same, it names its own way. Where it cannot, the
command stays, and the sentence says that it is one for a terminal.
"""

from __future__ import annotations

import re

_WAYS = [
    (re.compile(pattern), way)
    for pattern, way in (
        (r"`vtag tag add` and `confirm` make them", "add tags, or say Yes to some, in Watch"),
        (r" \(`vtag scan[^`]*`\)", " (see Scan)"),
        (r"`vtag retag` or `vtag scan`", "a scan"),
        (r"`vtag scan[^`]*`", "a scan"),
        (r"`vtag models pull [^`]*` downloads it", "Tools downloads it, under Models"),
        (r"`vtag models list` shows the names", "Tools shows the names, under Models"),
        (r"`vtag models remove ([^`]*)`", r"remove \1 in Tools"),
        (r"`vtag search` lists the current ids", "search again"),
        (r"say a word, as in `vtag search archery`", "say a word, such as archery"),
        (r"`vtag finetune[^`]*`", "Teach"),
        (r"--resume goes on with it", "start it again in Teach to go on"),
        (r"--resume goes on from there", "start it again to go on from there"),
        (r"start all again with --resume", "start it again in Teach"),
        (r"use a smaller --batch-size", "let less of the network learn, or close programs that use it"),
        (r"give --to, too", "give its end, too"),
        (r"--reencode may do it", "“Exact ends” may do it"),
        (
            r"scan it with a longer --stride",
            "scan it with more seconds from window to window (Options in Scan)",
        ),
        (r"use --view center, or .*--size", "scan the middle of the picture (Options in Scan)"),
        (r"add --words to forget them, too", "say that they may go, too"),
        (r"name it as a --model", "choose that one as the model"),
        (r" \(--name\)", ""),
        (r"another --name", "another name"),
        (r"`((?:vtag|pip|ray) [^`]*)`", r"“\1” in a terminal"),
        (r"`([^`]*)`", r"“\1”"),
    )
]


def page_sentence(text: str) -> str:
    """`text` with the page's ways in place of the terminal's."""
    for pattern, way in _WAYS:
        text = pattern.sub(way, text)
    return text
