"""XML files beside videos that other programs write, too: they are merged into, in one step, or left alone."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.parsers.expat import ExpatError

from vtag.engine.errors import VtagError
from vtag.engine.system.atomic_write import atomic_path
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from xml.dom.minidom import Document, Element

_MAX_BYTES = 16 << 20


def merge_file(path: bytes, merge: Callable[[bytes | None], bytes | None]) -> bool:
    """Replace the content of the file at `path` by what `merge` returns for it; return whether it was replaced.

    `merge` is called with the content, or with None if there is no file. Nothing is written if it returns None.
    A file that is replaced keeps its permissions.
    Raises VtagError, with the path, if it was left as it is for another reason.
    """
    try:
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
            raise VtagError("the sidecar is a link or no file: it was left as it is")
        content = None
        if os.path.isfile(path):
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        merged = merge(content)
        if merged is None:
            return False
        with atomic_path(Path(os.fsdecode(path))) as part:
            part.write_bytes(merged)
            if content is not None:
                shutil.copymode(path, part)
        return True
    except OSError as error:
        raise VtagError(f"{display_path(path)}: {error.strerror or error}") from error
    except VtagError as error:
        raise VtagError(f"{display_path(path)}: {error}") from error


def parse_sidecar(sidecar: bytes) -> Document:
    """The XML of a sidecar. Raises VtagError if it is not sound, or has a document type."""
    from defusedxml import DefusedXmlException, minidom  # noqa: PLC0415  (a search needs no XML)

    if len(sidecar) > _MAX_BYTES:
        raise VtagError("the sidecar is too large to be one: it was left as it is")
    try:
        document: Document = minidom.parseString(cast("Any", sidecar), forbid_dtd=True)
    except (DefusedXmlException, ExpatError, ValueError, LookupError, RecursionError) as error:
        raise VtagError("the sidecar is not sound XML: it was left as it is") from error
    return document


def sidecar_bytes(document: Document) -> bytes:
    """The file of a sidecar. Raises VtagError if it cannot be written."""
    try:
        text: bytes = document.toxml(encoding="utf-8")
    except RecursionError as error:
        raise VtagError("the sidecar is nested too deeply: it was left as it is") from error
    return text + b"\n"


def element_text(element: Element) -> str:
    """The text in an element, without that of its children."""
    return "".join(
        node.data for node in element.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE)
    )
