"""Text watermarks: real sets against published figures, null calibration, power by length, what a mark costs.

    python -m benchmarks.watermarks DATA

DATA holds `text/synthid_markllm`, `text/three_bricks` and `text/detectrl`. Its parts print one Markdown table each:
SynthID's thousand texts against a thousand human ones, ten EXP texts against their recorded scores, p-values of human
texts under fresh keys, the window scan under its null, and the `lm` generator drawn with each watermark.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kstest

from evalkit.extractors.prose_lm import ProseLM
from evalkit.metrics.ngrams import mean_self_bleu
from evalkit.samples import open_samples
from evalkit.watermarking.exponential import Exponential
from evalkit.watermarking.keys import key_of, spread_keys
from evalkit.watermarking.kgw import Kgw
from evalkit.watermarking.synthid import SynthId
from evalkit.watermarking.tokenizers import BytePairs, ScoredPieces, read_merges
from generators.lm import Lm

HUMANS = 1000
STEPS, DRAWN = 300, 192
LENGTHS = (50, 100, 200, 400)
MARKS = ("kgw", "kgw_selfhash", "synthid", "exp")


def area(fake: list[float], real: list[float]) -> float:
    """Share of pairs in which the fake scores higher, ties half."""
    below, most = (np.searchsorted(np.sort(real), fake, side) for side in ("left", "right"))
    return float((below + most).sum() / (2 * len(fake) * len(real)))


def caught(fake: list[float], real: list[float], rate: float) -> float:
    """TPR at the exact order-statistic threshold of the reals."""
    return float(np.mean(np.array(fake) > np.sort(real)[-math.floor(rate * len(real)) - 1]))


def row(*cells: object) -> None:
    print("| " + " | ".join(str(c) for c in cells) + " |")


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*("---" for _ in cells))


def human_texts(data: Path) -> list[str]:
    rows = json.loads((data / "text/detectrl/direct_prompt_test.json").read_text("utf-8"))
    return [r["text"] for r in rows if r["label"] == "human"]


def byte_pairs(data: Path) -> BytePairs:
    folder = data / "text/synthid_markllm"
    merges = read_merges((folder / "gpt2_merges.txt").read_text("utf-8"))
    return BytePairs(json.loads((folder / "opt_vocab.json").read_text("utf-8")), merges)


def synthid(data: Path, real: list[list[int]], tokenizer: BytePairs) -> None:
    texts = json.loads((data / "text/synthid_markllm/watermarked_texts.json").read_text("utf-8"))
    fake = [tokenizer.encode(t["watermarked_text"]) for t in texts]
    head(
        "SynthID score", "table", "mean g: marked / human", "AUROC", "TPR at 1 %", "at 5 %", "p < 0.01: marked / human"
    )
    for weighting in ("mean", "weighted"):
        for device in ("cuda", "cpu"):
            scheme = SynthId(50272, device=device, weighting=weighting)
            of_fake, of_real = [scheme.test(t) for t in fake], [scheme.test(t) for t in real[:HUMANS]]
            a, b = [e.score for e in of_fake], [e.score for e in of_real]
            flagged = [f"{np.mean([e.p < 0.01 for e in side]):.1%}" for side in (of_fake, of_real)]
            means = f"{np.mean(a):.4f} / {np.mean(b):.4f}"
            rates = [f"{caught(a, b, r):.3f}" for r in (0.01, 0.05)]
            row(weighting, device, means, f"{area(a, b):.4f}", *rates, " / ".join(flagged))


def bricks(data: Path) -> None:
    folder = data / "text/three_bricks"
    pieces = ScoredPieces.read((folder / "llama_tokenizer.bin").read_bytes())
    scheme = Exponential(32000)
    head("EXP text", "tokens scored / recorded", "score", "recorded", "p", "recorded")
    lines = [(folder / name).read_text("utf-8").splitlines() for name in ("results.jsonl", "scores.jsonl")]
    for i, (text, gold) in enumerate(zip(*lines, strict=True)):
        found, known = scheme.test(pieces.encode(json.loads(text)["result"])), json.loads(gold)
        p = known["all_pvalues"][0]
        row(
            i,
            f"{found.n} / {known['num_token']}",
            f"{found.score:.4f}",
            f"{known['score']:.4f}",
            f"{found.p:.3g}",
            f"{p:.3g}",
        )


def randomised(scheme: Kgw, tokens: list[int], rng: np.random.Generator) -> float:
    """A p-value that is uniform in a discrete null: between P(X > g) and P(X >= g)."""
    from scipy.stats import binom

    flags = scheme.flags(tokens)
    green, n = int(flags.sum()), len(flags)
    return float(binom.sf(green, n, scheme.share) + rng.random() * binom.pmf(green, n, scheme.share))


def null(real: list[list[int]]) -> None:
    rng = np.random.default_rng(0)
    head("human texts, a fresh key each", "n", "KS p", "p < 0.001", "p < 0.01", "p < 0.05", "p < 0.5")
    short = [t[:200] for t in real]
    found: dict[str, list[float]] = {"kgw": [], "kgw_selfhash": [], "synthid table": [], "synthid hash": [], "exp": []}
    for i, t in enumerate(short):
        key = 1 + int(rng.integers(2**40))
        found["synthid table"].append(SynthId(50272, keys=spread_keys(key, 30), device="cuda").test(t).p)
        found["synthid hash"].append(SynthId(50272, keys=spread_keys(key, 30), form="hash", weighting="mean").test(t).p)
        if i < 300:
            found["kgw"].append(randomised(Kgw(50272, key=key), t, rng))
            found["kgw_selfhash"].append(randomised(Kgw(50272, key=key, seeding="selfhash"), t, rng))
            found["exp"].append(Exponential(50272, key=key).test(t).p)
    for name, p in found.items():
        shares = [f"{np.mean(np.array(p) < a):.2%}" for a in (0.001, 0.01, 0.05, 0.5)]
        row(name, len(p), f"{kstest(p, 'uniform').pvalue:.3f}", *shares)
    head("human texts, one key for all", "n", "KS p", "p < 0.001", "p < 0.01", "p < 0.05", "p < 0.5")
    one = {"kgw": Kgw(50272), "synthid table": SynthId(50272, device="cuda"), "exp": Exponential(50272)}
    for name, scheme in one.items():
        shown = short if name == "synthid table" else short[:300]
        p = [randomised(scheme, t, rng) if isinstance(scheme, Kgw) else scheme.test(t).p for t in shown]
        shares = [f"{np.mean(np.array(p) < a):.2%}" for a in (0.001, 0.01, 0.05, 0.5)]
        row(name, len(p), f"{kstest(p, 'uniform').pvalue:.3f}", *shares)


def scan() -> None:
    head("window scan of 400 tokens, V = 512", "p < 0.01", "p < 0.05", "median z of WinMax")
    rng, scheme = np.random.default_rng(0), Kgw(512)
    for name, marked in (("no mark", 0), ("80 of 400 tokens marked, 60 % green", 80)):
        p, z = [], []
        for _ in range(400):
            tokens = rng.integers(0, 512, 400).tolist()
            for i in range(160, 160 + marked):
                if rng.random() < 0.6:
                    tokens[i] = int(rng.choice(scheme.greenlist(tokens[:i]).numpy()))
            p.append(scheme.scan(tokens).p)
            z.append(scheme.highest_z(tokens) if len(z) < 50 else z[0])
        row(
            name, f"{np.mean(np.array(p) < 0.01):.1%}", f"{np.mean(np.array(p) < 0.05):.1%}", f"{np.median(z[:50]):.2f}"
        )


def drawn(mark: str, folder: Path, n: int, seed: int) -> tuple[list[str], Lm]:
    generator = Lm(**{**SETTINGS, "watermark": mark})
    generator.load(folder)
    return [t for batch in generator.sample(n, seed) for t in batch.items], generator


SETTINGS: dict[str, int | float | str] = {"steps": STEPS, "width": 96, "layers": 2, "vocabulary": 1024}


def bits(texts: list[str]) -> float:
    lm = ProseLM()
    rows = torch.cat([lm(lm.prepare(t)[None]) for t in texts])[:, :3].double().sum(0)
    return float(rows[0] / rows[2] / math.log(2))


def power(folder: Path) -> None:
    plain = Lm(**SETTINGS)
    plain.fit(open_samples("embedded:prose/train"), seed=0)
    plain.save(folder)
    unmarked = drawn("none", folder, DRAWN, 1)[0]
    costs = [("none", bits(unmarked), mean_self_bleu(unmarked).value)]
    head("lm with", "tokens", "texts", "p < 0.001", "p < 0.01", "unmarked p < 0.01", "median z")
    for mark in MARKS:
        texts, generator = drawn(mark, folder, DRAWN, 1)
        key = key_of(generator.watermark, folder, mark)
        costs.append((mark, bits(texts), mean_self_bleu(texts).value))
        streams = [[i for t in side for i in key.tokenizer.encode(t)] for side in (texts, unmarked)]
        for n in LENGTHS:
            cut = [[s[i : i + n] for i in range(0, len(s) - n + 1, n)] for s in streams]
            of_marked, of_plain = ([key.scheme.test(t) for t in side] for side in cut)
            p, q = np.array([e.p for e in of_marked]), np.array([e.p for e in of_plain])
            shares = [f"{np.mean(p < a):.1%}" for a in (0.001, 0.01)]
            row(
                mark,
                n,
                f"{len(p)} / {len(q)}",
                *shares,
                f"{np.mean(q < 0.01):.1%}",
                f"{np.median([e.z for e in of_marked]):.1f}",
            )
    head("lm with", "bits per byte under prose_lm", "self_bleu")
    for mark, spent, alike in costs:
        row(mark, f"{spent:.3f}", f"{alike:.3f}")


def main() -> None:
    """Run all parts and print."""
    from tempfile import TemporaryDirectory

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--parts", nargs="*", default=["synthid", "bricks", "null", "scan", "power"])
    given = parser.parse_args()
    tokenizer = byte_pairs(given.data)
    real = [tokenizer.encode(t) for t in human_texts(given.data)]
    if "power" in given.parts:
        with TemporaryDirectory() as folder:
            power(Path(folder))
    if "bricks" in given.parts:
        bricks(given.data)
    if "scan" in given.parts:
        scan()
    if "null" in given.parts:
        null(real)
    if "synthid" in given.parts:
        synthid(given.data, real, tokenizer)


if __name__ == "__main__":
    main()
