"""What in one file contradicts what else in it: shown as evidence of kind "inconsistency", never resolved.

| rule | one side | other side |
|---|---|---|
| camera_format | EXIF names a camera | a format that no camera writes: PNG, WebP, GIF, BMP, PPM |
| camera_tables | EXIF names a camera | a JPEG with Pillow's tables (IJG scale) in a size that generators make |
| claim_denied | metadata or C2PA says synthetic | a calibrated detector's P(fake) lies below its low threshold |
| capture_denied | C2PA, signed, says authentic | a calibrated detector's P(fake) lies above its high threshold |
| caption | the caption given | text-image agreement as low as at most 1 % of true pairs have |
| claims | one mark of origin says synthetic | another one says authentic |

A conflict is strong only where both sides are; else it is a hint, and both sides stay in the record as they are.
Neither tables nor size speak alone: every second camera photograph has tables of the IJG scale, from the camera or from
a program that saved it again, and people crop photographs to 1024 x 1024.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ..samples._headers import read_facts
from ..types import Evidence, Finding, Opinion
from .grounds import doubts

SOURCE = "consistency"
# Cameras write JPEG, HEIF, raw formats and, rarely, TIFF.
NO_CAMERA_WRITES = ("PNG", "WEBP", "GIF", "BMP", "PPM")
# Pixel sizes, either way up, of Stable Diffusion 1 and 2, SDXL, FLUX, DALL-E 2 and 3, Titan. Left out are those that
# cameras have as well: 1536 x 1024 and 768 x 512 (small settings), 640 x 512 (thermal ones), 1280 x 768 (telephones).
GENERATED_SIZES = frozenset(
    [(side, side) for side in (256, 512, 768, 1024, 1536, 2048)]
    + [(1152, 896), (1152, 832), (1216, 832), (1344, 768), (1536, 640), (1792, 1024)]
)
# At most this share of true pairs agree as little.
CAPTION_ALPHA = 0.01
ORIGIN = ("metadata", "c2pa", "watermark")


def conflicts(finding: Finding) -> tuple[Evidence, ...]:
    """The contradictions among what was found of one file, by the rules above, in their order; () where there are none.

    It reads `opened.facts`, the evidence and the opinions, and changes none of them.
    """
    evidence = (*finding.evidence, *(e for e in finding.opened.evidence if e not in finding.evidence))
    calibrated = [o for o in finding.opinions if _is_calibrated(o) and not doubts(o)]
    return (
        *_camera(finding.opened.facts),
        *_claim_denied(evidence, calibrated),
        *_capture_denied(evidence, calibrated),
        *_caption(evidence),
        *_claims(evidence),
    )


# ---------------------------------------------------------------------------------------------- rules


def _camera(facts: Mapping[str, Any]) -> Iterator[Evidence]:
    camera, kind = str(facts.get("camera") or ""), str(facts.get("format") or "")
    width, height = facts.get("width") or 0, facts.get("height") or 0
    if not camera:
        return
    seen = {"camera": camera, "format": kind, "width": width, "height": height}
    if kind in NO_CAMERA_WRITES:
        yield _found(
            "camera_format",
            f"EXIF names a camera ({camera!r}); the file is {kind}, which no camera writes but a"
            " program may have carried the EXIF into",
            seen,
        )
    elif kind == "JPEG" and generated_size(width, height) and facts.get("tables") in ijg_tables():
        quality = ijg_tables()[str(facts["tables"])]
        yield _found(
            "camera_tables",
            f"EXIF names a camera ({camera!r}); the JPEG has the tables of a program (IJG quality {quality}) and a size"
            f" that generators make ({width} x {height})",
            {**seen, "tables": facts["tables"], "quality": quality},
        )


def _claim_denied(evidence: tuple[Evidence, ...], opinions: list[Opinion]) -> Iterator[Evidence]:
    claim = next((e for e in evidence if e.kind in ("c2pa", "metadata") and e.says == "synthetic"), None)
    low = [o for o in opinions if o.p_fake < o.low]
    if claim is not None and low:
        yield _found("claim_denied", f"{claim.source} says synthetic; {_scores(low, 'below')}", _between(claim, low))


def _capture_denied(evidence: tuple[Evidence, ...], opinions: list[Opinion]) -> Iterator[Evidence]:
    capture = next((e for e in evidence if e.kind == "c2pa" and e.says == "authentic" and e.strength != "hint"), None)
    high = [o for o in opinions if o.p_fake > o.high]
    if capture is not None and high:
        yield _found(
            "capture_denied",
            f"{capture.source}, signed, says authentic; {_scores(high, 'above')}",
            _between(capture, high),
        )


def _caption(evidence: tuple[Evidence, ...]) -> Iterator[Evidence]:
    for e in evidence:
        p = e.facts.get("p_value") if e.source == "caption" and e.kind != "inconsistency" else None
        if isinstance(p, float | int) and p <= CAPTION_ALPHA:
            said = f"caption and image agree as little as at most {p:.2g} of true pairs do"
            yield _found("caption", said, {"score": e.facts.get("score"), "p_value": p})


def _claims(evidence: tuple[Evidence, ...]) -> Iterator[Evidence]:
    origin = [e for e in evidence if e.kind in ORIGIN]
    synthetic, authentic = (
        min((e for e in origin if e.says == says), key=lambda e: e.strength != "strong", default=None)
        for says in ("synthetic", "authentic")
    )
    if synthetic is None or authentic is None:
        return
    both = synthetic.strength == authentic.strength == "strong"
    said = f"{synthetic.source} ({synthetic.kind}) says synthetic; {authentic.source} ({authentic.kind}) says authentic"
    strengths = {"synthetic": synthetic.strength, "authentic": authentic.strength}
    yield _found("claims", said, {"between": [synthetic.source, authentic.source], **strengths}, strong=both)


# ---------------------------------------------------------------------------------------------- parts


def generated_size(width: int, height: int) -> bool:
    """Whether generators put out images of this many pixels, either way up."""
    return (max(width, height), min(width, height)) in GENERATED_SIZES


@cache
def ijg_tables() -> Mapping[str, int]:
    """`MediaFacts.tables` -> quality, of each JPEG that Pillow writes at quality 1 to 100, in colour and in grey."""
    from PIL import Image

    found: dict[str, int] = {}
    for mode in ("RGB", "L"):
        image = Image.new(mode, (8, 8))
        for quality in range(1, 101):
            file = io.BytesIO()
            image.save(file, "JPEG", quality=quality)
            found.setdefault(str(read_facts(file.getvalue()).tables), quality)
    return found


def _is_calibrated(opinion: Opinion) -> bool:
    return opinion.p_value is not None or opinion.p_calibrated is not None


def _scores(opinions: list[Opinion], side: str) -> str:
    each = (f"{o.name} P(fake) {o.p_fake:.3g}, {side} {o.low if side == 'below' else o.high:.3g}" for o in opinions)
    return ", ".join(each)


def _between(evidence: Evidence, opinions: list[Opinion]) -> dict[str, Any]:
    return {
        "between": [evidence.source, *(o.name for o in opinions)],
        "strength": evidence.strength,
        "p_fake": {o.name: o.p_fake for o in opinions},
    }


def _found(rule: str, detail: str, facts: Mapping[str, Any], *, strong: bool = False) -> Evidence:
    return Evidence("inconsistency", "unknown", "strong" if strong else "hint", SOURCE, detail, {"rule": rule, **facts})
