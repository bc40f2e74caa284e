"""C2PA manifests by c2pa-python: whether one fits the file, who signed it, whether that was valid, what it is made of.

Four questions with four answers, never one "valid": the library's validation state is "Invalid" for a certificate that
has run out as it is for changed pixels, and "Valid" where an ingredient's signature is broken (c2pa-rs issues 1609 and
1922). Its status codes (C2PA specification 2.1, section 15) are sorted instead:

    integrity    of the active manifest: signature, claim, assertions and the hash of the file
    signer       trusted: the certificate chains to the anchors given; invalid: no certificate for this, or revoked, or
                 the signature is not by it
    credential   the certificate's period against the time of signing if a trusted time stamp proves it, else against
                 `at`: the library itself asks the clock and cannot be told the time, so its answer to this is not used
    ingredients  faults that the active manifest recorded in its ingredients or that are found in them now

Nothing is fetched: remote manifests, OCSP and every other host are off.
"""

from __future__ import annotations

import importlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from evalkit.types import Evidence
from evalkit.types.audit import Says, Strength

from ._objects import listed, mapping, word
from ._source_types import in_words, says_of, term_of
from ._wording import SENTENCES, evidence, visible

# A superbox's description box with the UUID of a C2PA manifest store: how every container holds one (ISO 19566-5).
BOX = b"jumdc2pa\x00\x11\x00\x10\x80\x00\x00\xaa\x00\x38\x9b\x71"
LONGEST_REPORT, MOST_LISTED, MOST_MANIFESTS = 16 << 20, 32, 256
LOCKED: Mapping[str, Any] = {
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_trust": True},
    "core": {"allowed_network_hosts": [], "max_decompressed_manifest_size_in_mb": 16},
}
# Codes of the active manifest that are no matter of its integrity.
CREDENTIAL_CODES = ("signingCredential.expired", "claimSignature.outsideValidity")
APART = ("signingCredential.", "timeStamp.", "cawg.", "ingredient.", *CREDENTIAL_CODES)
NOT_SIGNED_BY = ("claimSignature.mismatch", "claimSignature.missing")
BOUND = ("assertion.dataHash.match", "assertion.boxesHash.match", "assertion.bmffHash.match")


class Unlooked(Exception):
    """No manifest was read: `sentence` is the key of its fixed words, `found` what there is."""

    def __init__(self, sentence: str, found: str) -> None:
        super().__init__(found)
        self.sentence, self.found = sentence, found


@dataclass(frozen=True)
class Report:
    """What the library says of one file: its own JSON, the certificate's period and the time stamp of the signature."""

    store: Mapping[str, Any]
    certificate: Mapping[str, Any] = field(default_factory=dict)
    stamp: str = ""

    @property
    def label(self) -> str:
        return str(self.store.get("active_manifest", ""))

    @property
    def active(self) -> Mapping[str, Any]:
        return mapping(mapping(self.store.get("manifests")).get(self.label))

    def codes(self, kind: str) -> list[str]:
        """Status codes of the active manifest; kind: success, informational or failure."""
        results = mapping(mapping(self.store.get("validation_results")).get("activeManifest"))
        return [word(mapping(item).get("code")) for item in listed(results.get(kind))]


def has_box(data: bytes) -> bool:
    """Whether a manifest store may be in the bytes; only that, so a search in raw bytes is enough."""
    return BOX in data


class ManifestReader:
    """c2pa-python with one trust list and everything remote locked, made when a first manifest is met."""

    def __init__(self, anchors: str) -> None:
        self._anchors = anchors
        self._context: Any = None

    def read(self, data: bytes) -> Report:
        """Raises Unlooked for whatever keeps a manifest from being read."""
        try:
            library: Any = importlib.import_module("c2pa")
        except (ImportError, OSError, RuntimeError) as error:
            raise Unlooked("reader", "a C2PA manifest") from error
        try:
            if self._context is None:
                trust = {"trust": {"trust_anchors": self._anchors}} if self._anchors else {}
                self._context = library.Context(library.Settings.from_dict({**LOCKED, **trust}))
            with library.Reader(None, io.BytesIO(data), context=self._context) as reader:
                return _report(reader.json(), reader.crjson())
        except library.C2paError.ManifestNotFound as error:
            raise Unlooked("unread", "bytes of a C2PA manifest where no manifest belongs") from error
        except (library.C2paError, ValueError, RecursionError) as error:
            # The bindings have a class for it, and c2pa-rs 0.91 reaches it by the plain one.
            if str(error).startswith("Remote"):
                raise Unlooked("remote", "a C2PA manifest that is named by an address") from error
            what = f"a C2PA manifest that cannot be read ({visible(f'{type(error).__name__}: {error}', 160)})"
            raise Unlooked("unread", what) from error


def _report(plain: str, full: str) -> Report:
    if max(len(plain), len(full)) > LONGEST_REPORT:
        raise ValueError(f"a manifest of {len(plain):,} characters, at most {LONGEST_REPORT:,}")
    store = mapping(json.loads(plain))
    for manifest in listed(mapping(json.loads(full)).get("manifests")):
        if mapping(manifest).get("label") == store.get("active_manifest"):
            signature = mapping(manifest.get("signature"))
            certificate = mapping(mapping(signature.get("certificateInfo")).get("validity"))
            return Report(store, certificate, word(mapping(signature.get("timeStampInfo")).get("timestamp")))
    return Report(store)


def integrity_of(report: Report) -> tuple[str, list[str]]:
    """intact, broken or not_checked, and the codes that speak against it."""
    faults = [code for code in report.codes("failure") if not code.startswith(APART)]
    good = report.codes("success")
    whole = "claimSignature.validated" in good and any(code in good for code in BOUND)
    return "broken" if faults else "intact" if whole else "not_checked", faults


def signer_of(report: Report) -> str:
    """trusted, untrusted or invalid. A trusted certificate counts for nothing where the signature is not by it."""
    bad, good = report.codes("failure"), report.codes("success")
    if any(
        code in NOT_SIGNED_BY or code.startswith(("signingCredential.invalid", "signingCredential.ocsp"))
        for code in bad
    ):
        return "invalid"
    return "trusted" if "signingCredential.trusted" in good else "untrusted"


def credential_of(report: Report, at: datetime, whose: str = "date given") -> tuple[str, str, str]:
    """valid, expired, not_yet or unknown; when that was asked of; and whose time that is."""
    stamped = _time(report.stamp) if "timeStamp.trusted" in report.codes("success") else None
    when, whose = (stamped, "trusted time stamp") if stamped else (at, whose)
    begins, ends = _time(report.certificate.get("notBefore")), _time(report.certificate.get("notAfter"))
    if begins is None or ends is None:
        return "unknown", when.isoformat(), whose
    return "not_yet" if when < begins else "expired" if when > ends else "valid", when.isoformat(), whose


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None


def ingredients_of(report: Report) -> tuple[str, list[str]]:
    """sound, broken or none (no ingredient has a manifest), and the codes of their faults."""
    ingredients = list(_ingredients(report))
    faults = [word(mapping(s).get("code")) for i in ingredients for s in listed(i.get("validation_status"))]
    for delta in listed(mapping(report.store.get("validation_results")).get("ingredientDeltas")):
        results = mapping(mapping(delta).get("validationDeltas"))
        faults += [word(mapping(item).get("code")) for item in listed(results.get("failure"))]
    faults += [code for code in report.codes("failure") if code.startswith("ingredient.")]
    # An ingredient's signer is not on the list: that is no fault in it. Its period was judged by whoever took it up.
    faults = [c for c in dict.fromkeys(faults) if c and not c.startswith(("signingCredential.", "cawg."))]
    if faults:
        return "broken", faults
    return "sound" if any(i.get("active_manifest") for i in ingredients) else "none", []


def _ingredients(report: Report) -> Iterator[Mapping[str, Any]]:
    for manifest in list(mapping(report.store.get("manifests")).values())[:MOST_MANIFESTS]:
        yield from map(mapping, listed(mapping(manifest).get("ingredients")))


def _actions(manifest: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for assertion in listed(manifest.get("assertions")):
        if word(mapping(assertion).get("label")).startswith("c2pa.actions"):
            yield from map(mapping, listed(mapping(assertion.get("data")).get("actions")))


def source_types(manifest: Mapping[str, Any]) -> list[str]:
    """The terms of IPTC's vocabulary that a manifest's actions carry, each once, in order."""
    return list(dict.fromkeys(t for action in _actions(manifest) if (t := term_of(action.get("digitalSourceType")))))


def _inherited(report: Report) -> list[str]:
    """The source types of the manifest that the active one was made from, where it states none itself."""
    manifests, manifest, seen = mapping(report.store.get("manifests")), report.active, {report.label}
    while not (terms := source_types(manifest)):
        parents = [i for i in map(mapping, listed(manifest.get("ingredients"))) if i.get("relationship") == "parentOf"]
        label = str(parents[0].get("active_manifest", "")) if parents else ""
        if not label or label in seen:
            return []
        seen.add(label)
        manifest = mapping(manifests.get(label))
    return terms


def c2pa_evidence(report: Report, at: datetime, whose: str, trust: Mapping[str, Any]) -> Evidence:
    """The one piece of evidence of a manifest that was read; whose: whose date `at` is; trust: of which anchors."""
    integrity, faults = integrity_of(report)
    credential, checked_at, checked_by = credential_of(report, at, whose)
    signer, (ingredients, ingredient_faults) = signer_of(report), ingredients_of(report)
    own, terms = source_types(report.active), _inherited(report)
    facts = {
        "integrity": integrity,
        "signer": signer,
        "credential": credential,
        "ingredients": ingredients,
        **_described(report),
        "digital_source_types": own,
        "inherited_source_types": [] if own else terms,
        "checked_at": checked_at,
        "checked_by": checked_by,
        "faults": faults[:MOST_LISTED],
        "ingredient_faults": ingredient_faults[:MOST_LISTED],
        "trust": dict(trust),
    }
    found = _in_words(facts, terms)
    if integrity != "intact":
        why = ", ".join(faults[:4])
        sentence = "broken" if integrity == "broken" else "unchecked"
        return evidence("unknown", "C2PA", found, sentence, facts=facts, kind="c2pa", why=why)
    doubts = _doubts(facts, trust, inherited=not own and bool(terms))
    strength: Strength = "claim" if doubts else "strong"
    says: Says = says_of(terms)
    sentence = "signed" if doubts else "trusted"
    return evidence(
        says, "C2PA", found, sentence, facts=facts, kind="c2pa", strength=strength, why=" and ".join(doubts)
    )


def _doubts(facts: Mapping[str, Any], trust: Mapping[str, Any], *, inherited: bool) -> list[str]:
    """Why an intact manifest is no more than a claim; [] where it is more."""
    doubts = []
    if facts["signer"] == "invalid":
        doubts.append("its certificate is not one to sign this with")
    elif facts["signer"] != "trusted":
        doubts.append("its signer is not on the trust list" if trust.get("sha256") else "no trust list was given")
    if facts["credential"] != "valid":
        words = {"expired": "had run out", "not_yet": "did not yet hold", "unknown": "has no known period"}
        doubts.append(f"its certificate {words[str(facts['credential'])]} at {facts['checked_at']}")
    if facts["ingredients"] == "broken":
        doubts.append("an ingredient of it is at fault")
    if inherited:
        doubts.append("it is an ingredient's manifest that says so")
    return doubts


def _described(report: Report) -> dict[str, Any]:
    manifest = report.active
    signature = mapping(manifest.get("signature_info"))
    made = [mapping(item) for item in listed(manifest.get("claim_generator_info"))]
    generator = word(manifest.get("claim_generator")) or " ".join(
        " ".join(filter(None, (word(item.get("name")), word(item.get("version"))))) for item in made[:1]
    )
    others = [m for name, m in mapping(report.store.get("manifests")).items() if name != report.label]
    inner = [t for m in others[:MOST_MANIFESTS] for t in source_types(mapping(m))]
    soft = [
        a for a in map(mapping, listed(manifest.get("assertions"))) if word(a.get("label")).startswith("c2pa.soft-")
    ]
    return {
        "issuer": word(signature.get("issuer")),
        "signer_name": word(signature.get("common_name")),
        "claim_generator": generator,
        "manifests": len(mapping(report.store.get("manifests"))),
        "actions": list(dict.fromkeys(word(a.get("action")) for a in _actions(manifest)))[:MOST_LISTED],
        "ingredient_source_types": list(dict.fromkeys(inner))[:MOST_LISTED],
        "soft_bindings": [word(mapping(a.get("data")).get("alg")) for a in soft][:MOST_LISTED],
        "time_stamp": _stamp(report),
        "not_before": word(report.certificate.get("notBefore")),
        "not_after": word(report.certificate.get("notAfter")),
    }


def _stamp(report: Report) -> str:
    """trusted, untrusted, broken or none."""
    codes = [*report.codes("success"), *report.codes("informational"), *report.codes("failure")]
    for code, name in (("timeStamp.trusted", "trusted"), ("timeStamp.validated", "untrusted")):
        if code in codes:
            return name
    return "broken" if any(code.startswith("timeStamp.") for code in codes) else "none"


def _in_words(facts: Mapping[str, Any], terms: list[str]) -> str:
    who, made_by = facts["issuer"] or "an unnamed signer", facts["claim_generator"] or "no generator named"
    by = f"C2PA manifest of {who} ({made_by})"
    what = in_words(terms) if terms else "says nothing of how the file was made"
    soft = (
        f"; names a soft binding ({', '.join(facts['soft_bindings'])}), not decoded" if facts["soft_bindings"] else ""
    )
    return f"{by}: {what}{soft}"


def unlooked_evidence(error: Unlooked, **facts: str) -> Evidence:
    """A manifest that was not read: unknown, with the reason, and all four answers left open."""
    found = {"integrity": "not_checked", "signer": "untrusted", "credential": "unknown", "ingredients": "none"}
    assert error.sentence in SENTENCES
    return evidence(
        "unknown", "C2PA", error.found, error.sentence, facts={**found, **facts}, kind="c2pa", strength="hint"
    )
