"""`evalkit.audit` as Python calls it: the command's words as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from ..measurement import Bench
from .requesting import Request
from .running import Audited
from .running import audit as audited

Place: TypeAlias = "str | Path"


def audit(
    paths: Place | Sequence[Place],
    *,
    out: Place,
    detectors: Sequence[Place] = (),
    calibrate: Sequence[Place] = (),
    fake: Sequence[Place] = (),
    fpr: float | None = None,
    confidence: float | None = None,
    fdr: float = 0.05,
    fdr_method: str = "bh",
    attributor: Place | None = None,
    known: Place | None = None,
    captions: str | None = None,
    trust: Place | None = None,
    as_of: str = "",
    believe_claims: bool = False,
    engine: str = "local",
    devices: Sequence[str] = (),
    outputs: Sequence[Place] = (),
    bench: Bench | None = None,
) -> Audited:
    """One verdict a media file under the paths, in the folder `out`; the same call goes on where one was interrupted.

    detectors: model folders, or names of published ones; calibrate, fake: sources of real and fake samples of yours,
    one of each kind; fdr: the expected share of reals among the discoveries. The result has `verdicts()`, `findings` in
    words and the `seal`; the records are in `out/audit.jsonl`. Raises UsageError and its kin before anything is opened,
    Inconclusive with too few calibration reals, NothingToEvaluate without an input, RunFailed when the machine fails.
    """
    asked = Request(
        paths=_places(paths),
        detectors=_places(detectors),
        calibrate=_places(calibrate),
        fake=_places(fake),
        fpr=fpr,
        confidence=confidence,
        fdr=fdr,
        fdr_method=fdr_method,
        attributor=None if attributor is None else str(attributor),
        hashes=None if known is None else str(known),
        captions=captions,
        trust=None if trust is None else str(trust),
        as_of=as_of,
        believe_claims=believe_claims,
    )
    files = [Path(file) for file in outputs]
    return audited(
        asked, Path(out), engine=engine, devices=devices, outputs=files, bench=bench, command="evalkit.audit"
    )


def _places(given: Place | Sequence[Place]) -> tuple[str, ...]:
    """One place or several, as text; a text is one place and no sequence of letters."""
    return tuple(str(one) for one in ((given,) if isinstance(given, str | Path) else given))
