"""How far the samples of each side move every number: the squares add up to the variance behind its interval."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import pytest
import torch
from scipy import stats
from torch import Tensor

from evalkit import registry
from evalkit.metrics import BUILTIN
from evalkit.metrics.alignment import clip_score_estimate
from evalkit.metrics.clipped import clipped_estimates
from evalkit.metrics.cmmd import cmmd_estimates
from evalkit.metrics.copying import authentic_share, data_copying, memorization_informed_distance
from evalkit.metrics.detectability import selected_area
from evalkit.metrics.detection import (
    area_under_roc,
    average_precision_estimate,
    equal_error_rate,
    true_positive_rate,
)
from evalkit.metrics.diversity import mean_pair_distance
from evalkit.metrics.frechet import frechet_estimate, frechet_unbiased
from evalkit.metrics.inception_score import class_estimates, inception_estimate
from evalkit.metrics.kernel import kernel_estimate, subset_estimates
from evalkit.metrics.likelihood import corpus_bits_per_byte, corpus_perplexity
from evalkit.metrics.memorization import memorization_estimate
from evalkit.metrics.mind import sliced_estimate
from evalkit.metrics.neighbours import neighbour_estimates
from evalkit.metrics.ngrams import distinct_share, mean_self_bleu, novel_share
from evalkit.metrics.realism import realism_estimate
from evalkit.metrics.two_sample import two_sample_test
from evalkit.metrics.vendi import vendi_estimate
from evalkit.pairing import correlation, kept
from evalkit.resample import bootstrap, group_jackknife, moves_of_mean
from evalkit.samples import open_samples, select
from evalkit.types import Estimate, Features

N = 160
G = torch.Generator().manual_seed(0)
REAL = torch.randn(N, 12, generator=G).double()
FAKE = 0.3 + 1.2 * torch.randn(N - 20, 12, generator=G).double()
TRAIN = torch.randn(300, 12, generator=G).double()
SCORES = torch.randn(N, generator=G).double(), 1 + torch.randn(N - 20, generator=G).double()
PANEL = torch.randn(N, 3, generator=G).double(), 1 + torch.randn(N - 20, 3, generator=G).double()
LOGITS = 3 * torch.randn(N, 10, generator=G).double()
NATS = torch.stack([torch.rand(N, generator=G) * 90 + 40, *torch.randint(20, 60, (2, N), generator=G)], dim=1).double()
WORDS = [" ".join(f"w{w}" for w in torch.randint(40, (12,), generator=G).tolist()) for _ in range(60)]


@cache
def two_sample() -> dict[str, Estimate]:
    return two_sample_test(REAL[:60, :3], FAKE[:60, :3], folds=3)


# What makes the number, the sides that move it, and how much wider (1 = as wide) its interval may be than they say.
ESTIMATES: dict[str, tuple[Callable[[], Estimate], str, tuple[float, float]]] = {
    # Half of what pairs of samples add is taken off the interval of fid.
    "fid": (lambda: frechet_estimate(REAL, FAKE), "real fake", (0.8, 1.001)),
    "fid.unbiased": (lambda: frechet_unbiased(REAL, FAKE), "real fake", (0.999, 1.001)),
    "kid": (lambda: kernel_estimate(REAL, FAKE), "real fake", (0.999, 1.001)),
    # Drawing subsets adds to the interval and to neither side.
    "kid, subsets": (lambda: subset_estimates(REAL, FAKE, subsets=50, subset_size=100)[""], "real fake", (1, 1.2)),
    "kid, few subsets": (lambda: subset_estimates(REAL, FAKE, subsets=2, subset_size=40)[""], "real fake", (1, 9)),
    "cmmd": (lambda: cmmd_estimates(REAL, FAKE)[""], "real fake", (0.9, 1.001)),
    "mind": (lambda: sliced_estimate(REAL[:140], FAKE, directions=50), "real fake", (0.999, 1.001)),
    # Few draws of halves, Student's quantile of 20 and smoothed terms: 1 is not to be had.
    "prdc.precision": (lambda: neighbour_estimates(REAL, FAKE)["precision"], "fake draws", (0.75, 1.6)),
    "prdc.recall": (lambda: neighbour_estimates(REAL, FAKE)["recall"], "real draws", (0.75, 1.6)),
    "prdc.density": (lambda: neighbour_estimates(REAL, FAKE)["density"], "fake draws", (0.75, 1.6)),
    "prdc.coverage": (lambda: neighbour_estimates(REAL, FAKE)["coverage"], "real draws", (0.75, 1.6)),
    "clipped.density": (lambda: clipped_estimates(REAL, FAKE)["density"], "fake draws", (0.75, 1.6)),
    "realism": (lambda: realism_estimate(REAL, FAKE), "fake draws", (0.75, 1.6)),
    "vendi": (lambda: vendi_estimate(FAKE), "fake", (0.999, 1.001)),
    "lpips_diversity": (lambda: mean_pair_distance(FAKE), "fake", (0.999, 1.001)),
    "inception_score": (lambda: inception_estimate(LOGITS), "fake", (0.999, 1.001)),
    "inception_score, 4 splits": (lambda: inception_estimate(LOGITS, splits=4), "fake", (0.999, 1.001)),
    "classes.confidence": (lambda: class_estimates(LOGITS)["confidence"], "fake", (0.999, 1.001)),
    "classes.balance": (lambda: class_estimates(LOGITS)["balance"], "fake", (0.5, 1.001)),
    "clip_score": (lambda: clip_score_estimate(REAL + TRAIN[:N], TRAIN[:N]), "fake", (0.999, 1.001)),
    "perplexity": (lambda: corpus_perplexity(NATS), "fake", (0.999, 1.001)),
    "bits_per_byte": (lambda: corpus_bits_per_byte(NATS), "fake", (0.999, 1.001)),
    "held_out_bits": (lambda: corpus_bits_per_byte(NATS, side="real"), "real", (0.999, 1.001)),
    # The interval is even on another scale, and about as wide.
    "auroc": (lambda: area_under_roc(*SCORES), "real fake", (0.97, 1.03)),
    "average_precision": (lambda: average_precision_estimate(*SCORES), "draws", (0.93, 1.07)),
    "eer": (lambda: equal_error_rate(*SCORES), "draws", (0.93, 1.07)),
    "tpr_at_fpr": (lambda: true_positive_rate(*SCORES), "draws", (0.9, 1.1)),
    # The upper end reaches up to the best column, and which one is chosen changes with the cut.
    "detectability": (lambda: selected_area(*PANEL), "real fake", (0.9, 1.6)),
    "c2st.accuracy": (lambda: two_sample()["accuracy"], "real fake", (0.95, 1.05)),
    "c2st.auroc": (lambda: two_sample()["auroc"], "real fake", (0.95, 1.05)),
    "memorization": (lambda: memorization_estimate(REAL, FAKE, TRAIN), "real fake", (0.9, 1.1)),
    "ct": (lambda: data_copying(REAL, FAKE, TRAIN, cells=2), "real fake", (0.999, 1.001)),
    # The ends of both factors' intervals are joined, which is wide.
    "mifid": (lambda: memorization_informed_distance(REAL, FAKE, TRAIN), "real fake", (0.8, 2)),
    "authenticity": (lambda: authentic_share(FAKE, TRAIN), "fake", (0.9, 1.1)),
    "distinct": (lambda: distinct_share(WORDS), "fake", (0.999, 1.001)),
    # Wilson's end reaches further on one side.
    "novelty": (lambda: novel_share(WORDS[:20], WORDS[20:], n=2), "fake", (0.999, 1.1)),
    "self_bleu": (lambda: mean_self_bleu(WORDS), "fake", (0.999, 1.001)),
}


def degrees(name: str, estimate: Estimate) -> float:
    """Degrees of freedom behind the interval, as the metric's docstring has them."""
    if estimate.method == "split halves":
        return 20
    if estimate.method.removesuffix(", wilson") not in ("jackknife", "standard error"):
        return math.inf
    if name.startswith("inception_score, 4"):
        return N / 4 - 1
    assert estimate.moves is not None
    return min(map(len, estimate.moves.values())) - 1


@pytest.mark.parametrize("name", ESTIMATES)
def test_the_squares_add_up_to_the_variance_behind_the_interval(name: str) -> None:
    make, sides, (least, most) = ESTIMATES[name]
    found = make()
    assert found.moves is not None
    assert list(found.moves) == sides.split()
    squares = sum(float(moved.square().sum()) for moved in found.moves.values())
    reach = math.sqrt(squares) * float(stats.t.ppf(0.975, degrees(name, found)))
    assert least <= (found.high - found.low) / 2 / reach <= most
    for side, moved in found.moves.items():
        assert moved.dtype == torch.float64
        is_centred = abs(float(moved.sum())) < 1e-6 * float(moved.abs().sum())
        # Draws are what is left of a difference; rows that were in one subset more than others weigh more.
        assert is_centred or side == "draws" or name == "kid, few subsets"


OF_TEXTS = ("copied", "longest_copy", "mauve", "frontier_integral", "ngram_diversity", "novelty_curve", "repetition",
            "seq_rep", "unrepeated")  # fmt: skip


@pytest.mark.parametrize("name", OF_TEXTS)
def test_numbers_of_texts_say_how_far_each_text_moves_them(name: str) -> None:
    made = registry.metrics.get(name)
    prose = open_samples("embedded:prose/heldout")
    texts = {side: select(prose, range(40 * i, 40 * i + 40)) for i, side in enumerate(("real", "fake", "train"))}
    g = torch.Generator().manual_seed(0)
    sides: dict[str, object] = {
        side: Features(torch.randn(40, 6, generator=g), "toy", samples) for side, samples in texts.items()
    }
    sides["samples"] = texts["fake"]
    found = made(*(sides[word] for word in made.asks))
    parts = found if isinstance(found, Mapping) else {"": found}
    told = {part: e for part, e in parts.items() if isinstance(e, Estimate) and e.method != "none"}
    assert told
    for part, estimate in told.items():
        assert estimate.moves is not None
        # k-means seeds are no samples of either side.
        assert all(len(m) == 40 for side, m in estimate.moves.items() if side != "seeds"), part


def test_every_number_with_an_error_bar_of_samples_is_among_them() -> None:
    """Calls are not samples; a permutation test, and steps along a path, share no sample by name."""
    others = {"throughput", "latency", "energy", "flops", "memorization_p", "ppl"}
    others |= {"ttft", "tpot", "inter_token_latency", "tokens_per_second"}
    same = {"sfid": "fid", "bits_per_dim": "bits_per_byte"}
    elsewhere = {"agreement", "ms_ssim_diversity", *OF_TEXTS}  # below: they read labels, images and texts
    elsewhere |= {"bleu", "chrf", "rouge", "extraction", "group_bias", "toxicity"}  # means of terms, in their own tests
    elsewhere |= {"compression_ratio", "zipf"}  # bare numbers: groups of texts are left out in turn
    known = {name.split(",")[0].split(".")[0] for name in ESTIMATES}
    assert {same.get(name, name) for name in {*BUILTIN} - others - elsewhere} <= known
    assert not others & known


@pytest.mark.parametrize("name", ["fid", "kid", "auroc", "lpips_diversity", "perplexity"])
def test_a_sample_that_pushes_a_number_up_moves_it_up(name: str) -> None:
    """Left out, the sample that moves it most lets it fall, and the one that moves it least lets it rise."""
    made: dict[str, Callable[[Tensor], Estimate]] = {
        "fid": lambda keep: frechet_estimate(REAL, FAKE[keep]),
        "kid": lambda keep: kernel_estimate(REAL, FAKE[keep]),
        "auroc": lambda keep: area_under_roc(SCORES[0], SCORES[1][keep]),
        "lpips_diversity": lambda keep: mean_pair_distance(FAKE[keep]),
        "perplexity": lambda keep: corpus_perplexity(NATS[:140][keep]),
    }
    everything = torch.ones(140, dtype=torch.bool)
    whole = made[name](everything)
    assert whole.moves is not None
    for best, sign in ((int(whole.moves["fake"].argmax()), -1), (int(whole.moves["fake"].argmin()), 1)):
        keep = everything.clone()
        keep[best] = False
        assert sign * (made[name](keep).value - whole.value) > 0


def test_moves_of_a_mean_are_its_standard_error() -> None:
    x = torch.tensor([1.0, 2.0, 6.0])
    assert moves_of_mean(x).tolist() == pytest.approx([-2 / 6**0.5, -1 / 6**0.5, 3 / 6**0.5])
    assert moves_of_mean(torch.ones(1)).tolist() == [0.0]


def test_groups_left_out_move_a_difference_of_means_as_they_should() -> None:
    a, b = torch.randn(2, 400, generator=torch.Generator().manual_seed(4)).double()
    found = group_jackknife(lambda k: {"": float(a[k[0]].mean() - b[k[1]].mean())}, [400, 400], names=("real", "fake"))
    moves = found[""].moves
    assert moves is not None
    assert {side: len(moved) for side, moved in moves.items()} == {"real": 20, "fake": 20}
    # The same real samples against others: half of either variance is shared.
    c = torch.randn(400, generator=torch.Generator().manual_seed(5)).double()
    other = group_jackknife(lambda k: {"": float(a[k[0]].mean() - c[k[1]].mean())}, [400, 400], names=("real", "fake"))
    keys = {"real": "r"}
    assert correlation(kept(moves, keys), kept(other[""].moves, keys)) == pytest.approx(0.5, abs=0.2)


def test_draws_with_replacement_pair_two_means_over_the_same_rows() -> None:
    g = torch.Generator().manual_seed(6)
    x = torch.randn(300, generator=g).double()
    y = 0.6 * x + 0.8 * torch.randn(300, generator=g).double()
    found = [bootstrap(lambda keep, z=z: {"": z[keep[0]].mean(dim=1)}, [300])[""] for z in (x, y)]  # type: ignore[misc]
    exact = float(torch.corrcoef(torch.stack([x, y]))[0, 1])
    assert correlation(*(kept(f.moves, {"draws": "d"}) for f in found)) == pytest.approx(exact, abs=0.15)
    assert correlation(*(kept(f.moves, {"draws": "d"}) for f in found)) > 0.3
