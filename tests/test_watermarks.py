"""Watermark schemes: golden numbers of others' code, exact tails against scipy, nulls that are uniform, real sets."""

from __future__ import annotations

import hashlib
import json
import math
from functools import reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, kstest
from sklearn.metrics import roc_auc_score

from evalkit.errors import BadSetting, RunFailed
from evalkit.watermarking.exponential import Exponential
from evalkit.watermarking.kgw import Kgw, windows
from evalkit.watermarking.randomness import bits, cuda_bits, philox
from evalkit.watermarking.synthid import SynthId
from evalkit.watermarking.tails import binomial_tail, gamma_tail, lattice_tail
from evalkit.watermarking.tokenizers import BytePairs, ScoredPieces, read_merges

from .data import shared


def words(n: int, vocabulary: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, vocabulary, n).tolist()


# ---------------------------------------------------------------------------------------------- tails


@pytest.mark.parametrize(("n", "k"), [(100, 50), (100, 60), (100, 90), (100, 100), (5000, 3200), (7000, 3550), (30, 0)])
def test_tails_of_fair_coins_are_binomial_in_any_depth(n, k):
    expected = binom.sf(k - 1, n, 0.5)
    assert lattice_tail(np.array([0.5, 0.5]), n, k) == pytest.approx(expected, rel=1e-11)
    assert binomial_tail(k, n, 0.5) == pytest.approx(expected, rel=1e-11)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=2, max_size=7).filter(lambda w: sum(x > 0 for x in w) > 1), st.integers(1, 15)
)
def test_a_lattice_tail_is_the_plain_convolution_summed(weights, n):
    pmf = np.array(weights) / sum(weights)
    whole = reduce(np.convolve, [pmf] * n)
    for k in range(0, len(whole), max(1, len(whole) // 7)):
        expected = float(whole[k:].sum())
        assert lattice_tail(pmf, n, k) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_a_gamma_tail_of_one_and_two_is_known_by_hand():
    assert gamma_tail(3.0, 1) == pytest.approx(math.exp(-3))
    assert gamma_tail(3.0, 2) == pytest.approx(4 * math.exp(-3))
    assert gamma_tail(1e4, 1) == 1e-300


# ---------------------------------------------------------------------------------------------- randomness


def test_philox_gives_the_published_known_answers():
    # Random123's kat_vectors: philox4x32-10, all zeros and all ones.
    zero = philox(np.zeros((1, 4), np.uint64), (0, 0))[0]
    assert [f"{w:08x}" for w in zero] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    ones = philox(np.full((1, 4), 0xFFFFFFFF, np.uint64), (0xFFFFFFFF, 0xFFFFFFFF))[0]
    assert [f"{w:08x}" for w in ones] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]


def test_tables_of_two_devices_share_half_their_bits_and_no_more():
    cpu, cuda = bits(65536, 0, "cpu"), bits(65536, 0, "cuda")
    assert abs(float((cpu == cuda).mean()) - 0.5) < 0.01 and abs(float(cuda.mean()) - 0.5) < 0.01
    with pytest.raises(BadSetting, match="65536"):
        cuda_bits(65540, 0)
    if torch.cuda.is_available():
        rng = torch.Generator("cuda").manual_seed(0)
        assert torch.randint(0, 2, (65536,), generator=rng, device="cuda").cpu().tolist() == cuda.tolist()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine can draw on CUDA")
def test_a_key_of_a_device_that_is_not_here_is_refused():
    with pytest.raises(RunFailed, match="CUDA device and this machine has none"):
        Kgw(64, device="cuda").test(words(20, 64, 0))
    with pytest.raises(RunFailed, match="CUDA"):
        Exponential(64, device="cuda").test(words(20, 64, 0))


# ---------------------------------------------------------------------------------------------- KGW


def test_kgw_lists_and_scores_are_those_of_the_authors_code():
    golden = json.loads(shared("data", "text", "kgw_golden", "golden.json").read_text("utf-8"))
    for known in golden["greenlists"]:
        scheme = Kgw(known["V"], gamma=known["gamma"], seeding=known["scheme"])
        green = scheme.greenlist(known["context"])
        assert (len(green), green[:10].tolist()) == (known["size"], known["first10"])
        listed = np.array(sorted(green.tolist()))
        forms = [
            json.dumps(listed.tolist()),
            ",".join(map(str, listed)),
            listed.tobytes(),
            listed.astype("<i4").tobytes(),
        ]
        digests = {hashlib.sha256(f.encode() if isinstance(f, str) else f).hexdigest() for f in forms}
        assert known["sha256_sorted"] in digests
    for known in golden["sequences"]:
        scheme = Kgw(known["V"], gamma=known["gamma"], seeding=known["scheme"])
        for unique, name in ((False, "all"), (True, "unique_bigrams")):
            found, expected = scheme.test(known["tokens"], unique=unique), known[name]
            assert found.n == expected["T"] and round(found.score * found.n) == expected["green"]
            assert found.z == pytest.approx(expected["z"], abs=1e-12)
            assert scheme.normal_p(expected["green"], found.n) == pytest.approx(expected["p"], rel=1e-9)


def test_kgw_scores_a_repeated_pair_once():
    scheme = Kgw(64)
    text = [1, 2] * 50
    assert scheme.test(text).n == 2 and scheme.test(text, unique=False).n == 99
    assert scheme.test([1]).n == 0 and scheme.test([]).p == 1


@pytest.mark.parametrize("seeding", ["simple_1", "selfhash"])
def test_kgw_without_the_key_is_uniform(seeding):
    rng, p = np.random.default_rng(1), []
    for i in range(120):
        scheme = Kgw(128, key=10_000_019 + 2 * i, seeding=seeding)
        flags = scheme.flags(words(100, 128, i))
        green, n = int(flags.sum()), len(flags)
        p.append(binom.sf(green, n, scheme.share) + rng.random() * binom.pmf(green, n, scheme.share))
    assert kstest(p, "uniform").pvalue > 0.01


def test_the_scan_finds_the_marked_stretch_and_pays_for_the_search():
    scheme, tokens = Kgw(512), words(400, 512, 3)
    for i in range(160, 240):
        tokens[i] = int(scheme.greenlist(tokens[:i])[i % 100])
    found = scheme.scan(tokens)
    assert 120 <= found.start < 200 < found.end <= 280
    assert found.p < 1e-12 and found.windows == len(windows(399, 25))
    assert found.p == pytest.approx(found.windows * binomial_tail(found.green, found.end - found.start, 0.25))
    assert scheme.highest_z(tokens) >= found.z


def test_the_scan_keeps_its_false_positive_rate():
    p = [Kgw(128, key=1_000_003 + i).scan(words(100, 128, i)).p for i in range(100)]
    # Five of 100 are expected at 5 % at most; twelve have a chance below 0.5 %.
    assert sum(x < 0.05 for x in p) < 12


@pytest.mark.parametrize(
    "given", [{"gamma": math.nan}, {"gamma": 0.001}, {"delta": math.inf}, {"seeding": "x"}, {"device": "tpu"}]
)
def test_kgw_refuses_what_cannot_be(given):
    with pytest.raises(BadSetting):
        Kgw(64, **given)


# ---------------------------------------------------------------------------------------------- SynthID


def by_hand(scheme: SynthId, ngram: list[int], key: int) -> int:
    """One coin with Python's whole numbers."""
    mask, state = 2**64 - 1, scheme._start
    for number in (*ngram, key):
        state = ((state + number) * 6364136223846793005 + 1) & mask
    if scheme.form == "table":
        return int(bits(65536, 0, scheme.device)[state % 65536])
    for _ in range(12):
        state = ((state + 1) * 6364136223846793005 + 1) & mask
        signed = state - 2**64 if state >= 2**63 else state
        state = (signed >> 5) & mask
    return state >> 30 & 1


@pytest.mark.parametrize("form", ["table", "hash"])
def test_coins_are_those_of_whole_number_arithmetic(form):
    scheme = SynthId(50272, form=form, device="cuda")
    ngrams = [words(5, 50272, seed) for seed in range(6)]
    expected = [[by_hand(scheme, ngram, key) for key in scheme.keys] for ngram in ngrams]
    assert scheme.coins(torch.tensor(ngrams)).tolist() == expected
    assert scheme.all_coins(ngrams[0][:4])[ngrams[0][4]].tolist() == expected[0]


def test_synthid_nulls_are_binomial_for_the_hash_and_the_tables_own_otherwise():
    scheme = SynthId(64, form="hash", weighting="mean")
    assert scheme.null == pytest.approx(binom.pmf(np.arange(31), 30, 0.5), abs=1e-12)
    for form in ("hash", "table"):
        null = SynthId(64, form=form).null
        assert null.sum() == pytest.approx(1, abs=1e-12) and len(null) == 145 * 33 + 1
    table = SynthId(64, weighting="mean", device="cuda")
    share = bits(65536, 0, "cuda").mean()
    assert table.null @ np.arange(31) / 30 == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize("form", ["table", "hash"])
def test_synthid_without_the_key_is_uniform(form):
    scheme = SynthId(50272, form=form, weighting="mean")
    p = [scheme.test(words(60, 50272, i)).p for i in range(250)]
    assert kstest(p, "uniform").pvalue > 0.01


@pytest.mark.parametrize(
    "scheme",
    [
        SynthId(50, form="table"),
        SynthId(50, form="hash"),
        *(Kgw(50, seeding=seeding) for seeding in ("simple_1", "minhash", "selfhash", "skipgram")),
        Exponential(50),
    ],
    ids=["table", "hash", "simple_1", "minhash", "selfhash", "skipgram", "exp"],
)
def test_a_text_without_a_whole_context_is_no_evidence(scheme):
    for length in range(scheme.needed + 1):
        found = scheme.test(list(range(length)))
        assert (found.n, found.p, found.z, found.tokens) == (0, 1.0, 0.0, length)


def test_synthid_scores_a_context_once():
    found = SynthId(64).test([1, 2, 3, 4, 5] * 20)
    assert found.n == 5 and found.tokens == 100


def test_the_synthid_set_is_told_from_human_texts():
    folder = shared("data", "text", "synthid_markllm")
    humans = shared("data", "text", "detectrl", "direct_prompt_test.json")
    merges = read_merges((folder / "gpt2_merges.txt").read_text("utf-8"))
    tokenizer = BytePairs(json.loads((folder / "opt_vocab.json").read_text("utf-8")), merges)
    marked = [t["watermarked_text"] for t in json.loads((folder / "watermarked_texts.json").read_text("utf-8"))]
    plain = [t["text"] for t in json.loads(humans.read_text("utf-8")) if t["label"] == "human"]
    sides = [[tokenizer.encode(t) for t in side[:500]] for side in (marked, plain)]
    truth = [1] * 500 + [0] * 500
    scheme = SynthId(50272, device="cuda")
    means = np.stack([scheme.scored(t).double().mean(0).numpy() for side in sides for t in side])
    assert roc_auc_score(truth, means.sum(1)) >= 0.95
    assert roc_auc_score(truth, means @ scheme.weights) >= 0.96
    p = [[scheme.test(t).p for t in side[:50]] for side in sides]
    assert np.mean(np.array(p[0]) < 0.01) > 0.5 and np.mean(np.array(p[1]) < 0.01) < 0.06
    other = SynthId(50272, device="cpu")
    chance = [float((other.scored(t).numpy() * other.weights).sum(1).mean()) for side in sides for t in side[:200]]
    assert 0.4 < roc_auc_score([1] * 200 + [0] * 200, chance) < 0.6


# ---------------------------------------------------------------------------------------------- EXP


def test_the_exponential_scores_are_the_recorded_ones():
    folder = shared("data", "text", "three_bricks")
    pieces = ScoredPieces.read((folder / "llama_tokenizer.bin").read_bytes())
    scheme = Exponential(32000)
    lines = [(folder / name).read_text("utf-8").splitlines() for name in ("results.jsonl", "scores.jsonl")]
    assert len(lines[0]) == 10
    for text, known in ((json.loads(a)["result"], json.loads(b)) for a, b in zip(*lines, strict=True)):
        found = scheme.test(pieces.encode(text))
        assert found.n == known["num_token"] and found.score == pytest.approx(known["score"], abs=5e-5)
        assert found.p == pytest.approx(known["all_pvalues"][0], rel=1e-3)


def test_exp_without_the_key_is_uniform_and_scores_a_pair_once():
    p = [Exponential(128, key=1 + i).test(words(60, 128, i)).p for i in range(250)]
    assert kstest(p, "uniform").pvalue > 0.01
    assert Exponential(128).test([1, 2, 3] * 30).n == 3


# ---------------------------------------------------------------------------------------------- drawing


@pytest.mark.parametrize(
    "scheme",
    [Kgw(40), Kgw(40, seeding="selfhash"), SynthId(40), Exponential(40)],
    ids=["kgw", "self", "synthid", "exp"],
)
def test_what_is_drawn_with_a_key_is_found_with_it(scheme):
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 40, generator=rng)
    texts: list[list[int]] = [[] for _ in range(4)]
    for _ in range(120):
        drawn = scheme.choose(scheme.biased(logits.expand(4, -1), texts), texts, rng)
        for text, token in zip(texts, drawn.tolist(), strict=True):
            text.append(token)
    found = [scheme.test(text) for text in texts]
    assert all(e.p < 1e-3 and e.z > 3 for e in found)


@pytest.mark.parametrize(
    "make", [lambda k: SynthId(6, keys=[k, k + 7, k + 99]), lambda k: Exponential(6, key=k)], ids=["synthid", "exp"]
)
def test_over_keys_the_draw_is_the_models_own(make):
    p = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05, 0.0])
    rng = torch.Generator().manual_seed(0)
    logits, text = p.log()[None], [1, 2, 3, 4]
    counts = np.bincount([int(make(k).choose(logits, [text], rng)) for k in range(1, 1001)], minlength=6)
    assert counts[5] == 0
    # Four standard deviations of each share of 1000 draws.
    assert np.abs(counts / 1000 - p.numpy()).max() < 4 * math.sqrt(0.25 / 1000)


def test_selfhash_pushes_the_likely_tokens_that_are_green_after_themselves():
    scheme, text = Kgw(60, seeding="selfhash", delta=1.5), [5, 9, 2, 44]
    logits = torch.arange(60.0)[None]
    pushed = (scheme.biased(logits, [text]) - logits)[0]
    likely = range(20, 60)
    expected = {t for t in likely if t in scheme.greenlist([*text[-3:], t]).tolist()}
    assert expected and {t for t in range(60) if pushed[t] == 1.5} == expected
    assert scheme.biased(logits, [[1, 2]]).equal(logits)
