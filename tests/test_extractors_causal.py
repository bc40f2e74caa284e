"""Language models token by token: windows, the vocabulary in slices, batches, columns; models known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from evalkit.errors import BadSetting, RunFailed
from evalkit.extractors.causal import streaming
from evalkit.extractors.causal.columns import (
    PAIR_HEADS,
    SINGLE_HEADS,
    SURPRISAL,
    ZERO_SHOT,
    autocorrelation,
    named,
    single_row,
    slices,
    surprisal_statistics,
)
from evalkit.extractors.causal.instrument import packed, unpacked
from evalkit.extractors.causal.pair import pair_token_statistics
from evalkit.extractors.causal.reading import read
from evalkit.extractors.causal.settings import Settings, split
from evalkit.extractors.causal.streaming import Given, Head, Projected, pair_statistics, token_statistics
from evalkit.extractors.causal.windows import rolling, strided

from .models import Bigram, plain_loop, table


def spelt(windows, tokens):
    """Each window as (what it reads, what it is scored on)."""
    return [(tokens[w.start : w.stop], tokens[w.first : w.stop + 1]) for w in windows]


# ---------------------------------------------------------------------------------------------- windows


def test_rolling_windows_are_those_of_the_harness_with_one_token_of_context():
    """34 tokens, windows of 10, prefix -1: the last window reaches back so that it is full."""
    found = spelt(rolling(35, 10), list(range(-1, 34)))
    assert found == [
        (list(range(-1, 9)), list(range(10))),
        (list(range(9, 19)), list(range(10, 20))),
        (list(range(19, 29)), list(range(20, 30))),
        (list(range(23, 33)), list(range(30, 34))),
    ]


def test_rolling_windows_are_those_of_the_harness_with_eight_tokens_of_context():
    found = spelt(rolling(35, 10, least=8), list(range(-1, 34)))
    assert found[0] == (list(range(-1, 9)), list(range(10)))
    assert found[1:] == [(list(range(e - 11, e - 1)), list(range(e - 3, e))) for e in range(13, 35, 3)]


def test_strided_windows_are_those_of_the_documentation():
    """Ten tokens, windows of 6 every 2: labels outside the last `target length` tokens are masked, then shifted."""
    tokens, length, stride, previous, expected = list(range(10)), 6, 2, 0, []
    for begin in range(0, 10, stride):
        end = min(begin + length, 10)
        labels = [t if i >= (end - begin) - (end - previous) else None for i, t in enumerate(tokens[begin:end])]
        expected.append((tokens[begin : end - 1], [t for t in labels[1:] if t is not None]))
        previous = end
        if end == 10:
            break
    assert spelt(strided(10, 6, 2), tokens) == expected


@settings(max_examples=60, deadline=None)
@given(m=st.integers(1, 60), context=st.integers(2, 20), data=st.data())
def test_every_token_is_scored_once_and_no_window_is_longer_than_the_context(m, context, data):
    least, stride = data.draw(st.integers(1, context)), data.draw(st.integers(1, context - 1))
    for windows in (rolling(m, context, least), strided(m, context, stride)):
        assert [t for w in windows for t in range(w.first, w.stop + 1)] == list(range(1, m))
        assert all(0 < w.stop - w.start <= context and w.start < w.first for w in windows)


def test_strides_and_settings_that_cannot_be_are_refused():
    with pytest.raises(BadSetting, match="expected 1 to 9"):
        strided(20, 10, 10)
    with pytest.raises(BadSetting, match="1 to 4"):
        rolling(20, 4, 5)
    assert split("a:b/c.d:stride=8:prefix=none") == ("a:b/c.d", Settings(stride=8, prefix=False))
    for wrong, why in (("m:stride=0", "above 0"), ("m:strid=8", "did you mean 'stride'"), ("m:prefix=eos", "none")):
        with pytest.raises(Exception, match=why):
            split(wrong)
    with pytest.raises(BadSetting, match="what the model has"):
        Settings(context=100).context_of(50)
    with pytest.raises(BadSetting, match="less than the context"):
        Settings(stride=50).context_of(50)


# ---------------------------------------------------------------------------------------------- streaming


def by_hand(logits, tokens):
    log_p = logits.double().log_softmax(-1)
    p = log_p.exp()
    mu = (p * log_p).sum(1)
    own = log_p.gather(1, tokens[:, None])
    return own[:, 0], 1 + (log_p > own).sum(1), -mu, mu, (p * (log_p - mu[:, None]).square()).sum(1)


@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_slices_of_the_vocabulary_give_the_statistics_of_the_whole(monkeypatch, scale):
    g = torch.Generator().manual_seed(1)
    states, weight = torch.randn(9, 7, generator=g), scale * torch.randn(100, 7, generator=g)
    bias, tokens = torch.randn(100, generator=g), torch.randint(0, 100, (9,), generator=g)
    tokens[0], tokens[1] = (states[:1] @ weight.T + bias).argmax(), (states[1:2] @ weight.T + bias).argmin()
    expected = by_hand(states @ weight.T + bias, tokens)
    for size in (1, 7, 64, 4096):
        monkeypatch.setattr(streaming, "SLICE", size)
        for scores in (Projected(states, Head(weight, bias)), Given(states @ weight.T + bias)):
            for found, wanted in zip(token_statistics(scores, tokens), expected, strict=True):
                torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-4, atol=2e-4)
    assert expected[1][0] == 1 and expected[1][1] == 100


def test_ties_are_in_the_tokens_favour_and_a_uniform_distribution_is_known():
    found = token_statistics(Given(torch.zeros(2, 50)), torch.tensor([0, 49]))
    assert found.rank.tolist() == [1, 1]
    torch.testing.assert_close(found.entropy, torch.full((2,), math.log(50)))
    torch.testing.assert_close(found.log_p, -found.entropy)
    assert found.variance.abs().max() < 1e-6
    certain = token_statistics(Given(torch.tensor([[0.0, 90.0, 0.0]])), torch.tensor([1]))
    assert certain.log_p.item() == pytest.approx(0, abs=1e-7) and certain.entropy.item() == pytest.approx(0, abs=1e-7)


def test_two_models_by_hand_and_a_model_against_itself(monkeypatch):
    monkeypatch.setattr(streaming, "SLICE", 13)
    g = torch.Generator().manual_seed(2)
    a, b = 3 * torch.randn(6, 40, generator=g), 3 * torch.randn(6, 40, generator=g)
    tokens = torch.randint(0, 40, (6,), generator=g)
    q, log_p = a.double().softmax(1), b.double().log_softmax(1)
    mu = (q * log_p).sum(1)
    found = pair_statistics(Given(a), Given(b), tokens)
    torch.testing.assert_close(found.mu.double(), mu, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.variance.double(), (q * log_p**2).sum(1) - mu**2, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.log_p.double(), log_p.gather(1, tokens[:, None])[:, 0], rtol=1e-5, atol=1e-5)
    same, alone = pair_statistics(Given(a), Given(a), tokens), token_statistics(Given(a), tokens)
    torch.testing.assert_close(same.mu, alone.mu)
    torch.testing.assert_close(same.variance, alone.variance, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(same.log_q, alone.log_p)


# ---------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize("separable", [True, False])
def test_texts_of_all_lengths_are_read_as_one_by_one(separable):
    model = Bigram(table(30), separable)
    g = torch.Generator().manual_seed(3)
    texts = [torch.randint(0, 30, (m,), generator=g) for m in (2, 3, 40, 9, 700, 8)]
    found = read(model, texts, [rolling(len(t), model.context) for t in texts])
    for text, series in zip(texts, found, strict=True):
        wanted = plain_loop(lambda ids: model.table[ids], text.tolist())
        for name, values in wanted.items():
            torch.testing.assert_close(getattr(series, name).double(), values, rtol=1e-5, atol=1e-5)


def test_windows_of_like_length_share_a_batch():
    model = Bigram(table(30))
    texts = [torch.zeros(m, dtype=torch.int64) for m in [9] * 300 + [3] * 300]
    read(model, texts, [rolling(len(t), model.context) for t in texts])
    assert sum(rows * columns for rows, columns in model.read) < 1.1 * sum(len(t) - 1 for t in texts)
    assert max(rows * columns for rows, columns in model.read) <= 2048


def test_a_long_text_of_one_letter_is_read_in_windows_each_token_once():
    model = Bigram(table(5))
    text = torch.full((1 << 16,), 3)
    [series] = read(model, [text], [rolling(len(text), 1 << 12)])
    assert len(series.log_p) == len(text) - 1
    torch.testing.assert_close(series.log_p, model.table[3].log_softmax(0)[3].expand(len(text) - 1))


def test_packing_gives_the_texts_back_and_another_tensor_is_refused():
    texts = [torch.tensor([1, 2]), torch.tensor([7]), torch.tensor([3, 4, 5])]
    assert [t.tolist() for t in unpacked(packed(texts))] == [[1, 2], [7], [3, 4, 5]]
    with pytest.raises(RunFailed, match="arrange"):
        unpacked(torch.zeros(2, 3, dtype=torch.int64))


# ---------------------------------------------------------------------------------------------- two models


@pytest.mark.parametrize("separable", [(True, True), (True, False), (False, False)])
def test_the_score_of_binoculars_is_that_of_its_code(separable):
    """Mean nats of the performer over the mean over all places, the last included, of its cross entropy."""
    observer, performer = (Bigram(table(20, seed), kind) for seed, kind in zip((4, 5), separable, strict=True))
    text = torch.randint(0, 20, (8,), generator=torch.Generator().manual_seed(6))
    [found] = pair_token_statistics(observer, performer, [text], Settings(), 8)
    log_p, q = performer.table[text].double().log_softmax(-1), observer.table[text].double().softmax(-1)
    nats = -log_p[:-1].gather(1, text[1:, None]).mean()
    crossed = -(q * log_p).sum(1).mean()
    score = -found.log_p[:-1].double().mean() / -found.mu.double().mean()
    assert score.item() == pytest.approx((nats / crossed).item(), rel=1e-6)
    # Fast-DetectGPT's discrepancy of the same two models, over the places with a token.
    mu, square = (q * log_p).sum(1)[:-1], (q * log_p.square()).sum(1)[:-1]
    wanted = (-nats * 7 - mu.sum()) / (square - mu.square()).sum().sqrt()
    own = (found.log_p[:-1].sum() - found.mu[:-1].sum()) / found.variance[:-1].sum().sqrt()
    assert own.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_two_vocabularies_are_refused():
    with pytest.raises(BadSetting, match="observer predicts 20 tokens, the performer 21"):
        pair_token_statistics(Bigram(table(20)), Bigram(table(21)), [torch.tensor([1, 2])], Settings(), 8)


# ---------------------------------------------------------------------------------------------- columns


def test_heads_lie_side_by_side_and_columns_have_one_name():
    for heads in (SINGLE_HEADS, PAIR_HEADS):
        found = slices(heads)
        assert found["likelihood"] == slice(0, 3)
        assert [s.stop for s in found.values()][:-1] == [s.start for s in found.values()][1:]
        assert all(
            len(set(names)) == len(names) == found[head].stop - found[head].start for head, names in heads.items()
        )
    with pytest.raises(ValueError):
        named(torch.zeros(2, 3), ZERO_SHOT)


def test_a_row_by_hand():
    log_p = torch.tensor([-1.0, -2.0, -6.0, -8.0])
    entropy, variance = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 2.0, 2.0])
    series = streaming.TokenStatistics(log_p, torch.tensor([1.0, 10.0, 100.0, 1001.0]), entropy, -entropy, variance)
    row = single_row(series, 12)
    assert row[:3].tolist() == [17, 4, 12]
    found = {name: v.item() for name, v in named(row[None, slices(SINGLE_HEADS)["zero_shot"]], ZERO_SHOT).items()}
    assert found.pop("log_rank") == pytest.approx(math.log(10) + math.log(100) + math.log(1001))
    bins = {"top_10": 2, "top_100": 1, "top_1000": 0, "rest": 1}
    sums = {"tokens": 4, "log_p": -17, "rank": 1112, "entropy": 8, "mu": -8, "variance": 6}
    assert found == {**sums, **bins}


@settings(max_examples=30, deadline=None)
@given(x=st.lists(st.floats(0, 20), min_size=4, max_size=40).map(np.array).filter(lambda x: x.std() > 1e-3))
def test_statistics_of_surprisals_agree_with_scipy_and_numpy(x):
    found = dict(zip(SURPRISAL, surprisal_statistics(x, x), strict=True))
    assert found["skewness"] == pytest.approx(stats.skew(x), abs=1e-6)
    assert found["kurtosis"] == pytest.approx(stats.kurtosis(x), abs=1e-6)
    assert found["quantile_25"] == pytest.approx(np.quantile(x, 0.25))
    assert found["step_deviation"] == pytest.approx(np.std(x[1:] - x[:-1]))
    assert found["bend_size"] == pytest.approx(np.mean(np.abs(x[2:] - 2 * x[1:-1] + x[:-2])))
    assert found["entropy_deviation"] == pytest.approx(x.std())


def test_short_and_constant_series_have_zeros_and_no_nan():
    for x in (np.array([3.0]), np.array([3.0, 5.0]), np.full(9, 2.0)):
        assert np.isfinite(surprisal_statistics(x, x)).all()
    assert autocorrelation(np.array([1.0, -1.0] * 50), 1) == pytest.approx(-0.99)
    assert surprisal_statistics(np.array([3.0]), np.array([1.0]))[1:14] == [0.0] * 13
