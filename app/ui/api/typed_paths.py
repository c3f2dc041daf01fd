"""Paths that a person types into a form."""

from __future__ import annotations

import os
from pathlib import Path

from vtag.app.ui.api.errors import FieldError


def absolute_path(field: str, text: str) -> str:
    """A typed path with the home folder in place of `~`. Raises FieldError if it is not a whole one."""
    path = str(Path(text.strip()).expanduser())
    if not text.strip() or not os.path.isabs(path):
        raise FieldError(field, "give a folder's whole path, such as /home/me/Clips")
    return path
