"""XMP read as XML: the properties of a packet, and what IPTC's and some makers' properties say of how a file was made.

The packet is untrusted XML. It is streamed through expat with no tree built; a document type is refused when it
begins, so that no entity is ever declared, expanded or fetched; depth, elements and length are capped. Only properties
of the file itself count (XMP specification part 1, section 7: attributes or child elements of rdf:Description), not
those of a history or an ingredient nested in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias
from xml.parsers import expat

from evalkit.types import Evidence
from evalkit.types.audit import Says

from ._source_types import TERMS, in_words, says_of, term_of
from ._wording import evidence, visible

RDF = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
META = "adobe:ns:meta/"
IPTC = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
PHOTOSHOP = "http://ns.adobe.com/photoshop/1.0/"
XAP = "http://ns.adobe.com/xap/1.0/"
DUBLIN_TERMS = "http://purl.org/dc/terms/"
NOTE = "http://ns.adobe.com/xmp/note/"
EXIF = "http://ns.adobe.com/exif/1.0/"

MOST_ELEMENTS, DEEPEST, LONGEST_VALUE, MOST_VALUES = 20_000, 64, 1 << 20, 2_000

# (namespace, name) -> its values.
Properties: TypeAlias = dict[tuple[str, str], list[str]]

# What Google's tools write as the credit line of a picture.
CREDITS: Mapping[str, Says] = {"Made with Google AI": "synthetic", "Edited with Google AI": "edited"}


class XmpRefused(ValueError):
    """A packet that is not read, with the reason."""


class _Reading:
    """Handlers of one parse: where in the packet we are and what was found so far."""

    def __init__(self) -> None:
        self.found: Properties = {}
        self.path: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.length = self.elements = self.values = 0

    def doctype(self, *_: object) -> None:
        raise XmpRefused("XMP that declares a document type, as entities need one")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if self.elements > MOST_ELEMENTS or len(self.path) >= DEEPEST:
            raise XmpRefused(f"XMP of more than {MOST_ELEMENTS:,} elements or {DEEPEST} levels")
        self.path.append(_split(name))
        self.text, self.length = [], 0
        own = self.own_property()
        for key, value in attributes.items():
            space, local = _split(key)
            if (space, local) == (RDF, "resource") and own is not None:
                self.keep(own, value)
            elif own is None and self.path[-1] == (RDF, "Description") and len(self.properties()) == 0:
                self.keep((space, local), value)

    def characters(self, text: str) -> None:
        if self.length < LONGEST_VALUE:
            self.text.append(text)
            self.length += len(text)

    def end(self, name: str) -> None:
        own, text = self.own_property(), "".join(self.text).strip()
        if own is not None and text:
            self.keep(own, text)
        self.text, self.length = [], 0
        self.path.pop()

    def properties(self) -> list[tuple[str, str]]:
        return [step for step in self.path if step[0] not in (RDF, META)]

    def own_property(self) -> tuple[str, str] | None:
        """The property that a value here belongs to: the one non-RDF element above it, None where there are more."""
        named = self.properties()
        return named[0] if len(named) == 1 else None

    def keep(self, name: tuple[str, str], value: str) -> None:
        self.values += 1
        if name[0] != RDF and self.values <= MOST_VALUES:
            self.found.setdefault(name, []).append(value.strip())


def _split(name: str) -> tuple[str, str]:
    space, _, local = name.rpartition(" ")
    return space, local


def properties(packet: bytes) -> Properties:
    """The properties of one packet; XmpRefused when it is no XML, declares a document type or is too large."""
    reading = _Reading()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = reading.doctype
    parser.StartElementHandler = reading.start
    parser.EndElementHandler = reading.end
    parser.CharacterDataHandler = reading.characters
    try:
        # Packets are padded, and some writers end them with zeros.
        parser.Parse(packet.strip(b"\0 \t\r\n"), True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        if isinstance(error, XmpRefused):
            raise
        raise XmpRefused(f"XMP that is not XML ({visible(error, 80)})") from error
    return reading.found


def first(found: Properties, space: str, name: str) -> str:
    return next(iter(found.get((space, name), ())), "")


def remote_manifest(found: Properties) -> str:
    """The address of a C2PA manifest kept elsewhere; "" where there is none (C2PA specification, section 11.4)."""
    address = first(found, DUBLIN_TERMS, "provenance")
    return address if address.lower().startswith(("http://", "https://")) else ""


def source_type_evidence(found: Properties) -> list[Evidence]:
    """IPTC DigitalSourceType, AISystemUsed and the credit lines of Google's tools, all of them unsigned claims."""
    said = []
    values = found.get((IPTC, "DigitalSourceType"), [])
    terms = list(dict.fromkeys(term for term in map(term_of, values) if term))
    system = visible(
        " ".join(filter(None, (first(found, IPTC, "AISystemUsed"), first(found, IPTC, "AISystemVersionUsed"))))
    )
    facts = {"digital_source_types": terms, **({"ai_system": system} if system else {})}
    if terms:
        says = says_of(terms)
        said.append(evidence(says, "XMP", f"IPTC digital source type {in_words(terms)}", facts=facts))
    elif values:
        other = visible(values[0])
        what = f"an IPTC digital source type that is none of the {len(TERMS)} known terms: {other!r}"
        said.append(evidence("unknown", "XMP", what, strength="hint", facts={**facts, "value": other}))
    if system and not terms:
        said.append(evidence("synthetic", "XMP", f"IPTC names an AI system: {system!r}", facts=facts))
    credit = first(found, PHOTOSHOP, "Credit")
    if credit in CREDITS and not terms:
        said.append(evidence(CREDITS[credit], "XMP", f"credit line {credit!r}", facts={"credit": credit}))
    return said


def creator_tools(found: Properties) -> Sequence[str]:
    return found.get((XAP, "CreatorTool"), [])
