"""Contradictions within one file: each rule fires on its pair, on neither side alone, and on no camera photograph."""

from __future__ import annotations

import io
from dataclasses import asdict

import pytest
from PIL import Image

from evalkit.auditing.conflicts import GENERATED_SIZES, conflicts, generated_size, ijg_tables
from evalkit.errors import UnreadableSample
from evalkit.samples._headers import read_facts
from evalkit.types import Evidence, Finding, Opened, Opinion
from tests.data import shared

SIGNED = Evidence("c2pa", "authentic", "strong", "C2PA", "digitalCapture, signed", {})
CLAIM = Evidence("metadata", "synthetic", "claim", "PNG text", "AUTOMATIC1111 parameters", {})


def finding(*evidence: Evidence, opinions: tuple[Opinion, ...] = (), facts=None, opened=()) -> Finding:
    return Finding(
        0, "a", b"a", "0" * 64, 1, Opened("ok", facts=facts or {}, evidence=opened), opinions, tuple(evidence)
    )


def opinion(p: float, *, calibrated: bool = True, reasons=None) -> Opinion:
    return Opinion(
        "cnn", "sha256:x", "ours", p, 0.0, 0.2, 0.8, p_value=0.5 if calibrated else None, reasons=reasons or {}
    )


def rules(found: Finding) -> list[str]:
    said = conflicts(found)
    assert all((e.kind, e.says) == ("inconsistency", "unknown") and e.detail and "\n" not in e.detail for e in said)
    return [str(e.facts["rule"]) for e in said]


def encoded(kind: str, size: tuple[int, int], make: str | None = "Canon", **options) -> dict:
    """Facts of a picture as Pillow writes it."""
    file, image, exif = io.BytesIO(), Image.new("RGB", size, (90, 120, 30)), Image.Exif()
    if make is not None:
        exif[0x010F] = make
    image.save(file, kind, exif=exif, **options)
    return asdict(read_facts(file.getvalue()))


# ---------------------------------------------------------------------------------------------- the camera's rules


def test_a_camera_in_a_format_that_no_camera_writes():
    for kind in ("PNG", "WEBP"):
        assert rules(finding(facts=encoded(kind, (640, 480)))) == ["camera_format"]
        assert rules(finding(facts=encoded(kind, (640, 480), make=None))) == []
    assert rules(finding(facts=encoded("TIFF", (640, 480)))) == []


@pytest.mark.parametrize("quality", [50, 75, 90, 95, 100])
def test_a_camera_with_a_program_s_tables_in_a_generator_s_size(quality):
    for size in ((1024, 1024), (1344, 768), (768, 1344)):
        assert rules(finding(facts=encoded("JPEG", size, quality=quality))) == ["camera_tables"]
    # Each side alone: the size of a camera, tables of no program, no camera.
    assert rules(finding(facts=encoded("JPEG", (4032, 3024), quality=quality))) == []
    own = {"qtables": [list(range(1, 65)), list(range(2, 66))]}
    assert rules(finding(facts=encoded("JPEG", (1024, 1024), **own))) == []
    assert rules(finding(facts=encoded("JPEG", (1024, 1024), make=None, quality=quality))) == []


def test_the_tables_of_every_quality_are_known_by_the_digest_of_the_header():
    assert sorted(set(ijg_tables().values())) == list(range(1, 101)) and len(ijg_tables()) == 200
    # Two of them as recorded from files of other programs: libjpeg's 75 and 95.
    assert ijg_tables()["cee584acfcd6"] == 75 and ijg_tables()["75faaa4c56b4"] == 95


def test_no_size_of_a_camera_is_called_a_generator_s():
    cameras = [(4032, 3024), (6000, 4000), (1536, 1024), (768, 512), (640, 480), (1600, 1200), (3024, 3024), (640, 512)]
    assert not any(generated_size(*size) or generated_size(*size[::-1]) for size in cameras)
    assert all(w >= h for w, h in GENERATED_SIZES)


def test_no_real_camera_photograph_at_hand_is_in_conflict():
    folders = [shared("data/image/provenance/c2pa"), shared("data/malformed/pillow_odd")]
    seen = 0
    for path in (p for folder in folders for p in sorted(folder.rglob("*")) if p.suffix in (".jpg", ".jpeg", ".mpo")):
        try:
            facts = read_facts(path)
        except UnreadableSample:
            continue
        seen += bool(facts.camera)
        assert rules(finding(facts=asdict(facts))) == [], path.name
    assert seen >= 8


# ---------------------------------------------------------------------------------------------- provenance and scores


def test_a_claim_of_synthesis_that_a_calibrated_detector_denies():
    assert rules(finding(CLAIM, opinions=(opinion(0.1),))) == ["claim_denied"]
    # In between, not calibrated, with a reason not to be acted on, or without the claim: nothing.
    for given in (opinion(0.2), opinion(0.5), opinion(0.9), opinion(0.1, calibrated=False)):
        assert rules(finding(CLAIM, opinions=(given,))) == []
    assert rules(finding(CLAIM, opinions=(opinion(0.1, reasons={"too_small": "32 px"}),))) == []
    assert rules(finding(opinions=(opinion(0.1),))) == []
    said = conflicts(finding(CLAIM, opinions=(opinion(0.1),)))[0]
    assert said.strength == "hint" and said.facts["p_fake"] == {"cnn": 0.1} and "below 0.2" in said.detail


def test_a_signed_capture_that_a_calibrated_detector_denies():
    assert rules(finding(SIGNED, opinions=(opinion(0.9),))) == ["capture_denied"]
    assert rules(finding(SIGNED, opinions=(opinion(0.8),))) == []
    assert rules(finding(SIGNED, opinions=(opinion(0.9, calibrated=False),))) == []
    exif = Evidence("metadata", "authentic", "hint", "EXIF", "a camera", {})
    assert rules(finding(exif, opinions=(opinion(0.9),))) == []


def test_two_marks_of_origin_that_contradict_each_other():
    (said,) = conflicts(finding(SIGNED, CLAIM))
    assert said.facts["rule"] == "claims" and said.strength == "hint"
    assert said.facts["between"] == ["PNG text", "C2PA"]
    mark = Evidence("watermark", "synthetic", "strong", "dwtdct", "48 of 48", {})
    # The stronger side is named, and only two strong ones make a strong conflict.
    (said,) = conflicts(finding(CLAIM, SIGNED, mark))
    assert said.strength == "strong" and said.facts["between"] == ["dwtdct", "C2PA"]
    assert rules(finding(CLAIM)) == rules(finding(SIGNED)) == rules(finding()) == []
    known = Evidence("known", "authentic", "strong", "list", "same bytes", {})
    assert rules(finding(CLAIM, known)) == []


def test_evidence_of_the_worker_counts_once():
    assert rules(finding(CLAIM, opened=(SIGNED, CLAIM))) == ["claims"]
    assert rules(finding(opened=(SIGNED, CLAIM))) == ["claims"]


def test_a_caption_that_agrees_less_than_true_pairs_do():
    def caption(p):
        return Evidence("likelihood", "unknown", "hint", "caption", "agreement", {"score": 0.11, "p_value": p})

    (said,) = conflicts(finding(caption(0.01)))
    assert said.facts == {"rule": "caption", "score": 0.11, "p_value": 0.01}
    for other in (caption(0.011), caption(None), Evidence("metadata", "unknown", "hint", "caption", "x", {})):
        assert rules(finding(other)) == []
    elsewhere = Evidence("likelihood", "unknown", "hint", "cnn", "x", {"p_value": 0.0})
    assert rules(finding(elsewhere)) == []


def test_nothing_of_the_finding_is_changed_and_all_rules_may_fire_at_once():
    found = finding(SIGNED, CLAIM, opinions=(opinion(0.9), opinion(0.1)), facts=encoded("PNG", (8, 8)))
    before = repr(found)
    assert rules(found) == ["camera_format", "claim_denied", "capture_denied", "claims"]
    assert repr(found) == before and conflicts(found) == conflicts(found)
