"""A search of the page: the query and the filters beside it, as one query of the language (docs/search.md)."""

from __future__ import annotations

import glob
from typing import Annotated

from fastapi import Query
from pydantic import BaseModel, Field

from vtag.app.ui.api.errors import FIELD_NAMES, FieldError
from vtag.engine.errors import QueryError
from vtag.engine.library.search.query import parse

_MAX_QUERY_LENGTH = 2000  # characters


class SearchForm(BaseModel):
    """The fields of a search. Each is a parameter of the page's address, too."""

    q: str = Field(default="", max_length=_MAX_QUERY_LENGTH)
    score: float = Field(default=0.0, ge=0, le=1)  # minimum
    label: str = Field(default="", max_length=200)
    folder: str = Field(default="", max_length=4096)
    name: str = Field(default="", max_length=1024)  # part of the path
    year: str = Field(default="", max_length=10)
    after: str = Field(default="", max_length=40)
    before: str = Field(default="", max_length=40)
    model: str = Field(default="", max_length=1024)
    source: str = Field(default="", max_length=10)  # user or model
    verdict: str = Field(default="", max_length=10)  # confirmed or rejected
    margin: float | None = Field(
        default=None, ge=-20, le=20
    )  # from which a moment is sure; None: the library's

    def as_query(self) -> str:
        """The query with its filters; empty without any. Raises QueryError, FieldError for a filter."""
        if self.q.strip():
            parse(self.q)  # alone first, so that an error points into what the person typed
        filters = self._filters()
        for field, text in filters:
            try:
                parse(text)
            except QueryError as error:
                value = getattr(self, field)
                field_name = "File name" if field == "name" else FIELD_NAMES[field]
                raise FieldError(field, f"{field_name}: {value!r} cannot be used, {_reason(error)}") from None
        parts = [text for _, text in filters]
        if not self.q.strip():
            return " ".join(parts)
        return " ".join([f"({self.q})", *parts]) if parts else self.q

    @property
    def label_of_moments(self) -> str:
        """The label that the moments of the query have to have; beside a query, `label:` would be one more term."""
        return self.label.strip() if self.q.strip() else ""

    def _filters(self) -> list[tuple[str, str]]:
        """Each field that filters, with its part of the query."""
        filters = [("score", f"score>={self.score:g}")] if self.score > 0 else []
        if self.label.strip() and not self.q.strip():
            filters.append(("label", f'label:"{glob.escape(_quoted(self.label))}"'))
        if self.folder.strip():
            filters.append(("folder", f'path:"{_folder_pattern(self.folder)}"'))
        if self.name.strip():
            filters.append(("name", f'path:"*{glob.escape(self.name.strip()).replace(chr(34), "?")}*"'))
        if self.year.strip():
            filters.append(("year", self._year_filter()))
        filters += [
            (field, f'{field}:"{_quoted(value)}"')
            for field in ("after", "before", "model", "source")
            if (value := getattr(self, field).strip())
        ]
        return filters + ([("verdict", f"is:{self.verdict}")] if self.verdict.strip() else [])

    def _year_filter(self) -> str:
        if not self.year.strip().isdecimal():
            raise FieldError("year", f"Year: {self.year!r} is no year such as 2024")
        return f"after:{int(self.year):04} before:{int(self.year) + 1:04}"


SearchParameters = Annotated[SearchForm, Query()]


def _quoted(text: str) -> str:
    return text.strip().replace('"', " ")


def _folder_pattern(folder: str) -> str:
    """The glob of all files below a folder. A query cannot contain a quotation mark: any character matches it."""
    return glob.escape(folder.strip().rstrip("/")).replace('"', "?") + "/*"


def _reason(error: QueryError) -> str:
    """The reason in a query error, without the place in a query that the person did not type."""
    return str(error).rpartition(": ")[2]
