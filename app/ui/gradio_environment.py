"""Keeps the environment that a user set for other programs away from Gradio, which reads it on import."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

_KEPT = ("GRADIO_TEMP_DIR",)  # a user's choice of a disk
_PROXY_EXCEPTIONS = ("no_proxy", "NO_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")  # the files may be gone


@contextlib.contextmanager
def isolated_environment() -> Iterator[None]:
    """Let Gradio be imported without proxies and certificates, and without settings for other pages.

    Gradio makes HTTP clients when it is imported, and they fail for proxies that they do not support, and without the
    files of certificates. The page needs no network. Downloads of models do, so these variables come back afterwards.
    GRADIO_* variables could move, publish or reload the page, open more files, or run another program for it.
    """
    for name in list(os.environ):
        if name.upper().startswith("GRADIO_") and name.upper() not in _KEPT:
            del os.environ[name]
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    changed = (*_PROXY_EXCEPTIONS, *_CERTIFICATES)
    previous = {name: os.environ.pop(name) for name in changed if name in os.environ}
    os.environ.update(dict.fromkeys(_PROXY_EXCEPTIONS, "*"))
    try:
        yield
    finally:
        for name in _PROXY_EXCEPTIONS:
            os.environ.pop(name, None)
        os.environ.update(previous)
