"""What trivial rules score on released detection sets, as given and cleaned; and whether the best of many flatters.

Prints the Markdown tables of docs/shortcuts.md:
`python -m benchmarks.shortcuts DATA [--only NAME ...] [--trained]`; `--trained` prints the table of a detector trained
on one half of the groups and judged on the other instead. DATA is a folder with `fastdetectgpt/exp_gpt3to4/*.json`
(pairs: original, sampled) and `detectrl/direct_prompt_test.json` (text, label).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from detectors.ngram_lr import NgramLR
from evalkit.errors import TooFewSamples
from evalkit.metrics.detection import area_under_roc
from evalkit.samples.arrays import from_texts
from evalkit.shortcuts.choosing import SAYS, Best, Found, best_of, columns_of, dealt, scored
from evalkit.shortcuts.cleaning import cleaned
from evalkit.shortcuts.reading import Side, read
from evalkit.shortcuts.rules import RULES
from evalkit.shortcuts.study import direction, said

from .text_detectors import Set, fitted, scores

SHOWN = ("newline", "final_punctuation", "words", "characters", "word_length")
REPEATS, DRAWN = 400, 150
# ngram_lr collapses white space. As a word of its own a line's end is to it what it is to a detector that does not.
LINE_END = " \N{RETURN SYMBOL} "


def sets(data: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Each set by name with its human and its machine texts."""
    for file in sorted((data / "fastdetectgpt" / "exp_gpt3to4").glob("*.raw_data.json")):
        pairs = json.loads(file.read_text("utf-8"))
        yield file.name.removesuffix(".raw_data.json"), pairs["original"], pairs["sampled"]
    rows = json.loads((data / "detectrl" / "direct_prompt_test.json").read_text("utf-8"))
    human = [row["text"] for row in rows if row["label"] == "human"]
    yield "detectrl", human, [row["text"] for row in rows if row["label"] != "human"]


def side(texts: list[str], name: str) -> Side:
    return read(from_texts(texts, name), 0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder of the texts")
    parser.add_argument("--only", nargs="*", default=None, help="names of sets")
    parser.add_argument("--trained", action="store_true", help="the table of a trained detector instead")
    given = parser.parse_args()
    chosen = [one for one in sets(given.data) if given.only is None or one[0] in given.only]
    if given.trained:
        trained(chosen)
        return
    rows, bests = [], []
    for name, human, machine in chosen:
        real, fake = side(human, "human"), side(machine, "machine")
        left = cleaned(real, fake)
        raw, again = scored(real, fake, seed=0), _again(left.real, left.fake)
        rows.append(f"| {name} | {len(real)} + {len(fake)} | {' | '.join(_both(raw, again, rule) for rule in SHOWN)} |")
        kept = f"{len(left.real)} + {len(left.fake)}"
        bests.append(f"| {name} | {_best(raw.best)} | {kept} | {_best(again.best if again else None)} |")
    print(f"| set | n | {' | '.join(SAYS[rule] for rule in SHOWN)} |")
    print("|---" * (2 + len(SHOWN)) + "|")
    print("\n".join(rows))
    print("\n| set | best rule as given | AUROC | left | best rule, cleaned | AUROC |")
    print("|---" * 6 + "|")
    print("\n".join(bests))
    print(f"\n{flattery(chosen[-1][1])}")


def trained(chosen: Sequence[tuple[str, list[str], list[str]]]) -> None:
    """AUROC of ngram_lr, learnt on one half of the groups and judged on the other, as given and cleaned."""
    cells = ("given, given", "given, cleaned", "cleaned, cleaned")
    heads = [f"{kind}: {cell}" for kind in ("sees line ends", "`ngram_lr`") for cell in cells]
    print(f"| set | judged, cleaned | {' | '.join(heads)} |")
    print("|---" * (2 + len(heads)) + "|")
    for name, human, machine in chosen:
        real, fake = side(human, "human"), side(machine, "machine")
        left = cleaned(real, fake)
        names = [*real.groups, *fake.groups]
        halves = dict(zip(names, dealt(names, [i >= len(real) for i in range(len(names))], 0), strict=True))
        whole = [_halved(*sides, halves) for sides in ((real, fake), (left.real, left.fake))]
        found = []
        for end in (LINE_END, " "):
            given, again = ([_marked(half, end) for half in both] for both in whole)
            for lesson, exam in ((given, given), (given, again), (again, again)):
                found.append(said(area_under_roc(*scores(fitted(NgramLR(), lesson[0]), exam[1]))))
        n = " + ".join(str(len(texts)) for texts in whole[1][1])
        print(f"| {name} | {len(whole[0][1].real)} + {len(whole[0][1].fake)}, {n} | {' | '.join(found)} |", flush=True)


def _halved(real: Side, fake: Side, halves: dict[str, int]) -> list[Set]:
    """The texts whose groups are in half 0, and those whose groups are in half 1."""
    return [
        Set(*([t for t, g in zip(own.texts, own.groups, strict=True) if halves[g] == half] for own in (real, fake)))
        for half in (0, 1)
    ]


def _marked(given: Set, end: str) -> Set:
    return Set(*([text.replace("\n", end) for text in texts] for texts in given))


def _again(real: Side, fake: Side) -> Found | None:
    try:
        return scored(real, fake, seed=0)
    except TooFewSamples:
        return None


def _both(raw: Found, again: Found | None, name: str) -> str:
    values = [next(r.auc.value for r in found.rules if r.name == name) for found in (raw, again) if found is not None]
    return " → ".join(f"{value:.3f}" for value in values)


def _best(best: Best | None) -> str:
    return "– | –" if best is None else f"{SAYS[best.name]}, {direction(best)} | {said(best.auc)}"


def flattery(human: list[str]) -> str:
    """Humans against humans, where every rule is worth 0.5: the largest AUROC, and the one scored on the other half."""
    whole = columns_of(side(human, "human"))[:, : len(RULES)]
    largest, honest, holds, below = [], [], 0, 0
    for repeat in range(REPEATS):
        rng = np.random.default_rng(repeat)
        columns = whole[rng.permutation(len(whole))[: 2 * DRAWN]]
        is_fake, group = np.arange(2 * DRAWN) >= DRAWN, np.arange(2 * DRAWN)
        half = rng.permutation(2 * DRAWN) % 2
        everything = best_of(columns, is_fake, group, half)[0]
        assert everything is not None
        largest.append(everything.chosen_by)
        honest.append(everything.auc.value)
        holds += everything.auc.low <= 0.5 <= everything.auc.high
        below += everything.auc.low > 0.5
    return (
        f"Humans against other humans, {DRAWN} + {DRAWN} texts, {REPEATS} draws: the best rule has a mean AUROC of"
        f" {np.mean(largest):.3f} on the half it was chosen on and {np.mean(honest):.3f} on the other; the interval of"
        f" the latter holds 0.5 in {100 * holds / REPEATS:.1f} % and lies above it in {100 * below / REPEATS:.1f} %."
    )


if __name__ == "__main__":
    main()
