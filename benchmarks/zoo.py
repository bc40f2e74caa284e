"""Every reference generator trained on the embedded data and scored: how good, original, likely, detectable and dear.

    python -m benchmarks.zoo            all of them
    python -m benchmarks.zoo images     the image generators on embedded:digits
    python -m benchmarks.zoo texts      the language models on embedded:prose

Prints Markdown tables and what the board says of floors and saboteurs. `--out DIR` keeps the report as well. Models are
kept in the cache with the seconds their training took: set EVALKIT_CACHE to an empty folder to train them all.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import evalkit
from evalkit import Leaderboard, RunRecord
from evalkit.cache import Cache, default_root

IMAGES = (
    "resample", "vanilla_gan", "gan", "wgan_gp", "dcgan", "stylegan", "cyclegan", "vae", "beta_vae", "diffusion",
    "flow_matching", "latent_diffusion", "text_to_image", "realnvp", "pixelcnn", "pixelrnn", "gaussian_mixture", "pca",
    "gaussian_process", "markov_field", "memorizer", "mode_collapse", "label_noise", "class_mean", "shuffled_pixels",
    "noise",
)  # fmt: skip
TEXTS = ("resample", "lm", "lstm", "masked_lm", "text_diffusion", "ngram", "memorizer", "unigram")

METRICS: Mapping[str, tuple[str, ...]] = {
    "images": (
        "fid@digits_net",
        "kid@digits_net",
        "prdc@digits_net.precision",
        "prdc@digits_net.recall",
        "prdc@digits_net.coverage",
        "agreement@digits_net",
        "memorization@pixels",
        "held_out_bits",
        "auroc@cnn",
        "c2st@pixels.auroc",
        "throughput",
    ),
    "texts": (
        "kid@prose_states",
        "fid@prose_states",
        "prdc@prose_states.precision",
        "prdc@prose_states.recall",
        "prdc@prose_states.coverage",
        "memorization@char_ngrams",
        "held_out_bits",
        "bits_per_byte@prose_lm",
        "auroc@ngram_lr",
        "c2st@prose_states.auroc",
        "throughput",
    ),
}
DATA = {"images": ("embedded:digits", IMAGES, 320), "texts": ("embedded:prose", TEXTS, 288)}
SHORT = {"precision": "precision", "recall": "recall", "coverage": "coverage", "auroc": "c2st AUROC"}


def tables(board: Leaderboard, metrics: Sequence[str]) -> str:
    """The board as two Markdown tables: numbers with intervals, and what each generator cost."""
    records = {r.subject.name: r for r in board.records}
    order = [row.name for row in board.comparisons[0].rows]
    heads = [m.split("@")[0] if "." not in m else SHORT[m.rsplit(".", 1)[1]] for m in metrics[:-1]]
    lines = ["| generator | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name in order:
        record = records[name]
        lines.append(f"| {_named(record)} | " + " | ".join(_number(record, m) for m in metrics[:-1]) + " |")
    lines += [
        "",
        "| generator | parameters | training s | samples/s alone | in its best batch | p50 / p95 / p99 ms | Mflop |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [_cost(records[name]) for name in order]
    return "\n".join(lines)


def _named(record: RunRecord) -> str:
    role = record.subject.role
    return record.subject.name if role == "candidate" else f"{record.subject.name} *({role})*"


def _number(record: RunRecord, name: str) -> str:
    result = next((r for r in record.results if r.name == name), None)
    return "–" if result is None else f"{result.value:.3g} [{result.low:.3g}, {result.high:.3g}]"


def _cost(record: RunRecord) -> str:
    timing = dict(record.timing or {})
    latency, best = timing.get("latency_ms"), timing.get("best_batch")
    training, flops = timing.get("training_seconds"), timing.get("flops_per_sample")
    cells = [
        record.subject.name,
        f"{timing.get('parameters', 0):,}",
        "–" if training is None else f"{training:.1f}",
        "–" if latency is None else f"{1000 / latency['p50']:,.3g}",
        "–" if best is None else f"{best['samples_per_second']:,.3g} ({best['batch_size']})",
        "–" if latency is None else " / ".join(f"{latency[p]:.3g}" for p in ("p50", "p95", "p99")),
        "–" if flops is None else f"{flops / 1e6:.3g}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.zoo", description=__doc__)
    parser.add_argument("what", nargs="?", choices=tuple(DATA), help="images or texts; both when left out")
    parser.add_argument("--out", type=Path, help="keep the reports in this folder")
    parser.add_argument("--only", nargs="+", help="these generators instead of all")
    given = parser.parse_args()
    for what in [given.what] if given.what else DATA:
        measured(what, given.only, None if given.out is None else given.out / what)


def measured(what: str, only: Sequence[str] | None, out: Path | None) -> None:
    """One board, printed."""
    data, subjects, n = DATA[what]
    start, cpu = time.perf_counter(), time.process_time()
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    board = evalkit.compare(
        only or subjects,
        real=data,
        metrics=METRICS[what],
        settings=evalkit.Settings(n=n),
        out=out,
        bench=evalkit.Bench(cache=Cache(default_root())),
    )
    print(tables(board, METRICS[what]))
    print()
    for line in board.comparisons[0].verdict:
        print(f"- {line}")
    wall, used = time.perf_counter() - start, time.process_time() - cpu
    trained = sum(float((r.timing or {}).get("training_seconds") or 0) for r in board.records)
    print(flush=True)
    print(f"{what}: {wall:.0f} s in all, {used:.0f} CPU s, of which training {trained:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
