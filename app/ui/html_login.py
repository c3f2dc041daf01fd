"""The login page as HTML. It needs neither scripts nor files."""

from __future__ import annotations

import html

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>vtag</title>
<style>body{{font:1rem system-ui,sans-serif;max-width:20rem;margin:20vh auto;padding:0 1rem;color-scheme:light dark}}
input,button{{font:inherit;width:100%;box-sizing:border-box;padding:.6rem;margin:.3rem 0}}</style>
<main><h1>vtag</h1><form method="post"><label>Password<input type="password" name="password" autofocus
autocomplete="current-password"></label><button>Open</button></form><p role="alert">{message}</p></main></html>"""


def login_page(message: str = "") -> str:
    """The form that asks for the password, with `message` below it."""
    return _PAGE.format(message=html.escape(message))
