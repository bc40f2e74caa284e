"""What stands beside a detector's number: the best trivial rule on the texts it judged, as given and cleaned.

Of images it is the leak audit's AUC of container facts, the same as `evalkit leaks` gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..errors import EvalkitError, TooFewSamples, UsageError
from ..leakage import leak_auc
from ..samples import ListedSet, select
from ..samples.arrays import from_texts
from ..types import Excluded, SampleSet
from .choosing import Best, scored
from .cleaning import STEPS, cleaned
from .reading import MOST, Side, read
from .study import plain_auc, plain_best

CLEAN = "cleaned"


@dataclass(frozen=True)
class Beside:
    """The best rule as given and cleaned, each None with its reason where there is no number."""

    raw: Best | None
    again: Best | None
    why: str = ""
    why_again: str = ""


def beside(real: SampleSet, fake: SampleSet, *, seed: int = 0, most: int = MOST) -> Beside:
    """The best trivial rule on two sets of texts, of which at most `most` are read; ModalityMismatch for images."""
    sides = read(real, seed, most=most)[0], read(fake, seed, most=most)[0]
    left = cleaned(*sides)
    raw, why = _best(*sides, seed)
    again, why_again = _best(left.real, left.fake, seed)
    return Beside(raw, again, why, why_again)


def _best(real: Side, fake: Side, seed: int) -> tuple[Best | None, str]:
    try:
        found = scored(real, fake, seed=seed)
    except TooFewSamples as error:
        return None, str(error)
    return found.best, found.why


def shortcut_of(samples: SampleSet, labels: Sequence[str | None], *, seed: int = 0) -> dict[str, Any] | None:
    """What trivial rules, or container facts, tell of judged samples, as JSON; None unless both sides are known.

    labels: real, fake or None of each sample.
    """
    real, fake = (select(samples, [i for i, label in enumerate(labels) if label == side]) for side in ("real", "fake"))
    if not len(real) or not len(fake):
        return None
    if samples.modality != "text":
        try:
            auc = leak_auc(real, fake, seed)
        except EvalkitError as error:
            return {"kind": "container facts", "none": str(error)}
        if auc is None:
            return None
        return {"kind": "container facts", **plain_auc(auc, len(real), len(fake))}
    found = beside(real, fake, seed=seed)
    return {
        "kind": "trivial rule",
        **({"none": found.why} if found.raw is None else plain_best(found.raw)),
        CLEAN: {"none": found.why_again} if found.again is None else plain_best(found.again),
    }


def shortcut_lines(found: Mapping[str, Any] | None) -> Iterator[str]:
    """One sentence on the samples as given and, of texts, one on them cleaned; without their full stops."""
    if found is None:
        return
    if found["kind"] == "container facts":
        yield f"before any detector: AUC of container facts alone {_number(found)}"
        return
    yield f"before any detector: {_rule(found)}"
    yield f"before any detector, on cleaned texts: {_rule(found[CLEAN])}"


def _rule(found: Mapping[str, Any]) -> str:
    if "none" in found:
        return f"no trivial rule was scored: {found['none']}"
    n = found["n"]
    return (
        f"the best trivial rule, {found['says']!r} ({found['fakes_have']} in the fakes), has AUROC {_number(found)}"
        f" ({n['real']} real, {n['fake']} fake)"
    )


def _number(found: Mapping[str, Any]) -> str:
    return (
        f"no number: {found['none']}"
        if "none" in found
        else (f"{found['auc']:.3f} [{found['low']:.3f}, {found['high']:.3f}]")
    )


def cleaned_sets(real: SampleSet, fake: SampleSet, *, seed: int = 0) -> tuple[ListedSet, ListedSet, str]:
    """Both sets with their texts cleaned against each other, ids kept, and in words what that left of them.

    Samples that cannot be read stay in their set, so that whoever reads it lists them. Raises ModalityMismatch unless
    both hold texts, TooFewSamples where cleaning leaves nothing of a side.
    """
    (one, unread), (other, also) = (read(side, seed, most=len(side)) for side in (real, fake))
    left = cleaned(one, other)
    said = f"{len(left.real)} of {len(one)} real and {len(left.fake)} of {len(other)} fake texts are left by --clean"
    return _as_set(left.real, real, unread), _as_set(left.fake, fake, also), f"{said}: {STEPS}"


def cleaned_samples(samples: SampleSet, labels: Sequence[str | None], *, seed: int = 0) -> tuple[ListedSet, str]:
    """The samples of known truth, cleaned, reals first, and what is left in words.

    Raises UsageError unless both sides are known, and what `cleaned_sets` raises.
    """
    parts = [select(samples, [i for i, label in enumerate(labels) if label == side]) for side in ("real", "fake")]
    if not all(map(len, parts)):
        raise UsageError("--clean cuts both sides alike: give texts of both and --truth FILE that says which is which")
    real, fake, words = cleaned_sets(parts[0], parts[1], seed=seed)
    return ListedSet(f"{samples.name} ({CLEAN})", "text", (*real.samples, *fake.samples)), words


def _as_set(side: Side, whole: SampleSet, unread: Sequence[Excluded]) -> ListedSet:
    if not side.texts:
        raise TooFewSamples(f"cleaning leaves no text of {side.name!r}; see evalkit audit-data")
    listed = from_texts(side.texts, f"{side.name} ({CLEAN})")
    named = [replace(sample, id=own) for sample, own in zip(listed.samples, side.ids, strict=True)]
    lost = {one.id for one in unread}
    return replace(listed, samples=(*named, *(sample for sample in whole if sample.id in lost)))
