"""XML files as text."""

from __future__ import annotations

import unicodedata
from xml.etree import ElementTree as ET

from vtag.engine.library.exports.text import NONCHARACTERS


def xml_path(path: bytes) -> str:
    """A path as text that XML can hold. One with other characters is not found by its reader, but spoils no file."""
    text = path.decode("utf-8", "replace")
    return "".join(
        "?" if (c not in "\t\n" and unicodedata.category(c) == "Cc") or c in NONCHARACTERS else c
        for c in text
    )


def xml_document(root: ET.Element, doctype: str = "") -> str:
    """An XML file, indented."""
    ET.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' + (f"{doctype}\n" if doctype else "")
    return f"{head}{ET.tostring(root, encoding='unicode')}\n"
