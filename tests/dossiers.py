"""An audit as its records say it: every verdict, state and kind of evidence, decisions and a seal."""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Iterator
from typing import Any

from evalkit.types import Preview

from .boards import png

SIGNED = "signed by Adobe Inc., on the trust list; says trainedAlgorithmicMedia"
CONFLICT = "a camera's EXIF (Canon EOS R5) on an image that P(fake) 0.97 speaks against"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()


def evidence(kind: str, says: str, strength: str, source: str, detail: str, **facts: Any) -> dict[str, Any]:
    return {
        "kind": kind, "says": says, "strength": strength, "source": source, "detail": detail, "facts": facts,
        "p_value": 1e-7 if kind == "watermark" else None,
    }  # fmt: skip


def opinion(p_fake: float, p_value: float | None, name: str = "univfd") -> dict[str, Any]:
    return {
        "name": name, "digest": f"sha256:{sha(name)}", "trained_on": "ProGAN, 20 classes", "score": 1.25,
        "p_fake": p_fake, "p_calibrated": p_fake, "p_value": p_value, "threshold": [0.2, 0.8],
        "reasons": {"too_small": "its shorter side has 96 pixels, the detector asks for 224"},
    }  # fmt: skip


C2PA = evidence(
    "c2pa", "synthetic", "strong", "provenance", SIGNED,
    integrity="intact", signer_trust="trusted", expiry="valid at signing", ingredients="none",
)  # fmt: skip
CLAIM = evidence("metadata", "synthetic", "claim", "provenance", "Stable Diffusion prompt in PNG text", prompt="a cat")
HINT = evidence("metadata", "unknown", "hint", "provenance", "EXIF software: Photoshop 25.0")
MARK = evidence("watermark", "synthetic", "strong", "dwtdct", "48 of 48 bits of the SDXL payload", bits=48)
KNOWN = evidence("known", "synthetic", "strong", "known", "PDQ distance 6 to list entry 'election-2'", distance=6)
CLASH = evidence("inconsistency", "unknown", "strong", "conflicts", CONFLICT)


def record(position: int, name: str, **parts: Any) -> dict[str, Any]:
    """One `evalkit.audit/1` record, sealed in name only."""
    made = {
        "schema": "evalkit.audit/1", "id": name, "position": position, "sha256": sha(name), "bytes": 48_213,
        "state": "ok", "stage": "", "decoder": "Pillow 12.0", "format": "PNG", "modality": "image", "width": 512,
        "height": 512, "facts": {}, "hashes": {"pdq": "f" * 64, "pdq_quality": 97, "phash": "c" * 16},
        "verdict": "uncertain", "rule": "undecided", "p_fake": None, "p_value": None, "q_value": None,
        "flagged": False, "reasons": {}, "conflicts": [], "threshold": [0.2, 0.8], "detectors": [], "evidence": [],
        "spans": [], "reason": None, "warnings": [], "previous": f"sha256:{sha(str(position))}",
        "hash": f"sha256:{sha(str(position + 1))}",
    }  # fmt: skip
    return {**made, **parts}


def scored(position: int, name: str, p_fake: float, p_value: float, **parts: Any) -> dict[str, Any]:
    found = {"p_fake": p_fake, "p_value": p_value, "q_value": min(1.0, p_value * 20)}
    return record(position, name, **{**found, "detectors": [opinion(p_fake, p_value)], **parts})


def records() -> list[dict[str, Any]]:
    """Twelve files: discoveries, signed, in conflict, known, watermarked, clear, undecided, and three unreadable."""
    between = {"between_thresholds": "P(fake) 0.41 lies between the thresholds 0.2 and 0.8"}
    bad = {"verdict": "unreadable", "rule": "unreadable"}
    return [
        scored(0, "upload/portrait-01.png", 0.991, 0.0004, verdict="synthetic", rule="discovery", flagged=True),
        scored(1, "upload/portrait-02.png", 0.97, 0.0008, verdict="synthetic", rule="discovery", flagged=True,
               evidence=[CLAIM, HINT]),
        record(2, "press/firefly.png", verdict="synthetic", rule="signed_generation", evidence=[C2PA]),
        scored(3, "press/canon.jpg", 0.97, 0.0012, rule="conflict", conflicts=[CONFLICT], evidence=[HINT, CLASH],
               reasons={"conflict": CONFLICT}),
        record(4, "lists/known.png", verdict="synthetic", rule="listed_synthetic", evidence=[KNOWN]),
        record(5, "marks/sdxl.png", verdict="synthetic", rule="watermark", evidence=[MARK]),
        scored(6, "upload/street.jpg", 0.41, 0.31, reasons=between),
        scored(7, "upload/lake.jpg", 0.05, 0.74, verdict="authentic", rule="detectors_clear"),
        record(8, "notes/essay.txt", modality="text", format="TEXT", width=None, height=None, hashes={}),
        record(9, "broken/cut.jpg", **bad, state="truncated", stage="decode", reason="image file is truncated"),
        record(10, "broken/bomb.png", **bad, state="too_large", stage="header", reason="169 Mpx, the limit is 64"),
        record(11, "broken/killer.tif", **bad, state="crash", stage="decode", reason="signal 11"),
    ]  # fmt: skip


def seal(**parts: Any) -> dict[str, Any]:
    """The seal over `records`, with calibration facts and one group of near-duplicates."""
    configuration = {
        "detectors": [{"place": "univfd", "name": "univfd", "digest": f"sha256:{sha('univfd')}"}],
        "calibration": {"file": "calibration.json", "digest": "sha256:ab"}, "fdr": 0.05, "method": "bh",
        "witnesses": [["provenance", {"trust_list": "C2PA-TRUST-LIST.pem"}], ["dwtdct", {}]], "as_of": "2026-11-22",
    }  # fmt: skip
    twins = [{"id": f"upload/portrait-0{k + 1}.png", "position": k, "says": f"PDQ distance {4 * k}"} for k in (0, 1)]
    return {
        "schema": "evalkit.audit-seal/1", "head": f"sha256:{sha('head')}", "count": 12,
        "frozen": {
            "configuration": configuration,
            "code": {"evalkit": "0.9.0", "packages": {"pillow": "12.0.0", "c2pa-python": "0.38.1"}},
        },
        "statistics": {
            "calibration": {"reals": 2400, "fakes": 800, "misses": 0.031},
            "near_duplicates": [{"says": "PDQ distance at most 31", "members": twins}],
        },
        "environment": {"isolation": ["no network", "512 MiB", "10 s"], "python": "3.11.2"},
        "command": "evalkit audit upload --out audit --with univfd",
        **parts,
    }  # fmt: skip


def decisions() -> list[dict[str, Any]]:
    return [
        {"position": 3, "id": "press/canon.jpg", "decision": "authentic", "reason": "raw file supplied by the agency",
         "reviewer": "M. Okafor", "time": "2026-11-22T09:14:00Z", "hash": f"sha256:{sha('d1')}"},
    ]  # fmt: skip


def pictures() -> dict[str, Preview]:
    found = {}
    for one in records()[:8]:
        shade = [[(37 * one["position"] + 9 * a + 5 * b) % 256 for a in range(8)] for b in range(8)]
        small = base64.b64decode(png(shade).partition(",")[2])
        found[one["sha256"]] = Preview(small, small, small if one["position"] == 0 else b"")
    found[records()[8]["sha256"]] = Preview(excerpt="It was a bright cold day in April, and the clocks were striking.")
    return found


def many(n: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """n records of a made-up batch, one after the other: a tenth of the files score as fakes do."""
    rng, usual = random.Random(seed), scored(0, "", 0.5, 0.5, reasons={})
    for position in range(n):
        is_fake = rng.random() < 0.1
        p_value = max(1, round(2401 * rng.random() ** (6 if is_fake else 1))) / 2401
        flagged = p_value < 0.002
        verdict, rule = ("synthetic", "discovery") if flagged else ("uncertain", "undecided")
        name = f"batch/{position:07d}.jpg"
        yield usual | {
            "position": position, "id": name, "sha256": f"{position:064x}", "p_value": p_value, "p_fake": 1 - p_value,
            "verdict": verdict, "rule": rule, "flagged": flagged,
        }  # fmt: skip


# What only certain words mean something in; a spiked text elsewhere would take the record's other parts out of sight.
CHOICES = ("kind", "strength", "says", "state", "verdict", "schema", "modality")


def spiked(value: Any, payload: str, kept: tuple[str, ...] = ()) -> Any:
    """The value with every text replaced by the payload, but under the keys that are kept."""
    if isinstance(value, str):
        return payload
    if isinstance(value, dict):
        return {key: one if key in kept else spiked(one, payload, kept) for key, one in value.items()}
    return [spiked(one, payload, kept) for one in value] if isinstance(value, list) else value


def hostile(payloads: tuple[str, ...]) -> tuple[list[Any], dict[str, Any], list[Any], dict[str, Preview]]:
    """A record made of it for each payload, for every tenth also one wholly; decisions, seal and texts likewise."""
    rich = scored(
        0, "x", 0.9, 0.01, rule="r", conflicts=["x"], warnings=["x"], reasons={"k": "x"}, reason="x",
        facts={"exif": "x"}, evidence=[C2PA, CLAIM, HINT, MARK, KNOWN, CLASH],
    )  # fmt: skip
    found, shown, decided = [], {}, []
    for place, payload in enumerate(payloads):
        for turn, kept in enumerate((CHOICES, ()) if place % 10 == 0 else (CHOICES,)):
            one = spiked(rich, payload, kept) | {"position": 2 * place + turn}
            one["evidence"][1]["facts"] = {payload: payload, "prompt": payload}
            found.append(one)
        shown[payload] = Preview(excerpt=payload, heat_says=payload)
        decided.append(spiked(decisions()[0], payload) | {"position": 2 * place})
    twins = [{"id": payload, "position": 2 * k, "says": payload} for k, payload in enumerate(payloads)]
    head = spiked(seal(), payloads[0], ("schema",)) | {f"k{k}": text for k, text in enumerate(payloads[:140])}
    head["statistics"] = {"near_duplicates": [{"says": text, "members": twins[:3]} for text in payloads]}
    head["not_done"] = list(payloads)
    return found, head, decided, shown
