"""What can go wrong, as one small tree; a message is one sentence: what is wrong, where, what to do."""

from __future__ import annotations


class VtagError(Exception):
    """A failure that a person can act on; the faces print its message on one line, without a traceback."""


class ModelError(VtagError):
    """A checkpoint, model folder or model name that cannot be used."""


class DownloadError(ModelError):
    """A model that could not be fetched, or is not what was promised."""


class VideoError(VtagError):
    """A video that cannot be read; it costs that video alone."""


class LibraryError(VtagError):
    """A database that cannot be opened, is of a newer vtag, or is in use."""


class QueryError(VtagError):
    """A query that cannot be understood."""
