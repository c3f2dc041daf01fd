"""Chapters as Matroska's XML: `mkvpropedit video.mkv --chapters video.chapters.xml`, or `mkvmerge --chapters`.

https://www.matroska.org/technical/chapters.html
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from vtag.engine.library.exports.chapters import chapter_parts
from vtag.engine.library.exports.text import one_line, timestamp
from vtag.engine.library.exports.xml_text import xml_document

if TYPE_CHECKING:
    from vtag.engine.library.exports.exported_moments import ExportedMoment


def write(items: Sequence[ExportedMoment]) -> str:
    """The moments of one video as chapters that follow each other."""
    chapters = ET.Element("Chapters")
    edition = ET.SubElement(chapters, "EditionEntry")
    for start_ms, end_ms, labels in chapter_parts(items):
        atom = ET.SubElement(edition, "ChapterAtom")
        ET.SubElement(atom, "ChapterTimeStart").text = timestamp(start_ms, ".")
        ET.SubElement(atom, "ChapterTimeEnd").text = timestamp(end_ms, ".")
        display = ET.SubElement(atom, "ChapterDisplay")
        ET.SubElement(display, "ChapterString").text = one_line(", ".join(labels))
        ET.SubElement(display, "ChapterLanguage").text = "und"
    return xml_document(chapters, '<!DOCTYPE Chapters SYSTEM "matroskachapters.dtd">')
