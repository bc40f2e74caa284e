"""Seven detectors on essays of native and non-native writers: the published rates, and what the operator does to them.

    python -m benchmarks.liang [SCORES]

SCORES: scores by group and detector (default: those of Liang et al. 2023 in the optional test data). Prints, for every
group, the mean share flagged with its interval, by all and by at least one detector, for score > 0.5 and score >= 0.5;
and of each detector how far TOEFL essays are from those of US students.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from evalkit.scorefiles.groups import Operator, groups_of, together
from evalkit.scorefiles.reading import read_scores

ROOT = Path(os.environ.get("EVALKIT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared"))
SCORES = ROOT / "data" / "text" / "liang_nonnative_bias" / "detector_scores.json"
HALF = 0.5
NATIVE, FOREIGN = "HewlettStudentEssay_real_88", "TOEFL_real_91"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", type=Path, nargs="?", default=SCORES)
    runs = read_scores(parser.parse_args().scores)
    limits = {run.name: HALF for run in runs}
    print("| group | detectors | n | operator | mean flagged % | 95 % | by all | by at least one |")
    print("|---|---|---|---|---|---|---|---|")
    operators: tuple[Operator, ...] = (">", ">=")
    for rows in zip(*(together(runs, "group", limits, operator) for operator in operators), strict=True):
        for operator, one in zip(operators, rows, strict=True):
            ends = f"{100 * one.mean.low:.1f} to {100 * one.mean.high:.1f}"
            cells = [one.name, str(one.detectors), str(one.by_all.n), operator, f"{100 * one.mean.value:.2f}", ends]
            print("| " + " | ".join([*cells, str(one.by_all.count), str(one.by_any.count)]) + " |")
    print("\n| detector | US eighth grade | TOEFL | difference (Newcombe) | p (Fisher) |\n|---|---|---|---|---|")
    for run in runs:
        found = {group.name: group for group in groups_of(run, "group", HALF, ">", NATIVE)}
        native, foreign = found[NATIVE].flagged, found[FOREIGN]
        gap = foreign.difference
        assert gap is not None and foreign.p is not None
        shares = [f"{x.count} of {x.n}" for x in (native, foreign.flagged)]
        ends = f"{100 * gap.value:.1f} [{100 * gap.low:.1f}, {100 * gap.high:.1f}]"
        print("| " + " | ".join([run.name, *shares, ends, f"{foreign.p:.2g}"]) + " |")


if __name__ == "__main__":
    main()
