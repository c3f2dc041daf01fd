"""Names of files that are hard to keep, to show and to type, and videos that have them."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from helpers.footage import make_video

NAMES = {
    "not UTF-8": b"\xff\xfe caf\xe9.mp4",
    "255 bytes": b"n" * 251 + b".mp4",
    "a newline": b"two\nlines.mp4",
    "a leading dash": b"-rf.mp4",
    "right-to-left marks": "a\u202egpj\u202c.mp4".encode(),
    "emoji": "🏹 family 👩‍👩‍👧.mp4".encode(),
    "composed": unicodedata.normalize("NFC", "café.mp4").encode(),
    "decomposed": unicodedata.normalize("NFD", "café.mp4").encode(),
    "reserved in Windows": b"con.mp4",
    "characters that Windows has not": b'a<b>c:d"e|f?g*.mp4',
    "escape sequences": b"\x1b[2J\x1b]0;title\x07.mp4",
    "quotes and a tab": b'it\'s "50%" &\t$HOME `id`.mp4',
    "blanks at both ends": b"  padded .mp4",
    # what could steer an address or the page
    "`?`, `#`, `&`, `+`": b"?q=a&b=c#d+e%20f.mp4",
    "`%2e%2e`": b"%2e%2e%2f%2e%2e%00.mp4",
    "markup": b"<script>document.title='x'</script><img src=x onerror=alert(1)>.mp4".replace(b"/", b"\\"),
    "a template": b"{name} ${label} {{7*7}}.mp4",
}


def make_odd_video(path: Path, seconds: float, seed: int) -> None:
    """A short video at `path`, whose name an encoder might not take."""
    made = make_video(path.parent / "made.mp4", seconds=seconds, fps=8, width=64, height=48, seed=seed)
    os.rename(made, path)
