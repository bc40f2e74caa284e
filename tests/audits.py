"""Audits made by hand: findings with all that a record can hold, and sealed folders of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evalkit.auditing.documents import record_of
from evalkit.auditing.sealing import Seal, seal
from evalkit.types import Evidence, Finding, Opened, Opinion, Ruling

CODE = {"evalkit": "0.1.0", "commit": "c0ffee", "dirty": False, "packages": {"pillow": "11.0.0"}}
HEADER: dict[str, Any] = {
    "frozen": {
        "configuration": "sha256:aa", "manifest": "sha256:bb", "calibration": None,
        "detectors": [{"name": "cnn", "digest": "sha256:dd"}], "code": CODE,
    },
    "started": "2026-01-02T03:04:05Z",
    "finished": "2026-01-02T04:04:05Z",
    "environment": {"python": "3.11.7", "device": "cpu"},
    "statistics": {"fdr": 0.05, "discoveries": 3},
}  # fmt: skip


def finding(position: int = 0, name: bytes = b"", content: bytes = b"", **opened: Any) -> Finding:
    """A readable JPEG with a detector's opinion and a claim in its metadata."""
    name = name or f"upload/{position}.jpg".encode()
    claim = Evidence("metadata", "synthetic", "claim", "provenance", "PNG text names a1111", {"steps": 20})
    fields = {
        "state": "ok", "decoder": "pillow 11.0.0", "format": "JPEG", "modality": "image", "width": 640, "height": 480,
        "facts": {"quality": 90, "tables": "ab12"}, "hashes": {"pdq": "f0" * 32, "pdq_quality": 100},
        "evidence": (claim,), **opened,
    }  # fmt: skip
    opinion = Opinion("cnn", "sha256:dd", "embedded digits", 0.97, 3.476098985, 0.2, 0.8, 0.93, 0.0004)
    return Finding(
        position,
        name.decode("utf-8", "backslashreplace"),
        name,
        hashlib.sha256(content or name).hexdigest(),
        len(content) or 1234,
        Opened(**fields),
        (opinion,),
        (claim, Evidence("known", "unknown", "hint", "hashlist", "a near-duplicate of upload/0.jpg", p_value=0.25)),
    )


FLAGGED = Ruling("synthetic", "discovery", 0.97, 0.0004, 0.002, True)
UNREADABLE = Ruling("unreadable", "unreadable", reasons={"corrupt": "decode: bad marker"})
UNDECIDED = Ruling("uncertain", "undecided", 0.5, 0.4, 0.4, reasons={"between_thresholds": "between its thresholds"})
CLEAR = Ruling("authentic", "detectors_clear", 0.01, 0.9, 0.95)


def records(n: int) -> Iterator[dict[str, Any]]:
    """n records in manifest order, all four verdicts in turn, a name that is no UTF-8 among them."""
    for i in range(n):
        ruling = (FLAGGED, UNDECIDED, UNREADABLE, CLEAR)[i % 4]
        opened = {"state": "corrupt", "stage": "decode", "reason": "bad marker"} if ruling is UNREADABLE else {}
        yield record_of(finding(i, b"caf\xe9/%d.jpg" % i if i == 1 else b"", **opened), ruling)


def sealed(folder: Path, n: int = 8) -> Seal:
    return seal(folder, HEADER, records(n))
