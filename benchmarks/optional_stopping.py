"""Does stopping early keep its promise? Errors of `evalkit score --until-decided` when looked at forty times.

Samples of known families come in blocks of 50, forty at most, and after every block the sequence is looked at. Where
the limit is exactly the true value either verdict is an error. Beside it: what the same looks do with ordinary 95 %
intervals. Then the limit is moved away by once, twice and four times the half-width of the ordinary interval at the
last look: how often it is decided, how often wrongly, and which share of the samples was not needed.

    python -m benchmarks.optional_stopping [--repeats 1000] [--only NAME ...]
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from evalkit.blocks import Follower, follow, placements
from evalkit.planning import plan
from evalkit.sequences import LEAST_BLOCKS, BlockRatio, BoundedMean
from evalkit.types import Modality

from .families import gaussian, likelihoods, mixture

BLOCK, LOOKS, REAL = 50, 40, 500
TRUTH_RUNS = 300
MARGINS = (1, 2, 4)
QUICK = {"mind": {"directions": 100}}
HEAD = (
    "metric", "family", "runs", "either verdict at the limit %", "the same with ordinary intervals %",
    "1, 2, 4 margins away: decided %", "wrongly %", "samples saved %",
)  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A metric with its reference and a family of generated samples: `draw(n, generator)` gives rows [n, D]."""

    name: str
    family: str
    modality: Modality
    real: Tensor | None
    draw: Callable[[int, torch.Generator], Tensor]
    repeats: int = 1000


@dataclass(frozen=True)
class Path:
    """One run of looks: the ends of the sequence and of the ordinary interval after each, [LOOKS] each."""

    low: np.ndarray
    high: np.ndarray
    plain_low: np.ndarray
    plain_high: np.ndarray


def cases() -> Iterator[Case]:
    g = torch.Generator().manual_seed(5)
    equal, broad, wide = gaussian(REAL, 16, g), mixture(REAL, 16, g), gaussian(REAL, 128, g, decay=0.7)
    scores = torch.randn(REAL, 1, generator=g, dtype=torch.float64)
    for name in ("kid@pixels", "mind@pixels", "prdc.coverage@pixels"):
        most = 300 if name == "prdc.coverage@pixels" else 1000
        yield Case(name, "Gaussian, equal", "image", equal, lambda n, h: gaussian(n, 16, h), most)
        yield Case(name, "Gaussian, moved", "image", equal, lambda n, h: gaussian(n, 16, h, shift=0.2, scale=1.1), most)
        yield Case(name, "3 of 10 modes lost", "image", broad, lambda n, h: mixture(n, 16, h, modes=7), most)
        if name == "kid@pixels":
            yield Case(name, "falling spectrum, equal", "image", wide, lambda n, h: gaussian(n, 128, h, decay=0.7))
    yield Case("perplexity", "unequal lengths", "text", None, likelihoods)
    yield Case("perplexity", "one text in 50 ten times as long", "text", None, uneven)
    for apart in (0.0, 1.0, 3.0):
        shift = apart

        def shifted(n: int, h: torch.Generator, shift: float = shift) -> Tensor:
            return shift + torch.randn(n, 1, generator=h, dtype=torch.float64)

        yield Case("auroc@spectrum", f"scores {apart} apart", "image", scores, shifted, 300)


def uneven(n: int, g: torch.Generator) -> Tensor:
    """Likelihoods of texts of which some are much longer than the others."""
    long = torch.where(torch.rand(n, 1, generator=g) < 0.02, 10.0, 1.0)
    return likelihoods(n, g) * long


def followed(case: Case, seed: int) -> tuple[Path, float]:
    """Forty blocks of fresh samples, looked at after each, and the value of all of them."""
    g = torch.Generator().manual_seed(seed)
    (task,) = plan([case.name], case.modality, with_train=False, with_timing=False, settings=QUICK)
    follower = follow(case.name, task, case.real, BLOCK, seed)
    ends, values = [], []
    for number in range(LOOKS):
        values.append(_told(follower, case.draw(BLOCK, g), number))
        ends.append(follower.interval[1:])
    low, high = np.array(ends).T
    plain_low, plain_high, value = _plain(np.array(values), case.name)
    return Path(low, high, plain_low, plain_high), float(value[-1])


def _told(follower: Follower, rows: Tensor, number: int) -> list[float]:
    """What the block says, given to the sequence: its value, its nats and tokens, or the mean of its scores' places."""
    sequence = follower.sequence
    if isinstance(sequence, BlockRatio):
        nats, tokens, _ = rows.mean(dim=0).tolist()
        sequence.add([nats], [tokens])
        return [nats, tokens]
    if isinstance(sequence, BoundedMean):
        assert follower.real is not None
        places = placements(follower.real, rows)
        sequence.add(places)
        return [math.fsum(places) / len(places)]
    assert follower.tell is not None
    value = follower.tell(rows, number)
    sequence.add([value])
    return [value]


def _plain(values: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """After each look from the second on: a 95 % Student interval of the mean of the blocks, or of the log ratio."""
    count = np.arange(1, len(values) + 1)
    means = np.cumsum(values, axis=0) / count[:, None]
    off, middle = np.full(len(values), np.inf), means[:, 0].copy()
    for t in range(2, len(values) + 1):
        own = values[:t, 0]
        if name == "perplexity":
            ratio = means[t - 1, 0] / means[t - 1, 1]
            own, middle[t - 1] = (values[:t, 0] - ratio * values[:t, 1]) / means[t - 1, 1], ratio
        off[t - 1] = stats.t.ppf(0.975, t - 1) * own.std(ddof=1) / math.sqrt(t)
    change = np.exp if name == "perplexity" else np.asarray
    return change(middle - off), change(middle + off), change(middle)


def row(case: Case, repeats: int) -> str:
    """One line of the table: the truth is the mean over as many further runs."""
    fresh = [followed(case, 1_000_000 + i)[1] for i in range(min(repeats, TRUTH_RUNS))]
    paths = [followed(case, i)[0] for i in range(repeats)]
    truth = math.fsum(fresh) / len(fresh)
    margin = float(np.median([(p.plain_high[-1] - p.plain_low[-1]) / 2 for p in paths]))
    wrong = [bool(((p.low > truth) | (p.high < truth)).any()) for p in paths]
    # An ordinary interval of fewer blocks than the sequence asks for would only err more often.
    peeked = [bool(((p.plain_low > truth) | (p.plain_high < truth))[LEAST_BLOCKS - 1 :].any()) for p in paths]
    told, failed, saved = [], [], []
    # A share is asked to be large enough, and has no room above 1.
    away = -1 if case.name.startswith("prdc") else 1
    for times in MARGINS:
        limit = truth + away * times * margin
        done = [np.flatnonzero((p.high <= limit) | (p.low > limit)) for p in paths]
        told.append(100 * sum(len(d) > 0 for d in done) / repeats)
        wrongly = [d for d, p in zip(done, paths, strict=True) if len(d) and (p.low[d[0]] > limit) == (away > 0)]
        failed.append(100 * len(wrongly) / repeats)
        saved.append(100 * sum(1 - (d[0] + 1) / LOOKS for d in done if len(d)) / repeats)
    cells = [
        case.name.split("@")[0],
        case.family,
        str(repeats),
        f"{100 * sum(wrong) / repeats:.1f}",
        f"{100 * sum(peeked) / repeats:.1f}",
        *(", ".join(f"{x:.0f}" if kind != "w" else f"{x:.1f}" for x in found)
          for kind, found in (("t", told), ("w", failed), ("s", saved))),
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1000, help="at most; slow metrics take 300")
    parser.add_argument("--only", nargs="*", default=None, help="metric names, such as prdc.coverage")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start = time.process_time()
    print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|")
    for case in cases():
        if given.only is None or case.name.split("@")[0] in given.only:
            print(row(case, min(given.repeats, case.repeats)), flush=True)
    print(f"\nat most {given.repeats} runs a row, one thread, {(time.process_time() - start) / 60:.1f} CPU minutes")


if __name__ == "__main__":
    main()
