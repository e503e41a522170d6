"""XML to plain values, safely: the tree of an XMP packet, and what its RDF says.

The parser is expat. A document type is refused, so there are no entities to expand and nothing is ever fetched; size,
depth and number of parts are bounded. Where a packet breaks off, what came before is kept. The form is that of
ISO 16684-1 (XMP, part 1), section 7.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias
from xml.parsers import expat  # entities are refused below, which is what they make unsafe

Value: TypeAlias = "str | list[Value] | dict[str, Value]"
"""A text, the items of a list, or the fields of a structure; the languages of a text are fields as well."""

MAX_PARTS = 50_000
"""Elements and attributes that are read."""

MAX_DEPTH = 32
MAX_ITEMS = 1000
"""Items of one list that are kept: Photoshop lists every document that a picture ever met."""

MAX_LETTERS = 16_384
"""Texts longer than this (previews, depth maps, lists of brush strokes) are left out."""

_LISTS = frozenset({"rdf:Seq", "rdf:Bag"})
_PREFIXES = {  # what these are called, whatever the file calls them
    "http://www.w3.org/1999/02/22-rdf-syntax-ns#": "rdf",
    "http://www.w3.org/XML/1998/namespace": "xml",
    "http://purl.org/dc/elements/1.1/": "dc",
    "http://ns.adobe.com/xap/1.0/": "xmp",
    "http://ns.adobe.com/xap/1.0/mm/": "xmpMM",
    "http://ns.adobe.com/xap/1.0/rights/": "xmpRights",
    "http://ns.adobe.com/xmp/note/": "xmpNote",
    "http://ns.adobe.com/photoshop/1.0/": "photoshop",
    "http://ns.adobe.com/exif/1.0/": "exif",
    "http://cipa.jp/exif/1.0/": "exifEX",
    "http://ns.adobe.com/tiff/1.0/": "tiff",
    "http://ns.adobe.com/lightroom/1.0/": "lr",
    "http://ns.microsoft.com/photo/1.0/": "MicrosoftPhoto",
    "http://ns.microsoft.com/photo/1.0": "MicrosoftPhoto",
    "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/": "Iptc4xmpCore",
    "http://iptc.org/std/Iptc4xmpExt/2008-02-29/": "Iptc4xmpExt",
}


class _RefusedError(Exception):
    """The packet is not read any further; the message says why."""


@dataclass(slots=True)
class _Element:
    """One element, with names as in `"dc:title"`. Not frozen: it grows while it is read."""

    name: str
    attributes: dict[str, str]
    children: list[_Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


class _Reader:
    """What expat calls; it keeps the open elements."""

    def __init__(self) -> None:
        self.root = _Element("", {})
        self._open = [self.root]
        self._parts = 0
        self._names: dict[str, str] = {}  # by expat's

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._parts += 1 + len(attributes)
        if self._parts > MAX_PARTS:
            raise _RefusedError(f"it has more than {MAX_PARTS:,} parts, and the rest was not read")
        if len(self._open) > MAX_DEPTH:
            raise _RefusedError(f"it is nested deeper than {MAX_DEPTH}, and the rest was not read")
        element = _Element(self._short(name), {self._short(key): text for key, text in attributes.items()})
        self._open[-1].children.append(element)
        self._open.append(element)

    def _short(self, name: str) -> str:
        """`"prefix:name"` of expat's `"address name prefix"`."""
        short = self._names.get(name)
        if short is None:
            address, _, rest = name.partition(" ")
            local, _, prefix = rest.partition(" ")
            prefix = _PREFIXES.get(address, prefix)
            short = f"{prefix}:{local}" if prefix else local or address
            self._names[name] = short
        return short

    def end(self, _name: str) -> None:
        self._open.pop()

    def text(self, data: str) -> None:
        self._open[-1].texts.append(data)

    def doctype(self, *_args: object) -> None:
        raise _RefusedError("it has a document type, which XMP does not allow")


def read_rdf(packet: bytes) -> tuple[dict[str, Value], str | None]:
    """Read an XMP packet.

    Returns:
        Its properties by name, `"prefix:name"`, in the order of the file, and what could not be read, in words.
    """
    reader = _Reader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = True
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.doctype
    fault = None
    try:
        parser.Parse(packet, True)  # noqa: FBT003 - the whole packet
    except _RefusedError as refused:
        fault = str(refused)
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last two: of encodings
        fault = f"it is not well-formed XML: {error}"
    properties: dict[str, Value] = {}
    for description in _descriptions(reader.root):
        for name, value in _fields(description).items():
            properties.setdefault(name, value)
    return properties, fault


def _descriptions(element: _Element) -> list[_Element]:
    """The descriptions right below `rdf:RDF`, which may lie in a wrapper."""
    for child in element.children:
        if child.name == "rdf:RDF":
            return [each for each in child.children if each.name == "rdf:Description"]
    return [each for child in element.children for each in _descriptions(child)]


def _fields(element: _Element) -> dict[str, Value]:
    """The properties of a description or a structure: attributes, then child elements."""
    found: dict[str, Value] = {
        name: text for name, text in element.attributes.items() if not _is_syntax(name) and len(text) <= MAX_LETTERS
    }
    for child in element.children:
        value = _value(child)
        if value is not None:
            found.setdefault(child.name, value)
    return found


def _value(element: _Element) -> Value | None:
    """The value of a property; None where it is too long."""
    for child in element.children:
        if child.name in _LISTS:
            return _items(child)
        if child.name == "rdf:Alt":
            return _languages(child)
        if child.name == "rdf:Description":
            return _qualified(_fields(child))
    if element.children or any(not _is_syntax(name) for name in element.attributes):
        return _qualified(_fields(element))
    text = "".join(element.texts).strip() or element.attributes.get("rdf:resource", "")
    return text if len(text) <= MAX_LETTERS else None


def _qualified(fields: dict[str, Value]) -> Value:
    """A structure; where it is a value with qualifiers, the value."""
    return fields.get("rdf:value", fields)


def _items(element: _Element) -> list[Value]:
    """The items of a list, `MAX_ITEMS` at most."""
    values = (_value(child) for child in element.children[:MAX_ITEMS])
    return [value for value in values if value is not None]


def _languages(element: _Element) -> Value:
    """Alternatives: a text by its languages where they have any, otherwise a list."""
    if not any("xml:lang" in child.attributes for child in element.children):
        return _items(element)
    found: dict[str, Value] = {}
    for child in element.children[:MAX_ITEMS]:
        value = _value(child)
        if value is not None:
            found.setdefault(child.attributes.get("xml:lang", "x-default"), value)
    return found


def _is_syntax(name: str) -> bool:
    """Tell whether an attribute belongs to RDF or XML and not to the picture."""
    return name.startswith(("rdf:", "xml:")) or ":" not in name
