"""XMP sidecars: labels as keywords, added to what a sidecar has already; nothing of it is ever changed or removed.

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
_ROOT = "vtag"  # of the hierarchy that the labels are put into
_MOST_BYTES = 16 << 20

_EMPTY = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    f'<rdf:RDF xmlns:rdf="{_RDF}">\n'
    "</rdf:RDF>\n</x:xmpmeta>\n"
    '<?xpacket end="w"?>'
).encode()


def merge(sidecar: bytes | None, labels: Iterable[str]) -> bytes | None:
    """The sidecar with `labels` among its keywords; None where all of them were there already.

    `sidecar` is what the file holds, None where there is none. Raises VtagError where it is no XMP that can be kept
    whole.
    """
    document = _parsed(_EMPTY if sidecar is None else sidecar)
    rdf = _rdf(document)
    names = list(dict.fromkeys(filter(None, map(one_line, labels))))
    wanted = (
        (_DC, "dc:subject", "Bag", names),
        (_DIGIKAM, "digiKam:TagsList", "Seq", [f"{_ROOT}/{name.replace('/', '∕')}" for name in names]),
        (
            _LIGHTROOM,
            "lr:hierarchicalSubject",
            "Bag",
            [f"{_ROOT}|{name.replace('|', '¦')}" for name in names],
        ),
    )
    added = [_add(document, rdf, *properties) for properties in wanted]
    if not any(added):
        return None
    try:
        text: bytes = document.toxml(encoding="utf-8")
    except RecursionError as error:
        raise VtagError("the sidecar is nested too deeply: it was left as it is") from error
    return text + b"\n"


def merge_into(path: bytes, labels: Iterable[str]) -> bool:
    """Merge `labels` into the sidecar at `path`, which need not be there; whether anything was added.

    It appears in one step, with the permissions that it had. Raises VtagError, with the path, where it was left as
    it is.
    """
    try:
        if os.path.islink(path) or (os.path.lexists(path) and not os.path.isfile(path)):
            raise VtagError("the sidecar is a link or no file: it was left as it is")
        before = None
        if os.path.isfile(path):
            with open(path, "rb") as file:
                before = file.read(_MOST_BYTES + 1)
        merged = merge(before, labels)
        if merged is None:
            return False
        with atomic_path(Path(os.fsdecode(path))) as part:
            part.write_bytes(merged)
            if before is not None:
                shutil.copymode(path, part)
        return True
    except OSError as error:
        raise VtagError(f"{display_path(path)}: {error.strerror or error}") from error
    except VtagError as error:
        raise VtagError(f"{display_path(path)}: {error}") from error


def keywords(sidecar: bytes) -> list[str]:
    """What dc:subject holds. Raises VtagError as `merge` does."""
    return [_text(item) for item in _items(_parsed(sidecar), _DC, "subject")]


def _parsed(sidecar: bytes) -> Document:
    from defusedxml import DefusedXmlException, minidom  # noqa: PLC0415  (a search needs no XML)

    if len(sidecar) > _MOST_BYTES:
        raise VtagError("the sidecar is too large to be one: it was left as it is")
    try:
        document: Document = minidom.parseString(cast("Any", sidecar), forbid_dtd=True)
    except (DefusedXmlException, ExpatError, ValueError, LookupError, RecursionError) as error:
        raise VtagError("the sidecar is not sound XML: it was left as it is") from error
    return document


def _rdf(document: Document) -> Element:
    found = document.getElementsByTagNameNS(_RDF, "RDF")
    if len(found) != 1:
        raise VtagError("the sidecar is no XMP: it was left as it is")
    return found[0]


def _items(document: Document, namespace: str, name: str) -> Iterator[Element]:
    for element in document.getElementsByTagNameNS(namespace, name):
        yield from element.getElementsByTagNameNS(_RDF, "li")


def _add(document: Document, rdf: Element, namespace: str, name: str, kind: str, values: list[str]) -> bool:
    """Add what is missing of `values` to a property; whether anything was."""
    local = name.partition(":")[2]
    there = {_text(item) for item in _items(document, namespace, local)}
    missing = [value for value in values if value not in there]
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
        if not rdf.prefix:  # an attribute of no prefix is of no namespace
            description.setAttribute("xmlns:rdf", _RDF)
        description.appendChild(holder)
        rdf.appendChild(description)
    for value in missing:
        item = document.createElementNS(_RDF, f"{prefix}li")
        item.appendChild(document.createTextNode(value))
        container.appendChild(item)
    return True


def _container(document: Document, namespace: str, local: str) -> Element | None:
    """The list that a property has already. Raises VtagError where it is none, and so cannot be added to."""
    holders = document.getElementsByTagNameNS(namespace, local)
    for element in holders:
        for kind in ("Bag", "Seq"):
            for found in element.getElementsByTagNameNS(_RDF, kind):
                return found
    descriptions = document.getElementsByTagNameNS(_RDF, "Description")
    if holders or any(d.hasAttributeNS(namespace, local) for d in descriptions):
        raise VtagError(f"the sidecar's {local} is no list: it was left as it is")
    return None


def _about(rdf: Element) -> str:
    """Which resource the sidecar speaks of: the same in all its descriptions, mostly empty."""
    for description in rdf.getElementsByTagNameNS(_RDF, "Description"):
        return str(description.getAttributeNS(_RDF, "about"))
    return ""


def _text(element: Element) -> str:
    return "".join(
        node.data for node in element.childNodes if node.nodeType in (node.TEXT_NODE, node.CDATA_SECTION_NODE)
    )
