"""Texygen's published self-BLEU, cell by cell, from the texts its authors committed.

    python -m benchmarks.texygen FOLDER

FOLDER holds gen_mle.txt, gen_seq.txt, gen_maligan.txt, gen_rank.txt, gen_leakgan.txt and gen_textgan.txt of the
repository geek-ai/Texygen. Every line against all the others of its file, BLEU-2 to BLEU-5; the reference numbers are
those of its docs/evaluation.md. One pass a file serves the four orders.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from evalkit.metrics.ngrams import self_bleu_by_order

ORDERS = (2, 3, 4, 5)
WITHIN = 0.002
PUBLISHED = {
    "SeqGAN": ("gen_seq.txt", (0.950, 0.840, 0.670, 0.489)),
    "MaliGAN": ("gen_maligan.txt", (0.918, 0.781, 0.606, 0.437)),
    "RankGAN": ("gen_rank.txt", (0.959, 0.882, 0.762, 0.618)),
    "LeakGAN": ("gen_leakgan.txt", (0.966, 0.913, 0.848, 0.780)),
    "TextGAN": ("gen_textgan.txt", (0.942, 0.931, 0.804, 0.746)),
    "MLE": ("gen_mle.txt", (0.916, 0.769, 0.583, 0.408)),
}


def measured(path: Path) -> list[float]:
    """Mean self-BLEU of the file's lines for each of the orders."""
    texts = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    scores = self_bleu_by_order(texts, max(ORDERS))
    return [sum(scores[n - 1]) / len(texts) for n in ORDERS]


def main() -> None:
    """Measure and print."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.texygen FOLDER")
    print("| generator | " + " | ".join(f"BLEU-{n}: published, found" for n in ORDERS) + " | largest difference |")
    print("|---|" + "---|" * (len(ORDERS) + 1))
    start, equal = time.perf_counter(), 0
    for name, (file, published) in PUBLISHED.items():
        found = measured(Path(sys.argv[1]) / file)
        apart = [abs(a - b) for a, b in zip(published, found, strict=True)]
        equal += sum(a <= WITHIN for a in apart)
        cells = [f"{a:.3f}, {b:.4f}" for a, b in zip(published, found, strict=True)]
        print(f"| {name} | " + " | ".join(cells) + f" | {max(apart):.4f} |")
    cells_in_all = len(PUBLISHED) * len(ORDERS)
    print(f"\n{equal} of {cells_in_all} cells within {WITHIN}, {time.perf_counter() - start:.0f} s.")


if __name__ == "__main__":
    main()
