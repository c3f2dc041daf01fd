"""The manual page vtag(1), made of the help of all commands, so that it is never behind it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

_EXIT_CODES = (
    ("0", "done; an empty result is no error"),
    ("1", "an error, which is said in one sentence"),
    ("2", "wrong usage"),
    ("3", "done, but some videos failed"),
    ("130", "interrupted; what was finished is kept"),
)
_ENVIRONMENT = (
    ("VTAG_HOME", "folder of the library, the models and the caches"),
    ("VTAG_UI_PASSWORD", "password of the page, without asking"),
    ("NO_COLOR", "no colours"),
)
_PREFORMATTED = "\b"  # on a line of its own before a paragraph whose lines stay


def manual_page(root: Any, version: str) -> str:
    """The page as roff for man(1). `root` is the group of all commands."""
    context = root.make_context("vtag", [], resilient_parsing=True)
    lines = [
        f'.TH VTAG 1 "" "vtag {_escape(version)}" "User Commands"',
        ".SH NAME",
        "vtag \\- tags videos with what happens in them, and finds the moments",
        ".SH SYNOPSIS",
        ".B vtag",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH OPTIONS",
        *_parameters(root, context),
        ".SH COMMANDS",
    ]
    for name in root.list_commands(context):
        lines += _command(root.get_command(context, name), name, context)
    lines += [".SH EXIT STATUS", *_definitions(_EXIT_CODES), ".SH ENVIRONMENT", *_definitions(_ENVIRONMENT)]
    return "\n".join(lines) + "\n"


def _command(command: Any, name: str, parent: Any) -> Iterator[str]:
    """A command with its parameters, or a group with its commands."""
    if command.hidden:
        return
    context = command.make_context(name, [], parent=parent, resilient_parsing=True)
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield from (f".SS {_escape(usage)}", *_help(command))
    if hasattr(command, "list_commands"):
        for child in command.list_commands(context):
            yield from _command(command.get_command(context, child), child, context)
    else:
        yield from _parameters(command, context)


def _help(command: Any) -> Iterator[str]:
    """The paragraphs of a command's help."""
    text = inspect.cleandoc((command.callback and command.callback.__doc__) or command.help or "")
    for paragraph in re.split(r"\n\s*\n", text):
        lines = paragraph.splitlines()
        if lines and lines[0].strip() == _PREFORMATTED:
            yield from (".PP", ".nf", *(_escape(line) for line in lines[1:]), ".fi")
        else:
            yield from (".PP", _escape(" ".join(line.strip() for line in lines)))


def _parameters(command: Any, context: Any) -> Iterator[str]:
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    yield from _definitions([record for record in records if record])


def _definitions(pairs: Any) -> Iterator[str]:
    for term, text in pairs:
        yield from (".TP", f".B {_escape(term)}", _escape(" ".join(text.split())))


def _escape(text: str) -> str:
    """Text that roff prints as it is."""
    plain = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    plain = plain.replace("^", "\\(ha").replace("~", "\\(ti")
    plain = "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in plain)
    return f"\\&{plain}" if plain.startswith((".", "\\(aq")) else plain
