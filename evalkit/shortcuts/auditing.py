"""`audit_data`: every trivial rule on a real and a fake set, as given and cleaned; images are the leak audit's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import BadSetting, NothingToEvaluate, TooFewSamples, UsageError
from ..hardware import environment
from ..leakage import LIMIT, leaks
from ..samples import open_samples
from ..types import Excluded, SampleSet, Study
from .choosing import Found, counted, scored
from .cleaning import Cleaned, cleaned
from .openings import OPENING
from .reading import Side, read


@dataclass(frozen=True)
class Crossing:
    """How many texts of a side are copies of a text of a set to learn from, and how many open like one."""

    of: str
    learnt: str
    n: int
    copies: int
    openings: int


@dataclass(frozen=True)
class Pair:
    """The audit of one fake set: as given, and what cleaning left; `again` None, with the reason, where too little.

    copies, openings: fake texts that are copies of a real one, and that open like one.
    """

    name: str
    raw: Found
    left: Cleaned
    again: Found | None
    why: str
    copies: int
    openings: int
    crossings: tuple[Crossing, ...] = ()


def audit_data(
    real: Any,
    fakes: Any,
    *,
    train: Sequence[Any] = (),
    groups: str | None = None,
    limit: float = LIMIT,
    seed: int = 0,
) -> Study:
    """AUROC in [0, 1] of every trivial rule on each fake set against the reals, as given and cleaned, best first.

    real, fakes, train: sources or open sets, fakes a list of them; train: what detectors learn from, whose copies among
    the audited texts are counted. groups: a field that says which texts belong together, where the opening does not.
    `data["over_limit"]` names the sets whose best rule is above `limit` with the lower end of its interval; the rule is
    chosen on one half of the groups and scored on the other. Images: `evalkit.leaks`, the same study. At most 4,000
    texts a side are read. Raises BadSetting, ModalityMismatch, TooFewSamples below 10 readable texts a side,
    NothingToEvaluate where a set has none, UsageError for two sets of one name.
    """
    return audited(real, fakes, train=train, groups=groups, limit=limit, seed=seed)[0]


def audited(
    real: Any,
    fakes: Any,
    *,
    train: Sequence[Any] = (),
    groups: str | None = None,
    limit: float = LIMIT,
    seed: int = 0,
) -> tuple[Study, tuple[Pair, ...]]:
    """`audit_data` with what it is made of; no pairs where the sets hold images."""
    from .study import study_of

    if not 0.5 <= limit < 1:
        raise BadSetting(f"limit {limit}; an AUROC of chance is 0.5, of certainty 1: give 0.5 <= limit < 1")
    genuine = open_samples(real)
    forged = [open_samples(fake, modality=genuine.modality) for fake in _listed(fakes)]
    if genuine.modality != "text":
        if groups is not None or train:
            raise BadSetting("--groups and --train are for texts; the leak audit keeps copies of an image together")
        return leaks(genuine, forged, limit=limit, seed=seed), ()
    learnt = [open_samples(one, modality="text") for one in train]
    names = [one.name for one in forged]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two fake sets are called {twice!r}; rename one")
    own, out, counts = _sides([genuine, *forged], seed, groups)
    lessons = [read(one, seed, most=len(one))[0] for one in learnt]
    pairs = tuple(_pair(own[0], side, lessons, seed) for side in own[1:])
    provenance = {"real": f"{genuine.name} {genuine.digest}", **{f"fake {f.name}": f.digest for f in forged}}
    provenance |= {f"train {one.name}": one.digest for one in learnt}
    provenance |= {key: str(value) for key, value in environment("cpu").items()}
    return study_of(own[0].name, pairs, limit, counts, provenance, out), pairs


def _listed(fakes: Any) -> list[Any]:
    """A list of sources as it is; one source as a list of it. A list of texts is one set."""
    one = isinstance(fakes, str | SampleSet) or not isinstance(fakes, list | tuple)
    given = [fakes] if one else list(fakes)
    if not given:
        raise UsageError("no fake set was given; expected one or more")
    return given


def _sides(
    sets: Sequence[SampleSet], seed: int, groups: str | None
) -> tuple[list[Side], tuple[tuple[str, Excluded], ...], list[dict[str, Any]]]:
    """Of each set what can be read, what cannot, and how many that is of how many."""
    sides, excluded, counts = [], [], []
    for samples in sets:
        side, out = read(samples, seed, groups)
        if not side.texts:
            raise NothingToEvaluate(
                f"no readable text among the {len(samples)} of {samples.name!r}"
                + (f" (first: {out[0].id}: {out[0].reason})" if out else "")
            )
        sides.append(side)
        excluded += [(samples.name, one) for one in out]
        counts.append({"set": samples.name, "n": len(side) + len(out), "unreadable": len(out)})
    return sides, tuple(excluded), counts


def _pair(real: Side, fake: Side, lessons: Sequence[Side], seed: int) -> Pair:
    raw, left, again, why = scored(real, fake, seed=seed), cleaned(real, fake), None, ""
    try:
        again = scored(left.real, left.fake, seed=seed)
    except TooFewSamples as error:
        why = str(error)
    crossings = tuple(_crossing(side, lesson) for side in (real, fake) for lesson in lessons)
    copies, openings = counted(fake.texts, real.texts), counted(_long(fake), _long(real))
    return Pair(fake.name, raw, left, again, why, copies, openings, crossings)


def _long(side: Side) -> list[str]:
    """The openings of the texts that have one whole."""
    words = (text.split() for text in side.texts)
    return [" ".join(text[:OPENING]) for text in words if len(text) >= OPENING]


def _crossing(side: Side, lesson: Side) -> Crossing:
    copies, openings = counted(side.texts, lesson.texts), counted(_long(side), _long(lesson))
    return Crossing(side.name, lesson.name, len(side), copies, openings)
