"""The embedded suite: what `evalkit compare` runs when nobody says what, one chapter a modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .types import Modality


@dataclass(frozen=True)
class Chapter:
    """The data, the generators and the metrics of one modality; n is capped by the held-back data of the ceiling.

    fresh_lessons: detectors learn from half of the training split and as many newly drawn samples (the ceiling gives
    the other half), and test on all that is scored. Otherwise they learn from one half of what is scored and test on
    the other: the rule where the instruments a detector reads were themselves trained on the training split.
    """

    title: str
    data: str
    n: int
    generators: tuple[str, ...]
    metrics: tuple[str, ...]
    fresh_lessons: bool


SUITE: Mapping[Modality, Chapter] = {
    "image": Chapter(
        title="Images: handwritten digits, 8x8",
        data="embedded:digits",
        n=320,
        generators=("resample", "gan", "vae", "diffusion", "noise"),
        metrics=(
            "fid@random_conv",
            "fid@digits_net",
            "kid@random_conv",
            "prdc@digits_net",
            "inception_score@digits_net",
            "classes@digits_net",
            "c2st@pixels",
            "auroc@spectrum",
            "auroc@cnn",
            "tpr_at_fpr@cnn",
            "memorization@pixels",
            "throughput",
            "latency.p50",
        ),
        fresh_lessons=True,
    ),
    "text": Chapter(
        title="Texts: English reference prose",
        data="embedded:prose",
        n=288,
        generators=("resample", "lm", "ngram", "unigram"),
        metrics=(
            "c2st@prose_states.auroc",
            "kid@prose_states",
            "fid@prose_states",
            "perplexity@prose_lm",
            "bits_per_byte@prose_lm",
            "auroc@ngram_lr",
            "auroc@likelihood",
            "tpr_at_fpr@ngram_lr",
            "distinct",
            "self_bleu",
            "novelty",
            "memorization@char_ngrams",
            "throughput",
            "latency.p50",
        ),
        fresh_lessons=False,
    ),
}
