"""XML files as text."""

from __future__ import annotations

from xml.etree import ElementTree as ET


def xml_document(root: ET.Element, doctype: str = "") -> str:
    """An XML file, indented."""
    ET.indent(root)
    head = '<?xml version="1.0" encoding="UTF-8"?>\n' + (f"{doctype}\n" if doctype else "")
    return f"{head}{ET.tostring(root, encoding='unicode')}\n"
