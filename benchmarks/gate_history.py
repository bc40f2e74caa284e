"""Does the gate keep its word over a team's history? 30 commits, 3 true regressions, every number really measured.

    python -m benchmarks.gate_history [--histories 500]

A model is a Gaussian cloud of 8 columns and a detector's scores of it; every commit draws fresh samples from it and
measures fid, kid, prdc.recall and auroc, with their own intervals and moves, against the one reference of its history.
Commit 1 is the baseline; three of the other 29 are regressions, each put right by the next commit: a cloud moved away
(fid, kid), a cloud too narrow (recall), a detector that tells more (auroc). Each has just the size of which the gate's
own report says that it finds it in at least 8 of 10 runs, at the level to which all four tests hold it.

Histories draw their commits without replacement from pools of measured runs, a pool a reference, and every commit goes
through `evalkit.gate`. A false alarm is a failed gate on an unchanged commit, a miss a regression whose gate passes.
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from evalkit.gating.changes import Limited, change_of, floor_of
from evalkit.gating.rules import rule_of
from evalkit.gating.running import gate
from evalkit.metrics.detection import area_under_roc
from evalkit.metrics.frechet import frechet_estimate
from evalkit.metrics.kernel import kernel_estimate
from evalkit.metrics.neighbours import neighbour_estimates
from evalkit.pairing import kept
from evalkit.types import Estimate, MetricResult, Reference, RunRecord, Subject

from .families import gaussian

COLUMNS, COMMITS, ALPHA = 8, 30, 0.05
FID, KID, RECALL, AUROC = "fid@cloud", "kid@cloud", "prdc@cloud.recall", "auroc@judge"
# The number by which each regression is sized; how far it may go when its size is looked for.
REGRESSIONS = {FID: 0.5, RECALL: 0.5, AUROC: 2.0}
REFERENCES, UNCHANGED, REGRESSED, PILOTS = 12, 40, 12, 20


@dataclass(frozen=True)
class Model:
    """How far a commit's model is off: shifted cloud, narrowed cloud, scores further apart."""

    shift: float = 0.0
    narrow: float = 0.0
    told: float = 0.0

    @staticmethod
    def regressed(name: str, size: float) -> Model:
        return {FID: Model(shift=size), RECALL: Model(narrow=size), AUROC: Model(told=size)}[name]


def estimates(model: Model, n: int, reference: int, seed: int, only: Sequence[str]) -> dict[str, Estimate]:
    """The numbers of one run: fresh samples by `seed`, real ones by `reference`."""
    own, real = (torch.Generator().manual_seed(s) for s in (10_000_019 * (reference + 1) + seed, reference))
    rows, scores = gaussian(n, COLUMNS, real), gaussian(n, 1, real)[:, 0]
    cloud = gaussian(n, COLUMNS, own, shift=0.1, scale=1.05)
    cloud, judged = model.shift + (1 - model.narrow) * cloud, 0.7 + model.told + gaussian(n, 1, own)[:, 0]
    made: dict[str, Callable[[], Estimate]] = {
        FID: lambda: frechet_estimate(rows, cloud),
        KID: lambda: kernel_estimate(rows, cloud),
        RECALL: lambda: neighbour_estimates(rows, cloud)["recall"],
        AUROC: lambda: area_under_roc(_as_p(scores), _as_p(judged)),
    }
    return {name: made[name]() for name in only}


def _as_p(scores: Tensor) -> Tensor:
    return scores.sigmoid()


def measured(model: Model, n: int, reference: int, seed: int) -> RunRecord:
    """The run record of one commit."""
    keys = {"real": f"sha256:{reference}", "fake": "sha256:numbered", "draws": f"sha256:{reference} numbered"}
    results = []
    for name, found in estimates(model, n, reference, seed, (FID, KID, RECALL, AUROC)).items():
        low, high = min(found.low, found.value), max(found.high, found.value)
        results.append(
            MetricResult(
                name=name,
                value=found.value,
                low=low,
                high=high,
                level=found.level,
                interval=found.method,
                better="higher" if name == RECALL else "lower",
                unit="",
                n={"real": n, "fake": n},
                version=1,
                protocol=f"sha256:{name} {reference} {n}",
                terms={},
                seconds=0.0,
                moves=kept(found.moves, keys),
            )
        )
    side = Reference("reference", n, f"sha256:{reference}")
    subject = Subject("model", "image", "samples", n, f"sha256:{seed}")
    return RunRecord(subject, side, None, seed, tuple(results), None, {})


def rules(floor: float | str) -> dict[str, dict[str, float | str]]:
    """What the gate asks: no number may get worse by more than the floor."""
    return {name: {"max_decrease" if name == RECALL else "max_increase": floor} for name in (FID, KID, RECALL, AUROC)}


def seen(floor: float | str, pool: Sequence[RunRecord]) -> dict[str, float]:
    """By metric the change that the gate's report says it finds in 8 of 10 runs, the mean over pairs of runs."""
    found: dict[str, list[float]] = {}
    for now, base in zip(pool[1::2], pool[::2], strict=False):
        for a, b in zip(now.results, base.results, strict=True):
            rule = rule_of(a.name, rules(floor)[a.name])
            let, sign = (rule.max_decrease, -1) if a.name == RECALL else (rule.max_increase, 1)
            assert let is not None
            limited = Limited(change_of(a, b), sign, floor_of(let, b.value))
            found.setdefault(a.name, []).append(limited.seen(ALPHA / 4))
    return {name: fmean(sizes) for name, sizes in found.items()}


def sized(name: str, wanted: float, n: int) -> float:
    """How far a model must be off for `name` to get worse by `wanted` on average; on the same draws, by bisection."""

    def mean(model: Model) -> float:
        return fmean(estimates(model, n, i % REFERENCES, 500_000 + i, [name])[name].value for i in range(PILOTS))

    def change(size: float) -> float:
        return abs(mean(Model.regressed(name, size)) - start)

    start, low, high = mean(Model()), 0.0, REGRESSIONS[name]
    for _ in range(7):
        middle = (low + high) / 2
        low, high = (middle, high) if change(middle) < wanted else (low, middle)
    return (low + high) / 2


@dataclass
class Tally:
    """What came out of the histories of one setting."""

    alarms: int = 0
    unchanged: int = 0
    alarmed: int = 0
    misses: Counter[str] = field(default_factory=Counter)


@dataclass
class Bench:
    """Pools of measured runs of one n and floor, and the verdicts of the pairs that were looked at."""

    floor: float | str
    good: list[list[RunRecord]]
    bad: list[dict[str, list[RunRecord]]]
    verdicts: dict[tuple[int, int], bool] = field(default_factory=dict)

    def fails(self, run: RunRecord, baseline: RunRecord) -> bool:
        key = id(run), id(baseline)
        if key not in self.verdicts:
            self.verdicts[key] = gate(run, baseline, rules(self.floor)).outcome == "fail"
        return self.verdicts[key]

    def tell(self, histories: int, *, rolling: bool) -> Tally:
        """So many histories; rolling: the baseline is the last commit that passed, not the first one."""
        tally, dice = Tally(), random.Random(0)
        for i in range(histories):
            place = i % len(self.good)
            commits = [(run, "") for run in dice.sample(self.good[place], COMMITS)]
            for name, at in zip(REGRESSIONS, dice.sample(range(1, COMMITS), len(REGRESSIONS)), strict=True):
                commits[at] = dice.choice(self.bad[place][name]), name
            base, alarms = commits[0][0], 0
            for run, name in commits[1:]:
                failed = self.fails(run, base)
                alarms += failed and not name
                tally.unchanged += not name
                tally.misses[name] += bool(name) and not failed
                base = run if rolling and not failed else base
            tally.alarms += alarms
            tally.alarmed += alarms > 0
        return tally


def main() -> None:
    """Measure the pools, tell the histories, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=500)
    histories = parser.parse_args().histories
    torch.set_num_threads(1)
    start = time.process_time()
    heads = ("n a side", "floor", "baseline", "size of the regressions (fid, recall, auroc)", "false alarms a run")
    heads += ("histories with one or more", "missed: fid, recall, auroc", "misses")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|", flush=True)
    for n, floors in ((500, (0.0,)), (2000, (0.0,))):
        good = [[measured(Model(), n, r, s) for s in range(UNCHANGED)] for r in range(REFERENCES)]
        for floor in floors:
            found = seen(floor, [run for pool in good for run in pool])
            sizes = {name: sized(name, found[name], n) for name in REGRESSIONS}
            bad = [
                {
                    name: [measured(Model.regressed(name, sizes[name]), n, r, 1000 + s) for s in range(REGRESSED)]
                    for name in REGRESSIONS
                }
                for r in range(REFERENCES)
            ]
            bench = Bench(floor, good, bad)
            for rolling in (False, True):
                print(row(n, floor, rolling, found, bench.tell(histories, rolling=rolling), histories), flush=True)
    print(
        f"\nstated: at most {ALPHA / 2:.1%} false alarms a run, 20 % misses; {histories} histories a row of {COMMITS}"
    )
    print(f"commits, {REFERENCES} references, {(time.process_time() - start) / 60:.1f} CPU minutes")


def row(n: int, floor: float | str, rolling: bool, found: dict[str, float], tally: Tally, histories: int) -> str:
    missed = [tally.misses[name] / histories for name in REGRESSIONS]
    cells = (
        str(n),
        str(floor) if floor else "none",
        "last that passed" if rolling else "first commit",
        ", ".join(f"{found[name]:.3g}" for name in REGRESSIONS),
        f"{tally.alarms / tally.unchanged:.2%}",
        f"{tally.alarmed / histories:.1%}",
        ", ".join(f"{share:.1%}" for share in missed),
        f"{fmean(missed):.1%}",
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
