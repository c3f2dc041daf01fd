"""The exceptions. A message is one sentence: what is wrong, where, and what to do about it."""

from __future__ import annotations


class VtagError(Exception):
    """A failure that the user can act on. The command line and the page show its message without a traceback."""


class ModelError(VtagError):
    """A checkpoint, a model folder or a model's name that cannot be used."""


class DownloadError(ModelError):
    """A model that could not be downloaded, or a download that is not the published file."""


class VideoError(VtagError):
    """A video that cannot be read. Other videos are not affected."""


class LibraryError(VtagError):
    """A library that cannot be opened, was written by a newer vtag, or is in use."""


class ClusterError(VtagError):
    """A cluster that cannot be used: none is there, or no node can work."""


class QueryError(VtagError):
    """A query that cannot be parsed."""
