"""Zero-shot statistics by hand on a language model that is a table of probabilities; direction, map and refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detectors._perturbing import WordSpans, WordSwaps
from detectors._token_rows import PairReader, ProseReader, SingleReader
from detectors.zero_shot import SINGLE, STATISTICS, ZeroShot, detectgpt, gltr, lrr, npr
from evalkit import registry
from evalkit.errors import BadSetting, ModalityMismatch, RunFailed, UnknownName, UnreadableSample
from evalkit.extractors.causal.instrument import CausalLM, Opened
from evalkit.extractors.causal.pair import PairLM
from evalkit.types import Arranging, Detector

from .models import Bigram, plain_loop, table
from .toys import texts

V = 27
TABLES = table(V, 0), table(V, 1)
TEXTS = ["banana", "zqx", "ab" * 20, "the" * 7]
RNG = np.random.default_rng(0)


class Letters(CausalLM):
    """p(next letter | last letter) from a table of logits; letter a is token 1, a text begins after token 0."""

    kind, place_says = "letters", "SEED"

    def _open(self, place: str) -> Opened:
        own = TABLES[int(place)]
        encode: Callable[[str], list[int]] = lambda text: [ord(c) - 96 for c in text]  # noqa: E731
        return Opened({"table": place}, encode, 0, "token 0", "letters", 64, len(own), lambda: Bigram(own), {})


class LettersPair(PairLM):
    """Two tables: the first observes, the second performs."""

    def __init__(self) -> None:
        super().__init__("toy")
        vars(self)["models"] = (Letters("0"), Letters("1"))


def single(statistic: str, **given) -> ZeroShot:
    return ZeroShot(statistic, reader=SingleReader(Letters("0")), **given)


def statistics(judge: ZeroShot, given: list[str]) -> torch.Tensor:
    return judge.statistics(judge.arrange([judge.prepare(text) for text in given]))


def by_hand(text: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """Of each letter, from the table itself."""
    ids = [0, *(ord(c) - 96 for c in text)]
    return plain_loop(lambda batch: TABLES[seed][batch], ids)


def likely(n: int, seed: int) -> str:
    """n letters, each drawn from the table sharpened by two."""
    rng, ids = np.random.default_rng(seed), [0]
    for _ in range(n):
        p = (2 * TABLES[0][ids[-1]][1:].double()).softmax(0).numpy()
        ids.append(1 + int(rng.choice(V - 1, p=p / p.sum())))
    return "".join(chr(96 + i) for i in ids[1:])


def random(n: int, seed: int) -> str:
    return "".join(chr(97 + i) for i in np.random.default_rng([9, seed]).integers(0, 26, n))


# ---------------------------------------------------------------------------------------------- by hand

HAND: dict[str, Callable[[dict[str, torch.Tensor]], float]] = {
    "likelihood": lambda h: float(h["log_p"].mean()),
    "rank": lambda h: -float(h["rank"].mean()),
    "log_rank": lambda h: -float(h["rank"].log().mean()),
    "entropy": lambda h: float(h["entropy"].mean()),
    "lrr": lambda h: -float(h["log_p"].sum() / h["rank"].log().sum()),
    "fast_detectgpt": lambda h: float((h["log_p"].sum() - h["mu"].sum()) / h["variance"].sum().sqrt()),
}


@pytest.mark.parametrize("statistic", HAND)
def test_a_statistic_is_what_the_table_says(statistic):
    found = statistics(single(statistic), TEXTS)
    assert found.shape == (len(TEXTS), 1) and found.dtype == torch.float64
    assert found[:, 0].tolist() == pytest.approx([HAND[statistic](by_hand(text)) for text in TEXTS], rel=1e-5)


def test_gltr_is_the_histogram_of_ranks():
    found = statistics(single("gltr"), TEXTS)
    ranks = [by_hand(text)["rank"] for text in TEXTS]
    # 27 tokens: no rank beyond 100.
    wanted = [[float((r <= 10).double().mean()), float((r > 10).double().mean()), 0, 0] for r in ranks]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-7)
    counted = {"tokens": torch.tensor([8.0]), "top_10": torch.tensor([4.0]), "top_100": torch.tensor([2.0])}
    assert gltr({**counted, "top_1000": torch.ones(1), "rest": torch.ones(1)}).tolist() == [[0.5, 0.25, 0.125, 0.125]]


def test_two_models_give_fast_detectgpt_and_binoculars_as_their_formulas_have_them():
    reader = PairReader(LettersPair())
    for text in TEXTS:
        ids = torch.tensor([0, *(ord(c) - 96 for c in text)])
        q, p = (t[ids].double().log_softmax(-1) for t in TABLES)
        own = p[:-1].gather(1, ids[1:, None])[:, 0]
        mu = (q.exp() * p).sum(1)
        variance = (q.exp() * p.square()).sum(1) - mu.square()
        curvature = float((own.sum() - mu[:-1].sum()) / variance[:-1].sum().sqrt())
        # The cross entropy is over the place behind the last letter too; machines lie below, so the sign is turned.
        binoculars = float(-own.mean() / -mu.mean())
        assert statistics(ZeroShot("fast_detectgpt", reader=reader), [text]).item() == pytest.approx(
            curvature, rel=1e-5
        )
        assert statistics(ZeroShot("binoculars", reader=reader), [text]).item() == pytest.approx(-binoculars, rel=1e-5)


class Fixed:
    """Copies that are known."""

    name, digest = "fixed", "fixed"

    def __call__(self, text: str, n: int, seed: int) -> list[str]:
        return ["abab", "bbbb", "zz", "az"][:n]


def test_detectgpt_is_the_z_score_of_the_copies_with_the_population_deviation():
    judge = single("detectgpt:perturbations=4", perturber=Fixed())
    copies = [float(by_hand(text)["log_p"].mean()) for text in Fixed()("", 4, 0)]
    wanted = [(float(by_hand(t)["log_p"].mean()) - np.mean(copies)) / np.std(copies) for t in TEXTS]
    assert statistics(judge, TEXTS)[:, 0].tolist() == pytest.approx(wanted, rel=1e-4)
    alone = single("detectgpt:perturbations=1", perturber=Fixed())
    assert statistics(alone, ["zqx"]).item() == pytest.approx(
        float(by_hand("zqx")["log_p"].mean() - by_hand("abab")["log_p"].mean()), rel=1e-4
    )


def test_npr_is_the_copies_log_rank_over_the_texts():
    judge = single("npr:perturbations=3", perturber=Fixed())
    copies = np.mean([float(by_hand(text)["rank"].log().mean()) for text in Fixed()("", 3, 0)])
    wanted = [copies / float(by_hand(t)["rank"].log().mean()) for t in TEXTS]
    assert statistics(judge, TEXTS)[:, 0].tolist() == pytest.approx(wanted, rel=1e-5)


def test_a_text_of_likeliest_tokens_alone_divides_by_one_token_that_was_second():
    c = {key: torch.tensor([value]) for key, value in (("tokens", 4.0), ("log_p", -2.0), ("log_rank", 0.0))}
    assert lrr(c).item() == pytest.approx(2 / math.log(2))
    assert npr(c, [{**c, "log_rank": torch.tensor([math.log(16)])}]).item() == pytest.approx(4)
    assert detectgpt(c, [c, c]).item() == 0


# ---------------------------------------------------------------------------------------------- direction, map


@pytest.mark.parametrize(
    "statistic", [s for s in STATISTICS if s not in ("entropy", "gltr", "binoculars", "detectgpt", "npr")]
)
def test_what_the_model_finds_likely_scores_higher(statistic):
    high, low = ([write(60, seed) for seed in range(12)] for write in (likely, random))
    assert statistics(single(statistic), high).min() > statistics(single(statistic), low).max()


@pytest.mark.parametrize("statistic", ["detectgpt", "npr"])
def test_what_the_model_finds_likely_falls_further_when_it_is_changed(statistic):
    class Upset:
        name, digest = "upset", "upset"

        def __call__(self, text: str, n: int, seed: int) -> list[str]:
            return ["".join(np.random.default_rng(k).permutation(list(text))) for k in range(n)]

    high, low = ([write(60, seed) for seed in range(12)] for write in (likely, random))
    judge = single(statistic, perturber=Upset())
    assert statistics(judge, high).min() > statistics(judge, low).max()


def test_binoculars_is_higher_for_what_the_performer_finds_likely():
    judge = ZeroShot("binoculars", reader=PairReader(LettersPair()))
    best = "".join(chr(97 + int(TABLES[1][i][1:].argmax())) for i in range(1, V))
    worst = "".join(chr(97 + int(TABLES[1][i][1:].argmin())) for i in range(1, V))
    pairs = [(chr(96 + i) + b, chr(96 + i) + w) for i, (b, w) in enumerate(zip(best, worst, strict=True), 1)]
    for likelier, unlikelier in pairs:
        assert statistics(judge, [likelier]).item() > statistics(judge, [unlikelier]).item()


@pytest.fixture(scope="module")
def sides():
    return [likely(40, s) for s in range(30)], [random(40, s) for s in range(30)]


@pytest.mark.parametrize("statistic", ["log_rank", "gltr", "entropy"])
def test_p_fake_rises_with_the_score_and_survives_being_saved(statistic, sides, tmp_path):
    machine, human = sides
    judge = single(statistic)
    judge.fit(texts(*human), texts(*machine), seed=0)
    batch = judge.arrange([judge.prepare(t) for t in [*machine, *human]])
    rows = judge(batch)
    assert rows.shape == (60, 1 + judge.columns) and isinstance(judge, Detector) and isinstance(judge, Arranging)
    p = rows[:, judge.heads["p_fake"]][:, 0]
    assert p.min() >= 0 and p.max() <= 1 and rows.dtype == torch.float32
    if statistic == "gltr":
        assert p[:30].mean() > 0.8 > 0.2 > p[30:].mean()
    else:
        # One order, so one AUROC: also where the statistic is the wrong way round.
        assert rows[:, 1].argsort().tolist() == p.argsort().tolist()
    judge.save(tmp_path)
    back = single(statistic)
    back.load(tmp_path)
    assert torch.equal(back(batch), rows) and back.digest == judge.digest


def test_a_statistic_that_is_the_wrong_way_round_is_not_turned(sides):
    machine, human = sides
    judge = single("log_rank")
    judge.fit(texts(*machine), texts(*human), seed=0)
    p = judge(judge.arrange([judge.prepare(t) for t in [*machine, *human]]))[:, 0]
    assert p[:30].min() > p[30:].max() and float((p - 0.5).abs().max()) < 0.01


@pytest.mark.parametrize("name", ["log_rank", "fast_detectgpt", "npr:perturbations=2"])
def test_a_text_is_judged_alike_alone_and_beside_longer_ones(name):
    judge, given = (
        ZeroShot(name),
        ["Two words here.", "A text that goes on. " * 30, "Short and plain text of one line."],
    )
    together = statistics(judge, given)
    alone = torch.cat([statistics(judge, [text]) for text in given])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_prose_lm_gives_the_columns_that_its_distributions_have():
    reader = ProseReader()
    text = reader.prepare("The cat sat on the mat, naïvely.")
    size = int((text != 256).sum())
    log_p = reader._lm.next_log_probabilities(text[None])[0, :size].double()
    own = log_p.gather(1, text[:size, None])
    mu = (log_p.exp() * log_p).sum(1)
    c = reader.columns([text])
    assert c["tokens"].item() == size == len("The cat sat on the mat, naïvely.".encode())
    wanted = {
        "log_p": own.sum(),
        "rank": (1 + (log_p > own).sum(1)).sum(),
        "log_rank": (1 + (log_p > own).sum(1)).double().log().sum(),
        "entropy": -mu.sum(),
        "mu": mu.sum(),
        "variance": ((log_p.exp() * log_p.square()).sum(1) - mu.square()).sum(),
        "mean": -own.mean(),
    }
    for name, value in wanted.items():
        assert c[name].item() == pytest.approx(float(value), rel=1e-4), name


# ---------------------------------------------------------------------------------------------- perturbing


@pytest.mark.parametrize("perturber", [WordSpans(), WordSwaps()])
@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(["red", "blue", "green", "one", "two"]), min_size=1, max_size=60), st.integers(0, 5))
def test_copies_keep_the_length_and_most_words_and_are_those_of_the_seed(perturber, words, seed):
    text = "  ".join(words) + "\n"
    copies = perturber(text, 3, seed)
    assert copies == perturber(text, 5, seed)[:3] and len(copies) == 3
    for copy in copies:
        assert len(copy.split()) == len(words) and copy.count("  ") == len(words) - 1 and copy.endswith("\n")
        changed = sum(a != b for a, b in zip(copy.split(), words, strict=True))
        assert changed <= 2 * math.ceil(0.3 * len(words) / 4)
        assert set(copy.split()) <= set(words)


def test_spans_change_fifteen_in_a_hundred_words_and_swaps_keep_all_of_them():
    text = " ".join(f"w{i}" for i in range(200))
    [span], [swap] = WordSpans()(text, 1, 0), WordSwaps()(text, 1, 0)
    assert sum(a != b for a, b in zip(span.split(), text.split(), strict=True)) == 30
    assert sorted(swap.split()) == sorted(text.split()) and swap != text


# ---------------------------------------------------------------------------------------------- names, refusals


def test_the_door_makes_variants_by_name():
    judge = registry.detectors.get("zero_shot:npr:perturbations=3:perturber=swaps:prose_lm")()
    assert judge.statistic == "npr" and judge.about["perturber"] == "swaps, 3 copies"
    assert registry.detectors.get("zero_shot")().statistic == "fast_detectgpt"
    recipes = {ZeroShot(v).recipe for v in (*SINGLE, "npr", "npr:perturbations=3", "npr:perturber=swaps", "detectgpt")}
    assert len(recipes) == len(SINGLE) + 4
    about = ZeroShot("binoculars", reader=PairReader(LettersPair())).about
    assert "0.9015310749276843" in about["published thresholds"] and "not used" in about["published thresholds"]


@pytest.mark.parametrize(
    ("variant", "error", "words"),
    [
        ("logrank", UnknownName, "log_rank"),
        ("log_rank:gpt2", UnknownName, "hf_lm:FOLDER"),
        ("binoculars", BadSetting, "lm_pair:hf_lm:OBSERVER"),
        ("log_rank:lm_pair:hf_lm:a+hf_lm:b", BadSetting, "one model"),
        ("log_rank:perturbations=3", BadSetting, "perturbs nothing"),
        ("npr:perturbations=0", BadSetting, "1 to 1000"),
        ("npr:perturber=t5", UnknownName, "spans"),
        ("npr:copies=3", UnknownName, "perturbations"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(variant, error, words):
    with pytest.raises(error, match=words) as caught:
        ZeroShot(variant)
    assert "\n" not in str(caught.value)


def test_an_image_a_blank_text_and_an_unfitted_judge_are_refused():
    judge = ZeroShot("log_rank")
    with pytest.raises(ModalityMismatch):
        judge.prepare(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UnreadableSample):
        judge.prepare(" \n")
    with pytest.raises(RunFailed, match="not been fitted"):
        judge(judge.arrange([judge.prepare("a text")]))
