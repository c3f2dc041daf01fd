"""XMP sidecars: adds labels to a sidecar's keywords and never changes or removes anything in it.

Adobe, "XMP Specification Part 1", 2012 (ISO 16684-1): properties of one resource may be spread over several
rdf:Description elements.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from xml.parsers.expat import ExpatError

from vtag.engine.errors import VtagError
from vtag.engine.library.exports.text import one_line
from vtag.engine.system.atomic_write import atomic_path
from vtag.engine.text import display_path

if TYPE_CHECKING:
    from xml.dom.minidom import Document, Element

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_DIGIKAM = "http://www.digikam.org/ns/1.0/"
_LIGHTROOM = "http://ns.adobe.com/lightroom/1.0/"
_ROOT = "vtag"  # of the hierarchical keywords
_MAX_BYTES = 16 << 20

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f'<rdf:RDF xmlns:rdf="{_RDF}">\n'
    "</rdf:RDF>\n</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
).encode()


def merge(sidecar: bytes | None, labels: Iterable[str]) -> bytes | None:
    """The sidecar with `labels` among its keywords; None if it has all of them already.

    `sidecar` is the content of the file, None without a file. Raises VtagError if it is not XMP, or cannot be kept
    whole.
    """
    document = _parse(_EMPTY if sidecar is None else sidecar)
    rdf = _rdf(document)
    names = list(dict.fromkeys(filter(None, map(one_line, labels))))
    properties = (
        (_DC, "dc:subject", "Bag", names),
        (_DIGIKAM, "digiKam:TagsList", "Seq", [f"{_ROOT}/{name.replace('/', '∕')}" for name in names]),
        (
            _LIGHTROOM,
            "lr:hierarchicalSubject",
            "Bag",
            [f"{_ROOT}|{name.replace('|', '¦')}" for name in names],
        ),
    )
    added = [_add_values(document, rdf, *prop) for prop in properties]  # a list: every property is extended
    if not any(added):
        return None
    try:
        text: bytes = document.toxml(encoding="utf-8")
    except RecursionError as error:
        raise VtagError("the sidecar is nested too deeply: it was left as it is") from error
    return text + b"\n"


def merge_into(path: bytes, labels: Iterable[str]) -> bool:
    """Merge `labels` into the sidecar at `path`, or create it; return whether anything was added.

    The file is replaced in one step and keeps its permissions. Raises VtagError, with the path, if the sidecar was
    left as it is.
    """
    try:
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
            raise VtagError("the sidecar is a link or no file: it was left as it is")
        content = None
        if os.path.isfile(path):
            with open(path, "rb") as file:
                content = file.read(_MAX_BYTES + 1)
        merged = merge(content, labels)
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


def keywords(sidecar: bytes) -> list[str]:
    """The keywords in dc:subject. Raises VtagError if the sidecar is not sound XML."""
    return [_text(item) for item in _items(_parse(sidecar), _DC, "subject")]


def _parse(sidecar: bytes) -> Document:
    from defusedxml import DefusedXmlException, minidom  # noqa: PLC0415  (a search needs no XML)

    if len(sidecar) > _MAX_BYTES:
        raise VtagError("the sidecar is too large to be one: it was left as it is")
    try:
        document: Document = minidom.parseString(cast("Any", sidecar), forbid_dtd=True)
    except (DefusedXmlException, ExpatError, ValueError, LookupError, RecursionError) as error:
        raise VtagError("the sidecar is not sound XML: it was left as it is") from error
    return document


def _rdf(document: Document) -> Element:
    elements = document.getElementsByTagNameNS(_RDF, "RDF")
    if len(elements) != 1:
        raise VtagError("the sidecar is no XMP: it was left as it is")
    return elements[0]


def _items(document: Document, namespace: str, name: str) -> Iterator[Element]:
    for element in document.getElementsByTagNameNS(namespace, name):
        yield from element.getElementsByTagNameNS(_RDF, "li")


def _add_values(
    document: Document, rdf: Element, namespace: str, name: str, kind: str, values: list[str]
) -> bool:
    """Add to a property those of `values` that it lacks; return whether there were any."""
    local = name.partition(":")[2]
    existing = {_text(item) for item in _items(document, namespace, local)}
    missing = [value for value in values if value not in existing]
    if not missing:
        return False
    prefix = f"{rdf.prefix}:" if rdf.prefix else ""
    container = _container(document, namespace, local)
    if container is None:
        container = document.createElementNS(_RDF, f"{prefix}{kind}")
        holder = document.createElementNS(namespace, name)
        holder.setAttribute(f"xmlns:{name.partition(':')[0]}", namespace)
        holder.appendChild(container)
        description = document.createElementNS(_RDF, f"{prefix}Description")
        description.setAttributeNS(_RDF, f"{rdf.prefix or 'rdf'}:about", _about(rdf))
        if not rdf.prefix:  # an attribute without a prefix has no namespace
            description.setAttribute("xmlns:rdf", _RDF)
        description.appendChild(holder)
        rdf.appendChild(description)
    for value in missing:
        item = document.createElementNS(_RDF, f"{prefix}li")
        item.appendChild(document.createTextNode(value))
        container.appendChild(item)
    return True


def _container(document: Document, namespace: str, local: str) -> Element | None:
    """The list that a property has, or None. Raises VtagError if its value is not a list."""
    holders = document.getElementsByTagNameNS(namespace, local)
    for element in holders:
        for kind in ("Bag", "Seq"):
            for container in element.getElementsByTagNameNS(_RDF, kind):
                return container
    descriptions = document.getElementsByTagNameNS(_RDF, "Description")
    if holders or any(d.hasAttributeNS(namespace, local) for d in descriptions):
        raise VtagError(f"the sidecar's {local} is no list: it was left as it is")
    return None


def _about(rdf: Element) -> str:
    """The resource that the sidecar describes: the same in all its descriptions, usually empty."""
    for description in rdf.getElementsByTagNameNS(_RDF, "Description"):
        return str(description.getAttributeNS(_RDF, "about"))
    return ""


def _text(element: Element) -> str:
    return "".join(
        node.data for node in element.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE)
    )
