"""Kodi's and Jellyfin's `.nfo` files: adds labels as tags, and never changes or removes anything.

https://kodi.wiki/view/NFO_files. A new file is that of a movie, which both take for a video of one's own, too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from vtag.engine.errors import VtagError
from vtag.engine.library.exports.sidecar_file import element_text, merge_file, parse_sidecar, sidecar_bytes
from vtag.engine.library.exports.text import one_line, path_text

if TYPE_CHECKING:
    from xml.dom.minidom import Document, Element

_KINDS = ("movie", "episodedetails", "musicvideo", "video", "homevideo")  # elements that describe one video
_EMPTY = b'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><movie/>'


def nfo_path(video: bytes) -> bytes:
    """The `.nfo` of a video: its path with another extension."""
    return os.path.splitext(video)[0] + b".nfo"


def merge(nfo: bytes | None, labels: Iterable[str], title: str) -> bytes | None:
    """The file with `labels` among its tags; None if it has all of them. `title` is that of a new file.

    Raises VtagError if it is no description of a video, or cannot be kept whole.
    """
    document = parse_sidecar(_EMPTY if nfo is None else nfo)
    root = document.documentElement
    if root is None or root.tagName not in _KINDS:
        raise VtagError("the file does not describe a video: it was left as it is")
    if nfo is None:
        _add(document, root, "title", title)
    tags = (node for node in root.getElementsByTagName("tag") if node.parentNode is root)
    existing = {element_text(tag).strip() for tag in tags}
    missing = [name for name in dict.fromkeys(filter(None, map(one_line, labels))) if name not in existing]
    for name in missing:
        _add(document, root, "tag", name)
    return sidecar_bytes(document) if missing else None


def merge_into(video: bytes, path: bytes, labels: Iterable[str]) -> bool:
    """Merge `labels` into the file at `path`, which describes `video`; return whether anything was added.

    Raises VtagError, with the path, if the file was left as it is.
    """
    names, title = list(labels), path_text(os.path.splitext(os.path.basename(video))[0])
    return merge_file(path, lambda nfo: merge(nfo, names, title))


def _add(document: Document, root: Element, name: str, text: str) -> None:
    element = document.createElement(name)
    element.appendChild(document.createTextNode(text))
    root.appendChild(document.createTextNode("  " if root.childNodes else "\n  "))
    root.appendChild(element)
    root.appendChild(document.createTextNode("\n"))
