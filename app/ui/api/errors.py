"""Errors as JSON: `{"error": SENTENCE}`, with the field of a form if the error is about one."""

from __future__ import annotations

import sqlite3

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vtag.engine.errors import QueryError, VtagError


class FieldError(VtagError):
    """A value of a form that cannot be used; `field` is its name."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class GoneError(VtagError):
    """Something that the address names and the library has no more."""


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error that a person can act on with its sentence."""
    app.add_exception_handler(VtagError, _answer_error)
    app.add_exception_handler(sqlite3.Error, _answer_database_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid_request)


def _answer_error(_: Request, error: Exception) -> Response:
    if isinstance(error, GoneError):
        return JSONResponse({"error": str(error)}, 404)
    if isinstance(error, FieldError):
        return JSONResponse({"error": str(error), "field": error.field}, 422)
    return JSONResponse({"error": str(error)}, 422 if isinstance(error, QueryError) else 409)


def _answer_database_error(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the library cannot be read now ({error}): try again"}, 503)


def _answer_invalid_request(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][1:])
    return JSONResponse({"error": f"{field}: {first['msg']}", "field": field}, 422)
