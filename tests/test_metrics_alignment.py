"""CLIPScore: numbers known by hand, both scales of the field, the order of good and bad, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial import distance

from evalkit.errors import BadRows, BadSetting, TooFewSamples
from evalkit.metrics.alignment import clip_score, clip_score_estimate, paired_cosines
from evalkit.types import Features

from .toys import images, texts

# Angles of 0, 60, 90 and 180 degrees, at lengths that must not matter.
IMAGES = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [5.0, 0.0]])
PROMPTS = torch.tensor([[1.0, 0.0], [math.sqrt(3), 1.0], [0.0, 7.0], [-1.0, 0.0]])


def draws(n=60, d=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    prompts = torch.randn(n, d, generator=g)
    return prompts + torch.randn(n, d, generator=g), prompts


def test_by_hand():
    found = clip_score_estimate(IMAGES, PROMPTS)
    assert found.per_sample.tolist() == pytest.approx([2.5, 1.25, 0.0, 0.0])
    assert found.value == pytest.approx(3.75 / 4)
    hundred = clip_score_estimate(IMAGES, PROMPTS, scale="x100")
    # The mean is taken before what is below 0 is lifted to it.
    assert hundred.per_sample.tolist() == pytest.approx([100, 50, 0, -100], abs=1e-6)
    assert hundred.value == pytest.approx(50 / 4)
    assert clip_score_estimate(-PROMPTS, PROMPTS, scale="x100").value == 0.0


def test_agrees_with_scipy():
    image_rows, prompt_rows = draws()
    each = 100 * (1 - np.array([distance.cosine(a, b) for a, b in zip(image_rows, prompt_rows, strict=True)]))
    found = clip_score_estimate(image_rows, prompt_rows, scale="x100")
    assert found.value == pytest.approx(max(each.mean(), 0))
    low, high = stats.t.interval(0.95, len(each) - 1, loc=each.mean(), scale=stats.sem(each))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.method == "standard error"


def test_pairs_shuffled_score_worse():
    image_rows, prompt_rows = draws()
    matched = clip_score_estimate(image_rows, prompt_rows)
    shuffled = clip_score_estimate(image_rows.roll(1, 0), prompt_rows)
    assert shuffled.high < matched.low


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 9), st.floats(1e-3, 1e3), st.integers(0, 999))
def test_in_range_and_lengths_do_not_matter(n, d, length, seed):
    image_rows, prompt_rows = draws(n, d, seed)
    for scale, top in (("w2.5", 2.5), ("x100", 100.0)):
        found = clip_score_estimate(image_rows, prompt_rows, scale=scale)
        assert 0 <= found.low <= found.value <= found.high <= top
        longer = clip_score_estimate(length * image_rows.double(), prompt_rows, scale=scale)
        assert longer.value == pytest.approx(found.value, abs=1e-9)
    assert paired_cosines(prompt_rows, prompt_rows).tolist() == pytest.approx([1.0] * n)


def test_the_metric_pairs_row_with_row():
    image_rows, prompt_rows = draws(4)
    fake = Features(image_rows, "clip", images(4))
    prompts = Features(prompt_rows, "clip.text", texts("a", "b", "c", "d"))
    assert clip_score(fake, prompts, scale="x100") == clip_score_estimate(image_rows, prompt_rows, scale="x100")
    assert clip_score.asks == ("fake", "prompts") and clip_score.params == {"scale": "w2.5", "prefix": ""}


def test_refuses():
    image_rows, prompt_rows = draws()
    with pytest.raises(BadRows, match="60 generated images and 59 prompts; each image needs its own"):
        clip_score_estimate(image_rows, prompt_rows[1:])
    with pytest.raises(BadRows, match="8 columns, prompt rows 7"):
        clip_score_estimate(image_rows, prompt_rows[:, 1:])
    with pytest.raises(TooFewSamples):
        clip_score_estimate(image_rows[:1], prompt_rows[:1])
    with pytest.raises(BadSetting, match=r"'w2\.5'"):
        clip_score_estimate(image_rows, prompt_rows, scale="w25")
    zero = image_rows.clone()
    zero[7] = 0
    with pytest.raises(BadRows, match="row 7 is zero"):
        clip_score_estimate(zero, prompt_rows)
    zero[7] = math.nan
    with pytest.raises(BadRows, match="fake row 7 holds NaN"):
        clip_score_estimate(zero, prompt_rows)
