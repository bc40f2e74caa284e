"""Text detectors on texts they have not seen: other generators, other domains, cleaned pairs, short texts.

    python -m benchmarks.text_detectors DATA ngrams|models|stories|perturbed|lengths [--weights FOLDER]

DATA holds `text/detectrl` and `text/fastdetectgpt`; FOLDER the model and tokenizer of stories260K. Each part prints one
Markdown table. Learnt is on DetectRL alone, its whitespace collapsed; pairs of a human and a machine continuation are
read raw and cleaned: whitespace collapsed, the shared first words dropped, both sides cut to equally many whole
sentences. Within DetectRL one language model is left out with the humans that belong to it, so no human text is on both
sides. One core.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from detectors._token_rows import Columns, Reader, batches, reader_of
from detectors.ngram_lr import NgramLR
from detectors.surprisal_gbdt import SurprisalGBDT
from detectors.zero_shot import SINGLE, ZeroShot
from evalkit.measurement import Bench, measure
from evalkit.metrics.detection import area_under_roc, true_positive_rate
from evalkit.samples.arrays import from_texts
from evalkit.types import Detector

PAIRS = [
    f"{domain}_{model}" for model in ("gpt-3.5-turbo", "gpt-4", "davinci") for domain in ("xsum", "writing", "pubmed")
]
# AUROC and TPR at 5 % of a TF-IDF (words 1-2, characters 2-4) and logistic regression, whitespace collapsed.
FLOOR = {
    "xsum_gpt-3.5-turbo": "1.000 / 1.000",
    "writing_gpt-3.5-turbo": "0.983 / 0.920",
    "pubmed_gpt-3.5-turbo": "0.629 / 0.133",
    "xsum_gpt-4": "0.997 / 0.993",
    "writing_gpt-4": "0.959 / 0.813",
    "pubmed_gpt-4": "0.588 / 0.100",
}
LEFT_OUT = "Claude-instant"
D = TypeVar("D", bound=Detector)
LENGTHS = (50, 100, 200, 300, 400, 600, 800)
SHORT = 400


class Set(NamedTuple):
    """Human and machine texts."""

    real: list[str]
    fake: list[str]

    def thinned(self, n: int) -> Set:
        """n of each side, evenly spaced."""
        return Set(*([side[i] for i in np.linspace(0, len(side) - 1, min(n, len(side))).astype(int)] for side in self))

    def cut(self, length: int) -> Set:
        """The first `length` characters of those that have so many."""
        return Set(*([text[:length] for text in side if len(text) >= length] for side in self))


class Remembering:
    """A reader that reads no text twice."""

    def __init__(self, reader: Reader) -> None:
        self.name, self.pair, self.digest, self.about = reader.name, reader.pair, reader.digest, reader.about
        self.prepare, self.to = reader.prepare, reader.to
        self._reader, self._rows = reader, dict[bytes, dict[str, Tensor]]()

    def columns(self, texts: Sequence[Tensor]) -> Columns:
        keys = [text.numpy().tobytes() for text in texts]
        fresh = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._rows}
        if fresh:
            found = self._reader.columns(list(fresh.values()))
            for i, key in enumerate(fresh):
                self._rows[key] = {name: values[i] for name, values in found.items()}
        return {name: torch.stack([self._rows[key][name] for key in keys]) for name in self._rows[keys[0]]}


def collapsed(text: str) -> str:
    return " ".join(text.split())


def cleaned(pairs: Set) -> Set:
    """Shared first words dropped, both sides cut to equally many whole sentences; pairs with none are left out."""
    sides = Set([], [])
    for real, fake in zip(*pairs, strict=True):
        words = real.split(), fake.split()
        shared = next((i for i, (a, b) in enumerate(zip(*words, strict=False)) if a != b), min(map(len, words)))
        whole = [sentences(" ".join(own[shared:])) for own in words]
        if least := min(map(len, whole)):
            for side, own in zip(sides, whole, strict=True):
                side.append(" ".join(own[:least]))
    return sides


def sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])\s+", text)
    return parts if re.search(r"[.!?]$", parts[-1]) else parts[:-1]


def detectrl(data: Path) -> tuple[Set, Set]:
    """DetectRL without one language model and its humans, and these; whitespace collapsed."""
    rows = json.loads((data / "text/detectrl/direct_prompt_test.json").read_text("utf-8"))
    parts = []
    for left_out in (False, True):
        own = [r for r in rows if (r["llm_type"] == LEFT_OUT) == left_out]
        parts.append(Set(*([collapsed(r["text"]) for r in own if r["label"] == label] for label in ("human", "llm"))))
    return parts[0], parts[1]


def pairs_of(data: Path, name: str) -> dict[str, Set]:
    """Raw, and cleaned."""
    body = json.loads((data / f"text/fastdetectgpt/exp_gpt3to4/{name}.raw_data.json").read_text("utf-8"))
    raw = Set(body["original"], body["sampled"])
    return {"raw": raw, "cleaned": cleaned(raw)}


def fitted(detector: D, lesson: Set) -> D:
    detector.fit(from_texts(lesson.real, "human"), from_texts(lesson.fake, "machine"), seed=0)
    return detector


def scores(detector: Detector, given: Set) -> list[Tensor]:
    """P(fake) of both sides."""
    found = [measure(from_texts(side, "texts"), [detector], Bench()).features[detector.name] for side in given]
    return [side.head("p_fake").rows[:, 0].double() for side in found]


def raw_scores(detector: ZeroShot, given: Set) -> list[Tensor]:
    """The statistic of both sides, unfitted."""
    return [
        torch.cat([detector.statistics(b)[:, 0] for b in batches([detector.prepare(t) for t in side], "cpu")])
        for side in given
    ]


def said(real: Tensor, fake: Tensor) -> str:
    """AUROC and TPR at 5 %, with 95 % intervals."""
    found = area_under_roc(real, fake), true_positive_rate(real, fake)
    return " / ".join(f"{e.value:.3f} [{e.low:.3f}, {e.high:.3f}]" for e in found)


def row(*cells: object) -> None:
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def ngrams(data: Path) -> None:
    """ngram_lr of all 2,016 texts on the pairs, and of three language models' on the fourth's."""
    learnt, left_out = detectrl(data)
    head("tested on", "n", "raw", "cleaned", "floor, whitespace collapsed")
    row(
        f"DetectRL, {LEFT_OUT} left out",
        len(left_out.real),
        said(*scores(fitted(NgramLR(), learnt), left_out)),
        "",
        "",
    )
    judge = fitted(NgramLR(), Set(learnt.real + left_out.real, learnt.fake + left_out.fake))
    for name in PAIRS:
        found = pairs_of(data, name)
        cells = [said(*scores(judge, given)) for given in found.values()]
        row(
            name,
            f"{len(found['raw'].real)}, cleaned {len(found['cleaned'].real)}",
            *cells,
            FLOOR.get(name, "not known"),
        )


def tested(data: Path, most: int, names: Sequence[str]) -> dict[str, Set]:
    _, left_out = detectrl(data)
    return {
        f"DetectRL, {LEFT_OUT}": left_out.thinned(most),
        **{name: pairs_of(data, name)["cleaned"].thinned(most) for name in names},
    }


def models(data: Path, model: str, learn: int, most: int, names: Sequence[str]) -> None:
    """Every statistic under one language model: unfitted, but gltr and the trees, which learn on DetectRL."""
    reader = Remembering(reader_of(model))
    lesson = detectrl(data)[0].thinned(learn)
    sets = tested(data, most, names)
    head("detector", *(f"{name}, {len(given.real)} pairs" for name, given in sets.items()))
    trees = fitted(SurprisalGBDT(reader=reader), lesson)
    row("`surprisal_gbdt`", *(said(*scores(trees, given)) for given in sets.values()))
    for statistic in SINGLE:
        judge = ZeroShot(statistic, reader=reader)
        if statistic == "gltr":
            fitted(judge, lesson)
        score = scores if statistic == "gltr" else raw_scores
        row(f"`zero_shot:{statistic}`", *(said(*score(judge, given)) for given in sets.values()))


def perturbed(data: Path) -> None:
    """DetectGPT and NPR by both perturbers under prose_lm, on the first 400 characters."""
    given = detectrl(data)[1].cut(SHORT).thinned(60)
    head("detector, 10 copies", f"DetectRL, {LEFT_OUT}, {len(given.real)} a side, {SHORT} characters")
    for statistic in ("detectgpt", "npr"):
        for perturber in ("spans", "swaps"):
            judge = ZeroShot(f"{statistic}:perturber={perturber}")
            row(f"`{judge.name}`", said(*raw_scores(judge, given)))
    row("`zero_shot:log_rank`", said(*raw_scores(ZeroShot("log_rank"), given)))


def lengths(data: Path) -> None:
    """AUROC and TPR against the length of what is judged; learnt on whole texts."""
    learnt, left_out = detectrl(data)
    reader = Remembering(reader_of("prose_lm"))
    few = learnt.thinned(60)
    judges: Mapping[str, Detector] = {
        "ngram_lr": fitted(NgramLR(), learnt),
        "surprisal_gbdt": fitted(SurprisalGBDT(reader=reader), few),
        "zero_shot:log_rank": fitted(ZeroShot("log_rank", reader=reader), few),
    }
    titles = ((f"`{name}`: AUROC / TPR at 5 %", "P > 0.8 among humans") for name in judges)
    head("characters", *(title for both in titles for title in both))
    for length, given in _cuts(left_out):
        cells = []
        for judge in judges.values():
            real, fake = scores(judge, given)
            cells += [said(real, fake), f"{float((real > judge.threshold[1]).float().mean()):.3f}"]
        row(length, *cells)


def _cuts(given: Set) -> Iterator[tuple[int, Set]]:
    for length in LENGTHS:
        # The same texts at every length.
        yield length, given.cut(LENGTHS[-1]).thinned(80).cut(length)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("data", type=Path)
    parser.add_argument("part", choices=["ngrams", "models", "stories", "perturbed", "lengths"])
    parser.add_argument("--weights", type=Path, help="folder of stories260K, for the part stories")
    args = parser.parse_args()
    if args.part == "models":
        models(args.data, "prose_lm", 120, 75, PAIRS[3:6])
    elif args.part == "stories":
        [model], [tokens] = args.weights.glob("stories*.bin"), args.weights.glob("tok*.bin")
        models(args.data, f"llama2c:{model}+{tokens}", 50, 40, PAIRS[3:4])
    else:
        {"ngrams": ngrams, "perturbed": perturbed, "lengths": lengths}[args.part](args.data)


if __name__ == "__main__":
    main()
