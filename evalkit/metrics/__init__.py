"""The numbers: how good, diverse, original, fast and detectable; each a pure function of rows, texts or timings."""

from __future__ import annotations

BUILTIN: dict[str, str] = {
    "auroc": "evalkit.metrics.detection:auroc",
    "average_precision": "evalkit.metrics.detection:average_precision",
    "bits_per_byte": "evalkit.metrics.likelihood:bits_per_byte",
    "c2st": "evalkit.metrics.two_sample:c2st",
    "classes": "evalkit.metrics.inception_score:classes",
    "distinct": "evalkit.metrics.ngrams:distinct",
    "eer": "evalkit.metrics.detection:eer",
    "fid": "evalkit.metrics.frechet:fid",
    "inception_score": "evalkit.metrics.inception_score:inception_score",
    "kid": "evalkit.metrics.kernel:kid",
    "latency": "evalkit.metrics.speed:latency",
    "memorization": "evalkit.metrics.memorization:memorization",
    "novelty": "evalkit.metrics.ngrams:novelty",
    "perplexity": "evalkit.metrics.likelihood:perplexity",
    "prdc": "evalkit.metrics.neighbours:prdc",
    "self_bleu": "evalkit.metrics.ngrams:self_bleu",
    "throughput": "evalkit.metrics.speed:throughput",
    "tpr_at_fpr": "evalkit.metrics.detection:tpr_at_fpr",
}
