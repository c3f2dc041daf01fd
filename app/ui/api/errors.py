"""Errors as JSON: `{"error": SENTENCE}`, with the field of a form if the error is about one."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vtag.app.ui.page_sentences import page_sentence
from vtag.engine.errors import QueryError, VtagError
from vtag.engine.text import printable

# what the page calls the fields of forms; others have the name that the request gives them
FIELD_NAMES = {
    "q": "Search",
    "score": "Confidence",
    "label": "Label",
    "name": "Name",
    "folder": "Folder",
    "folders": "Folders",
    "year": "Year",
    "after": "Recorded from",
    "before": "Recorded before",
    "model": "Model",
    "source": "Added by",
    "verdict": "Checked",
    "margin": "How sure",
    "sort": "Sort",
    "group": "Group",
    "state": "Which",
    "tag": "Tag",
    "start": "From",
    "end": "To",
    "stride_s": "Seconds from window to window",
    "view": "Part of each frame",
    "part": "What learns",
    "epochs": "Epochs",
    "template": "File names",
    "old": "Former path",
    "new": "Present path",
    "path": "File or folder",
    "format": "Format",
    "moments": "Moments",
    "videos": "Videos",
}
_PLURAL_FIELDS = ("epochs", "folders", "moments", "stride_s", "videos")
_MAX_SHOWN = 80  # characters of a wrong value
# by the first part of pydantic's type of an error; the parts in braces are of its context
_REASONS = {
    "missing": "is missing",
    "string_too_long": "is longer than {max_length} characters",
    "string_too_short": "is empty",
    "too_long": "are more than {max_length} at once: choose fewer",
    "too_short": "are none: choose some first",
    "greater_than_equal": "has to be at least {ge}",
    "greater_than": "has to be more than {gt}",
    "less_than_equal": "has to be at most {le}",
    "less_than": "has to be less than {lt}",
    "literal_error": "has to be {expected}",
    "int_parsing": "has to be a whole number",
    "int_type": "has to be a whole number",
    "int_from_float": "has to be a whole number",
    "float_parsing": "has to be a number",
    "float_type": "has to be a number",
    "finite_number": "has to be a number",
    "bool_parsing": "has to be true or false",
    "bool_type": "has to be true or false",
    "string_type": "has to be a text",
    "list_type": "has to be a list",
}


class FieldError(VtagError):
    """A value of a form that cannot be used; `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class GoneError(VtagError):
    """Something that the address names and the library has no more."""


def error_as_json(error: Exception) -> dict[str, Any]:
    """The sentence of an error, and its field if it has one."""
    if isinstance(error, sqlite3.Error):
        return {"error": f"the library cannot be read now ({error}): try again"}
    field = {"field": error.field} if isinstance(error, FieldError) else {}
    return {"error": page_sentence(str(error)), **field}


def invalid_value(errors: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sentence about the first of pydantic's errors, and its field: `Confidence has to be at most 1, not '2'`."""
    first = errors[0]
    place = [part for part in first["loc"] if isinstance(part, str) and part not in ("query", "body", "path")]
    field = place[-1] if place else ""
    limits = {name: f"{x:g}" if isinstance(x, float) else x for name, x in first.get("ctx", {}).items()}
    reason = _REASONS.get(first["type"], "cannot be used").format_map(limits)
    if field in _PLURAL_FIELDS:
        reason = reason.replace("has ", "have ", 1).replace("is ", "are ", 1)
    value = first.get("input")
    contrast = (
        f", not {printable(value)[:_MAX_SHOWN]!r}" if isinstance(value, str) and " to be " in reason else ""
    )
    name = FIELD_NAMES.get(field, field.replace("_", " ").capitalize() or "The request")
    return {"error": f"{name} {reason}{contrast}", "field": field}


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error that a person can act on with its sentence."""
    app.add_exception_handler(VtagError, _answer_error)
    app.add_exception_handler(sqlite3.Error, _answer_database_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)


def _answer_error(_: Request, error: Exception) -> Response:
    if isinstance(error, GoneError):
        return JSONResponse(error_as_json(error), 404)
    return JSONResponse(error_as_json(error), 422 if isinstance(error, FieldError | QueryError) else 409)


def _answer_database_error(_: Request, error: Exception) -> Response:
    return JSONResponse(error_as_json(error), 503)


def _answer_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return JSONResponse(invalid_value(error.errors()), 422)
