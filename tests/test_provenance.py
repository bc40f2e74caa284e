"""Provenance of real files: C2PA in four answers, with and without a trust list; texts of generators against an oracle.

What is said of a certificate depends on a trust list and a date, so both are fixed: the list in the data, 22 November
2026, the day on which the expected answers were recorded.
"""

from __future__ import annotations

import hashlib
import json
import socket
import sys

import pytest

from detectors.provenance import Provenance
from evalkit import registry
from evalkit.errors import BadSetting
from evalkit.types import Evidence, MediaFile, Witness
from tests.data import shared
from tests.marked import BEGINS, ENDS, Signer, jpeg_xmp, opened, pixels, xmp

AT = "2026-11-22T00:00:00+00:00"
NEEDS = "c2pa-python (extra provenance) is not installed"
# Faults that the flat list of codes in the expected answers does not place: in the file's own manifest, or deeper.
BROKEN = {"E-clm-CAICAI", "E-dat-CA", "E-sig-CA", "E-uri-CA", "XCA"}
BROKEN_INSIDE = {"E-clm-CAICAI", "CIE-sig-CA", "E-uri-CIE-sig-CA"}
WITH_INGREDIENTS = {"CACA", "photoshop_compositeWithTrainedAlgorithmicMedia"}
SAYS = {
    "amazon-titan-g1": "synthetic",
    "chatgpt-synthid-2": "synthetic",
    "firefly-1": "synthetic",
    "flux-1": "synthetic",
    "c2papy_C": "synthetic",
    "c2papy_file_with_wrong_extension.xyz": "synthetic",
    "c2papy_C_with_CAWG_data": "authentic",
    "photoshop_compositeWithTrainedAlgorithmicMedia": "edited",
}


@pytest.fixture(scope="module")
def signer() -> Signer:
    pytest.importorskip("c2pa", reason=NEEDS)
    return Signer()


def of_kind(said: list[Evidence], kind: str = "c2pa") -> list[Evidence]:
    return [item for item in said if item.kind == kind]


def manifest_of(witness: Provenance, data: bytes) -> Evidence:
    (found,) = of_kind(witness.testify(opened(data)))
    return found


def four(found: Evidence) -> tuple[str, str, str, str]:
    return tuple(found.facts[name] for name in ("integrity", "signer", "credential", "ingredients"))


@pytest.mark.parametrize("listed", [False, True], ids=["no_trust_list", "official_trust_list"])
def test_every_manifest_gives_the_four_answers_that_were_recorded(listed: bool) -> None:
    pytest.importorskip("c2pa", reason=NEEDS)
    folder = shared("data", "image", "provenance")
    anchors = (folder / "trust" / "C2PA-TRUST-LIST.pem").read_text() if listed else ""
    witness = Provenance(anchors=anchors, anchors_name="C2PA", anchors_date="2026-11", at=AT)
    key = "official_trust_list" if listed else "no_trust_list"
    expected = json.loads((folder / "expected_c2pa.json").read_text())["files"]
    assert len(expected) == 26
    for name, entry in expected.items():
        data = (folder / name).read_bytes()
        assert hashlib.sha256(data).hexdigest() == entry["sha256"]
        found = of_kind(witness.testify(MediaFile(data, "", "image")))
        if "error" in entry[key]:
            assert found == [], name
            continue
        (one,) = found
        stem = name.partition("/")[2].rpartition(".")[0].removeprefix("adobe-20220124-")
        codes = entry[key]["codes"]
        signature = "invalid" if "claimSignature.mismatch" in codes else "untrusted"
        inside = "broken" if stem in BROKEN_INSIDE else "sound" if stem in WITH_INGREDIENTS else "none"
        assert four(one) == (
            "broken" if stem in BROKEN else "intact",
            "trusted" if entry[key]["state"] == "Trusted" else signature,
            "expired" if "signingCredential.expired" in codes else "valid",
            inside,
        ), name
        assert one.says == SAYS.get(stem, "unknown"), name
        assert one.strength == ("strong" if entry[key]["state"] == "Trusted" else "claim"), name
        assert one.facts["issuer"] == entry["issuer"] and one.facts["manifests"] == entry["manifests"]
        assert one.facts["claim_generator"].startswith(entry["generator"])
        types = {*one.facts["digital_source_types"], *one.facts["ingredient_source_types"]}
        assert types == set(entry["digitalSourceType"])
        assert entry[key]["state"] not in one.detail, "the library's one state is none of ours"


def test_the_generators_without_a_manifest_are_claims_and_one_picture_says_nothing() -> None:
    folder = shared("data", "image", "provenance", "ai_generators")
    witness = Provenance(at=AT)
    grok = witness.testify(opened((folder / "grok-1.jpg").read_bytes()))
    assert [(e.source, e.says, e.strength, e.facts["tool"]) for e in grok] == [
        ("EXIF", "synthetic", "claim", "xAI Grok")
    ]
    source, text = witness.testify(opened((folder / "mj-1.png").read_bytes()))
    assert source.facts == {"digital_source_types": ["trainedAlgorithmicMedia"]} and source.says == "synthetic"
    assert text.facts["tool"] == "Midjourney" and text.facts["model"] == "v 5.2"
    assert text.facts["job"] == "2b6e053b-9a65-4ca9-9e13-b6f4465164d4" and text.facts["prompt_length"] == 155
    assert witness.testify(opened((folder / "adobe-trustmark-p.png").read_bytes())) == []


def test_the_texts_of_every_tool_agree_with_an_independent_reader() -> None:
    parsers = pytest.importorskip("sd_parsers", reason="sd-parsers (extra test) is not installed")
    reader = parsers.ParserManager(eagerness=parsers.Eagerness.EAGER)
    witness, seen = Provenance(at=AT), set()
    for path in sorted(shared("data", "image", "sd_metadata").glob("*/*")):
        try:
            told = reader.parse(path)
        except Exception:
            told = None
        said = witness.testify(opened(path.read_bytes()))
        if told is None:
            assert said == [], path.name
            continue
        (one,) = said
        seen.add(one.facts["tool"])
        assert one.facts["tool"].casefold() == told.generator.name.casefold(), path.name
        assert one.says == "synthetic" and one.strength == "claim" and one.kind == "metadata"
        samplers = {one.facts["sampler"], *one.facts.get("samplers", [])}
        seeds = {one.facts["seed"], *one.facts.get("seeds", [])}
        models = {one.facts.get("model", ""), *one.facts.get("models", [])}
        assert samplers == {sampler.name for sampler in told.samplers}, path.name
        assert {str(s.parameters["seed"]) for s in told.samplers if s.parameters.get("seed") is not None} <= seeds
        for model in told.models:
            assert any(ours.startswith(model.name) for ours in models), path.name
    assert seen == {"AUTOMATIC1111", "ComfyUI", "Fooocus", "InvokeAI", "NovelAI"}


@pytest.mark.parametrize(
    ("types", "says"),
    [
        (["trainedAlgorithmicMedia"], "synthetic"),
        (["digitalCapture"], "authentic"),
        (["compositeWithTrainedAlgorithmicMedia"], "edited"),
        (["digitalCapture", "trainedAlgorithmicMedia"], "edited"),
        (["digitalCreation"], "unknown"),
    ],
)
def test_only_a_trusted_signature_is_strong_and_the_source_type_says_for_what(signer, types, says) -> None:
    data = signer.sign(*types)
    trusted = manifest_of(Provenance(anchors=signer.anchors, at=AT), data)
    assert four(trusted) == ("intact", "trusted", "valid", "none")
    assert (trusted.says, trusted.strength) == (says, "strong") and "on the trust list" in trusted.detail
    stranger = manifest_of(Provenance(anchors=Signer().anchors, at=AT), data)
    assert four(stranger)[1] == "untrusted" and (stranger.says, stranger.strength) == (says, "claim")
    without = manifest_of(Provenance(at=AT), data)
    assert without.strength == "claim" and "no trust list was given" in without.detail


def test_a_changed_pixel_or_signature_makes_a_manifest_no_evidence_whoever_signed(signer) -> None:
    witness = Provenance(anchors=signer.anchors, at=AT)
    data = signer.sign("trainedAlgorithmicMedia", array=pixels(3))
    place = data.rindex(b"IDAT") + 40
    changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    found = manifest_of(witness, changed)
    assert found.facts["integrity"] == "broken" and found.facts["faults"] == ["assertion.dataHash.mismatch"]
    assert (found.says, found.strength) == ("unknown", "claim") and "no evidence of intent" in found.detail
    assert found.facts["signer"] == "trusted", "who signed is another question"
    claim = data.index(b"c2pa.created")
    forged = manifest_of(witness, data[:claim] + b"c2pa.creaTed" + data[claim + 12 :])
    assert forged.facts["integrity"] == "broken" and forged.says == "unknown"


def test_a_period_is_asked_of_the_date_given_and_a_result_holds_no_other(signer) -> None:
    data = signer.sign("digitalCapture")
    for year, credential in ((BEGINS.year - 1, "not_yet"), (2026, "valid"), (ENDS.year + 1, "expired")):
        at = f"{year}-06-01T00:00:00+00:00"
        found = manifest_of(Provenance(anchors=signer.anchors, at=at), data)
        assert found.facts["credential"] == credential and found.facts["signer"] == "trusted"
        assert found.strength == ("strong" if credential == "valid" else "claim") and found.says == "authentic"
        assert (found.facts["checked_at"], found.facts["checked_by"]) == (at, "date given")
    today = manifest_of(Provenance(anchors=signer.anchors), data)
    assert today.facts["checked_by"] == "this machine's date" and today.facts["checked_at"].endswith("T00:00:00+00:00")


def test_a_camera_of_2022_was_valid_in_its_year_and_a_time_stamp_outranks_the_date() -> None:
    pytest.importorskip("c2pa", reason=NEEDS)
    folder = shared("data", "image", "provenance")
    nikon = (folder / "c2pa" / "nikon-20221019-building.jpeg").read_bytes()
    assert manifest_of(Provenance(at="2022-10-19T00:00:00+00:00"), nikon).facts["credential"] == "valid"
    assert manifest_of(Provenance(at=AT), nikon).facts["credential"] == "expired"
    titan = manifest_of(Provenance(at=AT), (folder / "ai_generators" / "amazon-titan-g1.png").read_bytes())
    assert titan.facts["not_after"] < AT and titan.facts["credential"] == "valid"
    assert titan.facts["checked_by"] == "trusted time stamp" and titan.facts["time_stamp"] == "trusted"


def test_a_soft_binding_is_named_and_an_ingredient_speaks_only_as_a_claim(signer) -> None:
    witness = Provenance(anchors=signer.anchors, at=AT)
    parent = signer.sign("trainedAlgorithmicMedia", soft="com.adobe.trustmark.P")
    bound = manifest_of(witness, parent)
    assert bound.facts["soft_bindings"] == ["com.adobe.trustmark.P"] and "not decoded" in bound.detail
    child = manifest_of(witness, signer.sign(parent=parent))
    assert four(child) == ("intact", "trusted", "valid", "sound")
    assert child.facts["inherited_source_types"] == ["trainedAlgorithmicMedia"]
    assert (child.says, child.strength) == ("synthetic", "claim")


def test_without_the_library_a_manifest_is_said_to_be_unread_and_nothing_else_changes(signer, monkeypatch) -> None:
    data = signer.sign("trainedAlgorithmicMedia")
    monkeypatch.setitem(sys.modules, "c2pa", None)
    found = manifest_of(Provenance(at=AT), data)
    assert found.says == "unknown" and "evalkit[provenance]" in found.detail
    assert four(found) == ("not_checked", "untrusted", "unknown", "none")
    assert Provenance(at=AT).testify(opened(jpeg_xmp(xmp()))) == []


def test_a_remote_manifest_is_named_and_never_fetched(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    packet = xmp('dcterms:provenance="http://127.0.0.1:9/manifest.c2pa"')
    found = manifest_of(Provenance(at=AT), jpeg_xmp(packet))
    assert found.says == "unknown" and "remote, not fetched" in found.detail
    assert found.facts["remote"] == "http://127.0.0.1:9/manifest.c2pa" and found.facts["integrity"] == "not_checked"
    inside = xmp('dcterms:provenance="self#jumbf=c2pa/urn:uuid:1"')
    assert Provenance(at=AT).testify(opened(jpeg_xmp(inside))) == []


def test_the_library_asked_for_a_remote_manifest_opens_no_connection() -> None:
    library = pytest.importorskip("c2pa", reason=NEEDS)
    from detectors._c2pa import ManifestReader, Unlooked

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/m.c2pa"
        with pytest.raises(Unlooked, match="named by an address") as found:
            ManifestReader("").read(jpeg_xmp(xmp(f'dcterms:provenance="{address}"')))
        assert found.value.sentence == "remote" and library
        with pytest.raises(TimeoutError):
            server.accept()


def test_a_witness_is_made_of_plain_settings_and_its_digest_covers_them(signer) -> None:
    witness = registry.detectors.get("provenance")()
    assert isinstance(witness, Witness) and witness.name == "provenance" and witness.digest.startswith("sha256:")
    settings = [{}, {"at": AT}, {"anchors": signer.anchors}, {"anchors": signer.anchors, "anchors_date": "2026-11"}]
    assert len({Provenance(**each).digest for each in settings}) == 4
    assert Provenance(at=AT).digest == Provenance(at=AT).digest
    for wrong in ({"at": "2026-11-22"}, {"at": "soon"}, {"anchors": "a list"}):
        with pytest.raises(BadSetting):
            Provenance(**wrong)
