"""The nouns of an audit: a media file, the evidence in it, what detectors make of it, and the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from .line import MediaFacts, Modality

# How the reading of one input ended; each input ends in exactly one of them.
State: TypeAlias = Literal[
    "ok", "ok_with_warning", "unsupported", "truncated", "corrupt", "too_large", "timeout", "oom", "crash", "io_error"
]
STATES: tuple[State, ...] = (
    "ok", "ok_with_warning", "unsupported", "truncated", "corrupt", "too_large", "timeout", "oom", "crash", "io_error",
)  # fmt: skip
READABLE: tuple[State, ...] = ("ok", "ok_with_warning")

EvidenceKind: TypeAlias = Literal[
    "metadata", "c2pa", "watermark", "fingerprint", "likelihood", "inconsistency", "known"
]
# What a piece of evidence speaks for; "unknown": it was looked at and says nothing either way.
Says: TypeAlias = Literal["synthetic", "authentic", "edited", "unknown"]
# strong: a trusted signature over intact content, an exact p-value, a match of a user's list. claim: anyone could have
# written it. hint: compatible with much else.
Strength: TypeAlias = Literal["strong", "claim", "hint"]
Verdict: TypeAlias = Literal["synthetic", "authentic", "uncertain", "unreadable"]


@dataclass(frozen=True)
class Evidence:
    """One thing that a file says or that was found in it, kept apart from all others and never over-read.

    `source` is the reader it comes from, `detail` one sentence for people, `facts` plain JSON for machines. p_value:
    where finding it by chance has a probability.
    """

    kind: EvidenceKind
    says: Says
    strength: Strength
    source: str
    detail: str
    facts: Mapping[str, Any] = field(default_factory=dict)
    p_value: float | None = None


@dataclass(frozen=True)
class MediaFile:
    """One untrusted file inside an isolated process: its bytes, what the magic bytes say it is, what was decoded.

    format: PNG, JPEG, ..., TEXT. pixels: uint8 [H, W, 3] of an image that decoded, text: of a text; else None.
    """

    data: bytes
    format: str
    modality: Modality | None
    facts: MediaFacts | None = None
    pixels: npt.NDArray[np.uint8] | None = None
    text: str | None = None


@runtime_checkable
class Witness(Protocol):
    """Something that reads evidence out of one file; it runs inside an isolated process and needs no network.

    It is made with keyword settings that are plain JSON. `digest` (sha256:...) covers what it looks for: its version,
    its settings, the library it reads with. `testify` says nothing ([]) where it found nothing to say; whatever it
    raises is caught outside and noted as a warning of that file.
    """

    @property
    def name(self) -> str: ...
    @property
    def digest(self) -> str: ...
    def testify(self, file: MediaFile) -> Sequence[Evidence]: ...


@dataclass(frozen=True)
class Opened:
    """How the reading of one file ended, and all that came out of it besides pixels and text.

    stage: where it ended ("read", "sniff", "header", "decode", "witness"; "" when all went well). decoder: name and
    version. hashes: perceptual hashes by name ("pdq", "pdq_quality", "phash"), hex. seconds and peak_bytes are of the
    worker and no part of a record.
    """

    state: State
    stage: str = ""
    reason: str | None = None
    decoder: str = ""
    format: str = ""
    modality: Modality | None = None
    width: int | None = None
    height: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    hashes: Mapping[str, Any] = field(default_factory=dict)
    evidence: tuple[Evidence, ...] = ()
    warnings: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_bytes: int = 0

    @property
    def readable(self) -> bool:
        return self.state in READABLE


@dataclass(frozen=True)
class Opinion:
    """What one detector makes of one file.

    score: natural log-odds of fake; p_fake: as the detector gives it; p_calibrated: at even prior odds, where fakes
    were given to calibrate on; p_value: conformal, against the user's own reals. low, high: its thresholds on p_fake.
    reasons: kind -> sentence, why it is not to be acted on.
    """

    name: str
    digest: str
    trained_on: str
    p_fake: float
    score: float
    low: float
    high: float
    p_calibrated: float | None = None
    p_value: float | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """All that was found of one file before anything was concluded.

    id: its display name, safe to print; name: its bytes as the source has them; position: in the frozen manifest.
    """

    position: int
    id: str
    name: bytes
    sha256: str
    bytes: int
    opened: Opened
    opinions: tuple[Opinion, ...] = ()
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True)
class Ruling:
    """The verdict on one file and the rule that gave it; reasons: kind -> sentence, why it is not decided.

    p_value: of all detectors together; q_value: the smallest false-discovery rate at which it would be flagged;
    flagged: whether it is among the batch's discoveries. conflicts: pieces of evidence that contradict each other.
    """

    verdict: Verdict
    rule: str
    p_fake: float | None = None
    p_value: float | None = None
    q_value: float | None = None
    flagged: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)
    conflicts: tuple[str, ...] = ()
