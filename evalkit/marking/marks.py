"""Marks that a file may carry, found by witnesses or by a watermark key, and the layers that they make up.

Evidence counts as a layer where it says that the file was generated or edited by a generator, and more than as a hint:
a signed manifest that does not say so, a camera's EXIF, or a payload of which too few bits match, is no mark. What it
was signed with is told apart: `trusted` is signed metadata that its reader calls strong, an intact manifest of a signer
on the trust list.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from .. import registry
from ..errors import BadSetting, UnknownName
from ..types.audit import Evidence, MediaFile, Witness
from ..types.line import Modality, SampleSet
from ..watermarking import WatermarkKey, read_key
from .embedding import payload_of

# Of every file; a watermark is a layer of its own by the name of what found it.
LAYERS: Mapping[str, str] = MappingProxyType(
    {
        "trusted": "signed metadata, intact, of a signer on the trust list",
        "signed": "signed metadata (C2PA)",
        "unsigned": "unsigned metadata (IPTC source type, PNG text, AIGC label)",
        "metadata": "metadata of either kind",
        "watermark": "an imperceptible watermark",
        "both": "metadata and a watermark",
    }
)
# Detectors of text watermarks -> the schemes of the keys that they read.
TEXT_MARKS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"kgw": ("kgw", "kgw_selfhash"), "synthid": ("synthid",), "exp_watermark": ("exp",)}
)
USUAL: tuple[str, ...] = ("provenance", "dwtdct")
NOTES = "set.json"
# What a payload given by the user is called among those that a witness knows.
OWN = "own"


class Mark(Protocol):
    """Something that looks for marks in one file: a witness, or a text watermark's key."""

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def testify(self, file: MediaFile) -> Sequence[Evidence]: ...


@dataclass(frozen=True)
class KeyedText:
    """A text watermark under its key: found where the exact p-value is below the key's `fpr`."""

    name: str
    key: WatermarkKey

    @property
    def digest(self) -> str:
        return self.key.digest

    def testify(self, file: MediaFile) -> Sequence[Evidence]:
        """One piece of evidence where the mark is found; none for images and for texts with too few tokens."""
        if file.text is None:
            return ()
        found = self.key.examine(file.text)
        if found.n < self.key.least_tokens or found.p >= self.key.fpr:
            return ()
        detail = f"the watermark {self.key.name} in {found.n} scored tokens, p = {found.p:.3g}"
        facts = {"z": found.z, "tokens": found.n}
        return (Evidence("watermark", "synthetic", "strong", self.name, detail, facts, found.p),)


def layers_of(evidence: Iterable[tuple[str, Evidence]]) -> frozenset[str]:
    """The layers that pieces of evidence, each with the name of the mark that gave it, make up."""
    found: set[str] = set()
    for mark, one in evidence:
        if one.says not in ("synthetic", "edited") or one.strength == "hint":
            continue
        if one.kind == "c2pa":
            found |= {"signed", "metadata"} | ({"trusted"} if one.strength == "strong" else set())
        elif one.kind == "metadata":
            found |= {"unsigned", "metadata"}
        elif one.kind == "watermark":
            found |= {"watermark", mark}
    return frozenset(found | ({"both"} if {"metadata", "watermark"} <= found else set()))


# ---------------------------------------------------------------------------------------------- from names


def marks_of(
    names: Sequence[str],
    payloads: Mapping[str, str],
    samples: SampleSet,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[Mark, ...]:
    """What to look for in a set: the marks of these names, or the usual ones and those its set.json tells of.

    payloads: of a watermark by name, in hexadecimal digits; settings: of a witness by name, its keywords. A text mark
    is `kgw:KEY.json`, or `kgw` with the key in set.json. Raises UnknownName, BadSetting for a part that is no witness
    or for texts without any key.
    """
    notes = _notes(samples)
    told = {str(k): str(v) for k, v in dict(notes.get("marks", {})).items()} if samples.modality == "image" else {}
    known = {**told, **payloads}
    wanted = list(dict.fromkeys(names)) or _usual(samples.modality, notes, known)
    if strangers := [name for name in payloads if name not in wanted]:
        raise BadSetting(f"--payload {strangers[0]}=...: that mark is not looked for; add it to --marks")
    if strangers := [name for name in settings or {} if name not in wanted]:
        raise BadSetting(f"settings of {strangers[0]} were given and that mark is not looked for; add it to --marks")
    made = tuple(_made(name, known.get(name), samples, (settings or {}).get(name, {})) for name in wanted)
    if taken := [mark.name for mark in made if mark.name in LAYERS]:
        raise BadSetting(f"a mark is called {taken[0]!r}, which is the name of a layer; register it by another name")
    return made


def _usual(modality: Modality, notes: Mapping[str, Any], known: Mapping[str, str]) -> list[str]:
    if modality == "image":
        return list(dict.fromkeys((*USUAL, *known)))
    scheme = dict(notes.get("watermark", {})).get("scheme")
    name = next((n for n, schemes in TEXT_MARKS.items() if scheme in schemes), None)
    if name is None:
        raise BadSetting(
            "there is no watermark key beside the texts (set.json); give one: --marks kgw:KEY.json, synthid:KEY.json or"
            " exp_watermark:KEY.json"
        )
    return [name]


def _made(name: str, payload: str | None, samples: SampleSet, settings: Mapping[str, Any]) -> Mark:
    stem, _, variant = name.partition(":")
    if stem in TEXT_MARKS:
        key = read_key(variant or Path(getattr(samples, "source", "") or ".") / NOTES)
        if key.name not in TEXT_MARKS[stem]:
            raise BadSetting(f"{name}: a key of the scheme {key.name!r}; expected {' or '.join(TEXT_MARKS[stem])}")
        return KeyedText(stem, key)
    if name not in registry.detectors:
        raise UnknownName("mark", name, [*registry.detectors.names(), *TEXT_MARKS])
    own = {} if payload is None else {"payloads": {OWN: payload_of(payload).hex()}}
    part = registry.detectors.get(name)
    if not hasattr(part, "testify"):
        raise BadSetting(f"{name!r} is a detector and reads no marks; give a witness, such as {', '.join(USUAL)}")
    made = part(**settings, **own)
    assert isinstance(made, Witness)
    return made


def _notes(samples: SampleSet) -> Mapping[str, Any]:
    """What the set.json beside the samples says; nothing where there is none to read."""
    source = getattr(samples, "source", "")
    try:
        found = json.loads((Path(source) / NOTES).read_text("utf-8")) if source else {}
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
