"""Ids of the library's rows in requests: numbers that JavaScript and SQLite can hold."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

RowId = Annotated[int, Field(ge=0, lt=1 << 53)]
