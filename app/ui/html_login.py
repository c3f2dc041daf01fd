"""The login page as HTML. It needs neither scripts nor files."""

from __future__ import annotations

import base64
import hashlib
import html

_STYLE = """body{font:1rem system-ui,sans-serif;max-width:20rem;margin:20vh auto;padding:0 1rem;
color-scheme:light dark}
input,button{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0}"""
# what a content security policy names to allow this style and no other
STYLE_HASH = f"'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'"
_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>vtag</title><style>{style}</style>
<main><h1>vtag</h1><form method="post"><label>Password<input type="password" name="password" autofocus
autocomplete="current-password"></label><button>Open</button></form><p role="alert">{message}</p></main></html>"""


def login_page(message: str = "") -> str:
    """The form that asks for the password, with `message` below it."""
    return _PAGE.format(style=_STYLE, message=html.escape(message))
