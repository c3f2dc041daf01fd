"""XMP sidecars: adds labels to a sidecar's keywords and never changes or removes anything in it.

digiKam and Immich read the first list of keywords that they find. So where a list is missing, the new one begins with
the person's own keywords from the others: else they would vanish from these programs.

Adobe, "XMP Specification Part 1", 2012 (ISO 16684-1): properties of one resource may be spread over several
rdf:Description elements.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vtag.engine.errors import VtagError
from vtag.engine.library.exports.sidecar_file import element_text, merge_file, parse_sidecar, sidecar_bytes
from vtag.engine.library.exports.text import one_line

if TYPE_CHECKING:
    from xml.dom.minidom import Document, Element

_RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_DC = "http://purl.org/dc/elements/1.1/"
_DIGIKAM = "http://www.digikam.org/ns/1.0/"
_LIGHTROOM = "http://ns.adobe.com/lightroom/1.0/"
_ROOT = "vtag"  # of the hierarchical keywords

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
    document = parse_sidecar(_EMPTY if sidecar is None else sidecar)
    rdf = _rdf(document)
    names = list(dict.fromkeys(filter(None, map(one_line, labels))))
    subject, tags, hierarchy = (
        [element_text(item) for item in _items(document, namespace, name)]
        for namespace, name in ((_DC, "subject"), (_DIGIKAM, "TagsList"), (_LIGHTROOM, "hierarchicalSubject"))
    )
    own_tags = [] if tags else [_as_tag(path.split("|")) for path in hierarchy or subject]
    own_hierarchy = [] if hierarchy else [_as_hierarchy(path.split("/")) for path in tags or subject]
    properties = (
        (_DC, "dc:subject", "Bag", names),
        (_DIGIKAM, "digiKam:TagsList", "Seq", [*own_tags, *(_as_tag([_ROOT, name]) for name in names)]),
        (_LIGHTROOM, "lr:hierarchicalSubject", "Bag", [
            *own_hierarchy, *(_as_hierarchy([_ROOT, name]) for name in names)
        ]),
    )  # fmt: skip
    if not names or not any([_add_values(document, rdf, *prop) for prop in properties]):
        return None
    return sidecar_bytes(document)


def _as_tag(levels: list[str]) -> str:
    return "/".join(level.replace("/", "∕") for level in levels)


def _as_hierarchy(levels: list[str]) -> str:
    return "|".join(level.replace("|", "¦") for level in levels)


def merge_into(path: bytes, labels: Iterable[str]) -> bool:
    """Merge `labels` into the sidecar at `path`, or create it; return whether anything was added.

    Raises VtagError, with the path, if the sidecar was left as it is.
    """
    names = list(labels)
    return merge_file(path, lambda sidecar: merge(sidecar, names))


def keywords(sidecar: bytes) -> list[str]:
    """The keywords in dc:subject. Raises VtagError if the sidecar is not sound XML."""
    return [element_text(item) for item in _items(parse_sidecar(sidecar), _DC, "subject")]


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
    existing = {element_text(item) for item in _items(document, namespace, local)}
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
