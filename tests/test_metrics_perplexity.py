"""The conventions of perplexity, each as its own library writes it, and the names they are asked for by."""

from __future__ import annotations

import math
import re

import pytest
import torch

from evalkit.errors import BadSetting, TooFewSamples
from evalkit.estimating import estimated
from evalkit.metrics.likelihood import (
    byte_perplexity,
    corpus_perplexity,
    mean_perplexity,
    perplexity,
    word_perplexity,
    words_of,
)
from evalkit.planning import instruments, plan
from evalkit.types import Features

from .toys import texts

LINES = ("one two  three", " four\nfive ", "six")
# nats, tokens, bytes
ROWS = torch.tensor([[9.0, 3.0, 14.0], [8.0, 4.0, 11.0], [1.5, 1.0, 3.0]])


def side(stride: str = "none") -> Features:
    return Features(ROWS, "toy", texts(*LINES), {"likelihood": slice(0, 3)}, {"stride": stride})


def asked(name: str, given: Features) -> dict[str, float]:
    [task] = plan([name], "text", with_train=False, with_timing=False)
    return {part: found.value for part, found in estimated(task, {"fake": given}, "cpu").items()}


def test_each_convention_is_the_formula_of_its_library():
    nats, tokens, _ = ROWS.double().unbind(1)
    # lm-evaluation-harness weighs log-likelihoods by what the page has of words and bytes, then exp(-sum / sum).
    words = [len(re.split(r"\s+", line)) for line in LINES]
    assert words == [3, 4, 1]
    assert asked("perplexity", side()) == {"": pytest.approx(math.exp(18.5 / 8))}
    assert asked("perplexity.word", side()) == {"word": pytest.approx(math.exp(18.5 / 8))}
    assert asked("perplexity.byte", side()) == {"byte": pytest.approx(math.exp(18.5 / 28))}
    # Hugging Face evaluate: exp of each text's mean loss, then their mean.
    each = [math.exp(n / t) for n, t in zip(nats.tolist(), tokens.tolist(), strict=True)]
    assert asked("perplexity.text_mean", side()) == {"text_mean": pytest.approx(sum(each) / 3)}
    assert asked("perplexity@prose_lm.text_mean", side()) == {"text_mean": pytest.approx(sum(each) / 3)}


def test_the_strided_convention_wants_windows_that_overlap():
    assert asked("perplexity.strided", side("512")) == {"strided": pytest.approx(math.exp(18.5 / 8))}
    with pytest.raises(BadSetting, match="stride=512"):
        asked("perplexity.strided", side())


def test_another_convention_is_not_made_unless_it_is_asked_for():
    assert set(asked("perplexity", side())) == {""}
    made = perplexity(side())
    assert isinstance(made, dict) and set(made) == {"", "text_mean", "strided", "word", "byte"}


def test_words_are_those_between_runs_of_whitespace():
    assert words_of(texts(*LINES)).tolist() == [3, 4, 1]


def test_a_text_of_twice_the_nats_weighs_more_in_the_mean_of_texts():
    even = torch.tensor([[20.0, 10.0, 40.0], [20.0, 10.0, 40.0]])
    odd = torch.tensor([[10.0, 10.0, 40.0], [30.0, 10.0, 40.0]])
    assert mean_perplexity(even).value == pytest.approx(corpus_perplexity(even).value)
    assert corpus_perplexity(odd).value == pytest.approx(corpus_perplexity(even).value)
    assert mean_perplexity(odd).value == pytest.approx((math.exp(1) + math.exp(3)) / 2)


def test_worse_texts_have_a_higher_value_and_intervals_hold_it():
    words = torch.tensor([3.0, 4.0, 1.0])
    worse = ROWS * torch.tensor([1.5, 1.0, 1.0])
    for measure in (mean_perplexity, byte_perplexity, corpus_perplexity, lambda rows: word_perplexity(rows, words)):
        found = measure(ROWS)
        assert measure(worse).value > found.value
        assert 1 <= found.low <= found.value <= found.high
        with pytest.raises(TooFewSamples):
            measure(ROWS[:1])


def test_the_interval_of_the_mean_of_texts_is_that_of_a_mean():
    """The jackknife of a mean is its standard error; Student's t with n - 1 degrees of freedom."""
    rows = torch.tensor([[float(n), 10.0, 40.0] for n in range(20, 40)])
    each = (rows[:, 0] / 10).double().exp()
    found = mean_perplexity(rows)
    assert found.high - found.value == pytest.approx(2.093 * each.std().item() / math.sqrt(20), rel=1e-3)
    assert found.moves is not None
    assert found.moves["fake"].square().sum().sqrt().item() == pytest.approx(each.std().item() / math.sqrt(20))


def test_strided_without_a_stride_is_refused_when_it_is_planned() -> None:
    [task] = plan(["perplexity.strided"], "text", with_train=False, with_timing=False)
    with pytest.raises(BadSetting, match=r"windows overlap; name its stride .*\(prose_lm was given\)"):
        instruments([task], "text")
    # A generator that rates texts is only fitted later, and lays no windows either.
    [task] = plan(["perplexity.strided@ngram"], "text", with_train=True, with_timing=False)
    with pytest.raises(BadSetting, match=r"\(ngram was given\)"):
        instruments([task], "text")
    [task] = plan(["perplexity.text_mean"], "text", with_train=False, with_timing=False)
    assert list(instruments([task], "text")) == ["prose_lm"]
