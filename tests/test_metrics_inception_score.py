"""Inception Score in the dialects of other libraries: how they shuffle, where they cut, what they call a deviation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from evalkit.errors import BadSetting, TooFewSamples, UnknownName
from evalkit.metrics import inception_score as module
from evalkit.metrics.inception_score import inception_estimate, inception_score, split_estimates
from evalkit.resample import group_jackknife
from evalkit.types import Features


def logits(n: int, seed: int = 0, classes: int = 7, sure: float = 3.0) -> Tensor:
    return sure * torch.randn(n, classes, generator=torch.Generator().manual_seed(seed))


def one_hot(labels: list[int], classes: int = 4) -> Tensor:
    return 1000.0 * torch.nn.functional.one_hot(torch.tensor(labels), classes)


# ------------------------------------------------------------------------------------------------ by hand


def test_blocks_by_hand(monkeypatch):
    """First block two sure classes, second one, third pure doubt: 2, 1, 1, in the order they come."""
    monkeypatch.setattr(module, "ADM_BLOCK", 4)
    rows = torch.cat([one_hot([0, 1, 0, 1]), one_hot([2, 2, 2, 2]), torch.zeros(3, 4)])
    found = split_estimates(rows, dialect="adm")
    assert list(found) == [""]
    assert found[""].value == pytest.approx(4 / 3)


def test_ceil_parts_are_cut_as_chunk_cuts(monkeypatch):
    """14 samples in 4 parts: 4, 4, 4 and the last 2 would be too few; in 3 parts 5, 5, 4."""
    monkeypatch.setattr(torch, "randperm", lambda n, generator: torch.arange(n))
    rows = torch.cat([one_hot([0, 1, 2, 3, 0]), one_hot([0] * 5), one_hot([1, 2, 1, 2])])
    first = np.exp(-(0.4 * np.log(0.4) + 3 * 0.2 * np.log(0.2)))
    assert split_estimates(rows, dialect="torchmetrics", splits=3)[""].value == pytest.approx((first + 1 + 2) / 3)
    with pytest.raises(TooFewSamples, match="last part of 14 samples holds 2"):
        split_estimates(rows, dialect="torchmetrics", splits=4)


# ------------------------------------------------------------------------------------------------ other libraries


@pytest.mark.parametrize("n", [200, 217])
def test_torch_fidelity(n):
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    theirs = isc.isc_features_to_metric(logits(n))
    found = split_estimates(logits(n), dialect="torch_fidelity")
    assert found[""].value == pytest.approx(theirs["inception_score_mean"], rel=1e-6)
    assert found["split_std"].value == pytest.approx(theirs["inception_score_std"], rel=1e-6)


@pytest.mark.parametrize("n", [200, 217])
def test_torchmetrics(n):
    theirs = pytest.importorskip("torchmetrics.image.inception")

    class Same(torch.nn.Module):
        num_features = 7

        def forward(self, x):
            return x

    score = theirs.InceptionScore(feature=Same())
    score.update(logits(n).double())
    torch.manual_seed(11)
    mean, std = score.compute()
    found = split_estimates(logits(n), dialect="torchmetrics", seed=11)
    assert found[""].value == pytest.approx(float(mean), rel=1e-6)
    assert found["split_std"].value == pytest.approx(float(std), rel=1e-6)


def test_adm_written_out():
    rows = logits(5700, classes=5)
    p = rows.double().softmax(dim=1).numpy()
    scores = []
    for part in (p[:5000], p[5000:]):
        divergence = part * (np.log(part) - np.log(part.mean(axis=0, keepdims=True)))
        scores.append(np.exp(divergence.sum(axis=1).mean()))
    assert split_estimates(rows, dialect="adm")[""].value == pytest.approx(np.mean(scores), rel=1e-9)


# ------------------------------------------------------------------------------------------------ parts and intervals


def test_ddof_is_the_librarys_own_unless_given():
    found = {d: split_estimates(logits(120), dialect="torch_fidelity", ddof=d)["split_std"].value for d in (None, 0, 1)}
    assert found[None] == found[0]
    assert found[1] == pytest.approx(found[0] * (10 / 9) ** 0.5)


def test_the_deviation_of_the_parts_has_no_interval_and_the_mean_has_one():
    found = split_estimates(logits(300), dialect="torch_fidelity")
    assert found["split_std"].method == "no interval"
    assert found["split_std"].low == found["split_std"].high == found["split_std"].value
    assert found[""].low < found[""].value < found[""].high
    assert found[""].method == "jackknife"


def test_interval_of_unshuffled_blocks_is_that_of_leaving_samples_out(monkeypatch):
    monkeypatch.setattr(module, "ADM_BLOCK", 20)
    rows = logits(40)

    def mean_of_blocks(keep):
        kept = keep[0]
        halves = (kept[kept < 20], kept[kept >= 20])
        return {"": sum(inception_estimate(rows[half]).value for half in halves) / 2}

    brute = group_jackknife(mean_of_blocks, [40], groups=40)[""]
    found = split_estimates(rows, dialect="adm")[""]
    # Each block is a side of its own, so its spread is taken about its own mean: 19 + 19 degrees of freedom, not 39.
    assert found.high - found.low == pytest.approx(brute.high - brute.low, rel=0.06)


def test_the_only_sample_of_a_class_adds_most_and_the_doubtful_one_least():
    rows = one_hot([0, 1, 2] * 30)
    rows[31], rows[52] = one_hot([3])[0], torch.zeros(4)
    share = inception_estimate(rows).per_sample
    assert (int(share.argmax()), int(share.argmin())) == (31, 52)


def test_each_sample_adds_what_leaving_it_out_of_its_part_takes_away():
    rows = logits(60)
    parts = np.array_split(np.random.RandomState(2020).permutation(60), 10)
    own = [inception_estimate(rows[part]).value for part in parts]
    taken = torch.empty(60, dtype=torch.float64)
    for part, score in zip(parts, own, strict=True):
        for i in part:
            taken[i] = 59 * (score - inception_estimate(rows[part[part != i]]).value) / 10
    share = split_estimates(rows, dialect="torch_fidelity")[""].per_sample
    assert torch.allclose(share, taken - taken.mean(), atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(30, 90), st.integers(1, 8), st.floats(0, 20), st.integers(0, 999))
def test_every_dialect_stays_in_range(n, classes, sure, seed):
    rows = logits(n, seed, classes, sure)
    for dialect, splits in (("", 3), ("torch_fidelity", None), ("torchmetrics", 2), ("adm", None)):
        found = split_estimates(rows, dialect=dialect, splits=splits)[""]
        assert 1 <= found.low <= found.value <= found.high <= classes * (1 + 1e-9), dialect


# ------------------------------------------------------------------------------------------------ the metric, refusals


class Rows(Features):
    """Features without a sample set."""

    def __init__(self, rows: Tensor) -> None:
        object.__setattr__(self, "rows", rows)


def test_metric():
    rows = Rows(logits(60))
    assert inception_score(rows) == inception_estimate(rows.rows)
    assert inception_score(rows, splits=3) == split_estimates(rows.rows, splits=3)
    assert list(inception_score(rows, dialect="torch_fidelity")) == ["", "split_std"]
    assert inception_score(rows, dialect="adm") == inception_estimate(rows.rows)
    assert (inception_score.on, inception_score.reads) == ({"image": "inception", "text": None}, "logits")


def test_refusals():
    with pytest.raises(UnknownName, match="torchmetrics"):
        split_estimates(logits(60), dialect="torchmetric")
    with pytest.raises(BadSetting, match="takes no splits"):
        split_estimates(logits(60), dialect="adm", splits=10)
    with pytest.raises(BadSetting, match="splits"):
        split_estimates(logits(60), splits=0)
    with pytest.raises(TooFewSamples, match="at least 30"):
        split_estimates(logits(29), dialect="torch_fidelity")
