"""One check of a generator's marks, from its outputs to the study: planned, looked through, answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import BadSource
from ..hardware import environment
from ..measurement import Bench
from ..samples import select, some
from ..types import SampleSet, Study
from .asking import answered, required, survived
from .marks import marks_of
from .passages import passages_of
from .study import as_study
from .surveying import surveyed


def checked(
    outputs: SampleSet,
    real: SampleSet | None = None,
    *,
    marks: Sequence[str] = (),
    payloads: Mapping[str, str] | None = None,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    chains: Sequence[str] = (),
    requires: Sequence[str] = (),
    survives: Sequence[str] = (),
    n: int | None = None,
    seed: int = 0,
    bench: Bench | None = None,
    command: str = "evalkit marking",
) -> Study:
    """Which layers of marks the outputs carry, which chains they outlive, and whether what was asked for holds.

    Everything is looked up before a file is read. Chains that --survive names are run though --chains leaves them out.
    settings: of a witness by name, its keywords. n: at most so many files a side. Raises UnknownName, BadSetting,
    BadSource where outputs are among the reals, NothingToEvaluate.
    """
    bench = bench or Bench()
    looked_for = marks_of(marks, payloads or {}, outputs, settings)
    names = [mark.name for mark in looked_for]
    passages = passages_of(chains, outputs.modality)
    also = [text.partition("=")[2].partition(":")[0] for text in survives]
    known = {p.name for p in passages}
    passages += tuple(
        p for p in passages_of([x for x in also if x] or ["copy"], outputs.modality) if p.name not in known
    )
    asks = (*required(requires, names), *survived(survives, names, [p.name for p in passages]))
    if real is not None and (same := {s.digest for s in real} & {s.digest for s in outputs}):
        first = next(s.id for s in outputs if s.digest in same)
        raise BadSource(f"{len(same)} of the outputs are among the reals (first: {first!r}); give sets that share none")
    found = surveyed(_some(outputs, n, seed), looked_for, passages, seed, bench)
    alarms = None if real is None else surveyed(_some(real, n, seed), looked_for, passages, seed, bench)
    answers = [answered(ask, found, alarms) for ask in asks]
    digests = {mark.name: mark.digest for mark in looked_for}
    facts = {
        "outputs": f"{outputs.name} {outputs.digest}",
        "seed": str(seed),
        **{f"mark {k}": v for k, v in digests.items()},
    }
    if real is not None:
        facts["real"] = f"{real.name} {real.digest}"
    facts = {"command": command, **facts, **{key: str(v) for key, v in environment(bench.device).items()}}
    return as_study(found, alarms, passages, answers, digests, facts)


def _some(samples: SampleSet, n: int | None, seed: int) -> SampleSet:
    return samples if n is None else select(samples, some(samples, n, seed))
