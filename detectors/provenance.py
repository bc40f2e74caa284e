"""What a file says of its own origin: C2PA manifests, IPTC source types, generators' texts, EXIF, China's label.

A witness, not a judge: it gives evidence of one file and no score. Each reader is a sibling of this file (_c2pa, _xmp,
_sd_texts, _stealth, _exif, _aigc) and what its findings mean is worded in one table (_wording). Everything here reads
untrusted bytes inside an isolated process: sizes are capped, nothing is fetched, and what is left unread is said.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from evalkit.errors import BadSetting
from evalkit.types import Evidence, MediaFile

from ._aigc import aigc_evidence
from ._c2pa import ManifestReader, Unlooked, c2pa_evidence, has_box, unlooked_evidence
from ._carriers import Carried, carried
from ._exif import ExifRefused, exif_evidence, fields, generator_named, samsung_evidence
from ._objects import object_of
from ._sd_texts import draw_things_evidence, texts_of_exif, tool_evidence
from ._stealth import StealthRefused, hidden_text
from ._wording import evidence, unread, visible
from ._xmp import NOTE, Properties, XmpRefused, creator_tools, first, properties, remote_manifest, source_type_evidence

VERSION = 1


class Provenance:
    """Witness: C2PA, IPTC digital source type, generators' texts, EXIF and China's AIGC label; it gives no score.

    anchors: the trust list, PEM text; without it no signer is trusted. anchors_name, anchors_date: noted beside it. at:
    ISO date-time with offset that certificates are held against where no trusted time stamp says when they signed;
    without it the day of the audit, which makes the result depend on that day. Raises BadSetting.
    """

    name: ClassVar[str] = "provenance"

    def __init__(self, *, anchors: str = "", anchors_name: str = "", anchors_date: str = "", at: str = "") -> None:
        if anchors and "-----BEGIN CERTIFICATE-----" not in anchors:
            raise BadSetting(
                "anchors: no PEM certificate in it; give the text of a trust list, -----BEGIN CERTIFICATE-----"
            )
        self._settings = {"anchors_name": anchors_name, "anchors_date": anchors_date, "at": at}
        self._at = _moment(at)
        self._trust: dict[str, Any] = {"name": anchors_name, "date": anchors_date, "sha256": ""}
        if anchors:
            self._trust["sha256"] = hashlib.sha256(anchors.encode()).hexdigest()
        self._reader = ManifestReader(anchors)

    @cached_property
    def digest(self) -> str:
        """sha256:... of this reader's version, its settings and trust list, and the version of c2pa-python."""
        try:
            library = version("c2pa-python")
        except PackageNotFoundError:
            library = "absent"
        terms = [self.name, VERSION, self._settings, self._trust["sha256"], library]
        return f"sha256:{hashlib.sha256(json.dumps(terms, sort_keys=True).encode()).hexdigest()}"

    def testify(self, file: MediaFile) -> list[Evidence]:
        """Every mark of origin in the file, each apart; [] is no signal, and that means unknown."""
        found = carried(file.data)
        said = [unread(found.format, note) for note in found.notes]
        about = self._exif(found, said)
        packets = self._xmp(found, about.get("xmp"), said)
        said += self._manifest(file.data, packets)
        said += source_type_evidence(packets)
        said += draw_things_evidence(packets)
        said += aigc_evidence(packets, found.texts, str(about.get("comment", "")))
        said += tool_evidence(found.texts, "PNG text")
        said += self._hidden(file, found)
        said += tool_evidence(texts_of_exif(about), "EXIF")
        said += exif_evidence(about)
        said += samsung_evidence(file.data) if found.format == "JPEG" else []
        said += _software(found, packets, said)
        return said

    def _manifest(self, data: bytes, packets: Properties) -> Iterator[Evidence]:
        if has_box(data):
            today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            at, whose = (self._at, "date given") if self._at else (today, "this machine's date")
            try:
                yield c2pa_evidence(self._reader.read(data), at, whose, self._trust)
            except Unlooked as error:
                yield unlooked_evidence(error)
        elif address := remote_manifest(packets):
            yield unlooked_evidence(Unlooked("remote", "a C2PA manifest at an address"), remote=visible(address))

    def _exif(self, found: Carried, said: list[Evidence]) -> dict[str, Any]:
        if not found.exif:
            return {}
        try:
            return fields(found.exif)
        except ExifRefused as error:
            said.append(unread("EXIF", str(error)))
            return {}

    def _xmp(self, found: Carried, in_tags: bytes | None, said: list[Evidence]) -> Properties:
        """The properties of all packets together; of one that several have, every value."""
        together: Properties = {}
        extensions = dict(found.extended)
        packets = [*found.xmp, *([in_tags] if in_tags else [])]
        while packets:
            try:
                one = properties(packets.pop(0))
            except XmpRefused as error:
                said.append(unread("XMP", str(error)))
                continue
            for key, values in one.items():
                together.setdefault(key, []).extend(values)
            # An extended packet counts where the main one names it.
            if extension := extensions.pop(first(one, NOTE, "HasExtendedXMP"), b""):
                packets.append(extension)
        return together

    def _hidden(self, file: MediaFile, found: Carried) -> list[Evidence]:
        if found.format != "PNG":
            return []
        try:
            hidden = hidden_text(file.data, file.pixels, alpha=found.alpha)
        except StealthRefused as error:
            return [unread("hidden text", str(error))]
        if hidden is None:
            return []
        where, text = hidden
        whole = object_of(text)
        texts = {"parameters": text} if whole is None else {k: v for k, v in whole.items() if isinstance(v, str)}
        said = tool_evidence(texts, f"hidden text in {where}")
        # The mark alone is a generator's: no camera and no editor writes it.
        what = f"a text hidden in the lowest bits of {where}"
        facts = {"length": len(text), "text": visible(text)}
        return said or [evidence("synthetic", "hidden text", what, facts=facts)]


def _moment(at: str) -> datetime | None:
    if not at:
        return None
    try:
        found = datetime.fromisoformat(at)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise BadSetting(f"at: {at!r} is no date-time with offset; write it like 2026-11-22T00:00:00+00:00")
    return found


def _software(found: Carried, packets: Properties, said: list[Evidence]) -> Iterator[Evidence]:
    """The software named in a PNG text or in XMP, where it is a generator that nothing else here has named."""
    known = {item.facts.get("tool") for item in said}
    named = [("PNG text", found.texts.get("Software", "")), *(("XMP", tool) for tool in creator_tools(packets)[:4])]
    for source, value in named:
        tool = generator_named(value)
        if tool and tool not in known:
            known.add(tool)
            facts = {"tool": tool, "value": visible(value)}
            yield evidence("synthetic", source, f"the software named is {tool}: {visible(value)!r}", facts=facts)
