"""LPIPS and MS-SSIM diversity: by hand, against all pairs and a similarity written out, more alike scoring worse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal, stats

from evalkit.errors import BadRows, BadSetting, ModalityMismatch, TooFewSamples
from evalkit.metrics.diversity import (
    BETAS,
    lpips_diversity,
    mean_pair_distance,
    ms_ssim,
    ms_ssim_diversity,
    ms_ssim_estimate,
)
from evalkit.resample import group_jackknife
from evalkit.samples.arrays import from_images
from evalkit.types import Features

from .networks import photographs
from .toys import texts


def draws(n=25, d=6, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


# ------------------------------------------------------------------------------------------------ LPIPS


def test_pair_distance_by_hand():
    """Points 0, 1 and 3 on a line: squared distances 1, 9 and 4; each one's mean to the others 5, 2.5 and 6.5."""
    found = mean_pair_distance(torch.tensor([[0.0], [1.0], [3.0]]))
    assert found.value == pytest.approx(14 / 3)
    assert found.per_sample.tolist() == pytest.approx([5, 2.5, 6.5])


def test_pair_distance_equals_all_pairs_and_their_jackknife():
    rows = draws()
    pairs = torch.pdist(rows.double()).square()
    found = mean_pair_distance(rows)
    assert found.value == pytest.approx(float(pairs.mean()))
    assert float(found.per_sample.mean()) == pytest.approx(found.value)
    brute = group_jackknife(lambda k: {"": float(torch.pdist(rows[k[0]].double()).square().mean())}, [25])[""]
    assert (found.low, found.high) == pytest.approx((brute.low, brute.high))


def test_blocks_change_nothing(monkeypatch):
    rows = draws(40)
    whole = mean_pair_distance(rows)
    monkeypatch.setattr("evalkit.metrics.diversity.AT_ONCE", 42)
    assert mean_pair_distance(rows).value == pytest.approx(whole.value, rel=1e-12)


@pytest.mark.parametrize("d", [2, 64])
def test_the_interval_covers_the_expected_distance(d):
    """Normal rows: the expected squared distance is 2 d. 400 sets of 40; nominal 95 %."""
    inside = 0
    for seed in range(400):
        found = mean_pair_distance(draws(40, d, seed))
        inside += found.low <= 2 * d <= found.high
    assert 0.92 <= inside / 400 <= 0.98


@settings(max_examples=40, deadline=None)
@given(st.integers(3, 20), st.integers(1, 7), st.floats(0.01, 100), st.integers(0, 99))
def test_pair_distance_scales_and_does_not_mind_order_or_place(n, d, scale, seed):
    rows = draws(n, d, seed).double()
    value = mean_pair_distance(rows).value
    assert mean_pair_distance(scale * rows).value == pytest.approx(scale**2 * value)
    assert mean_pair_distance(rows.flip(0) + 3).value == pytest.approx(value)


def test_a_collapsed_generator_is_less_diverse():
    rows = draws(60)
    collapsed = rows.clone()
    collapsed[20:] = collapsed[0]
    assert mean_pair_distance(collapsed).high < mean_pair_distance(rows).low
    assert mean_pair_distance(rows[:1].expand(9, -1)).value == 0.0
    found = lpips_diversity(Features(rows, "lpips", from_images(np.zeros((60, 4, 4, 3), np.uint8))))
    assert found == mean_pair_distance(rows) and lpips_diversity.better == "higher"


def test_pair_distance_refuses():
    with pytest.raises(TooFewSamples, match="at least 3"):
        mean_pair_distance(draws(2))
    with pytest.raises(BadRows, match="NaN"):
        mean_pair_distance(torch.tensor([[1.0], [math.nan], [2.0]]))
    with pytest.raises(BadRows, match="expected"):
        mean_pair_distance(torch.zeros(5))


# ------------------------------------------------------------------------------------------------ MS-SSIM


def similarity_by_hand(a, b, scales):
    """Wang et al. 2003, eq. 7, on one pair of images [H, W, 3]: contrast at each scale, luminance at the last."""
    x = np.arange(11) - 5
    window = np.exp(-(x**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    betas = np.array(BETAS[:scales]) / sum(BETAS[:scales])
    product = 1.0

    def smooth(image):
        return np.stack([signal.convolve2d(image[..., c], window, mode="valid") for c in range(3)])

    for scale, beta in enumerate(betas):
        ma, mb = smooth(a), smooth(b)
        va, vb, cov = smooth(a * a) - ma**2, smooth(b * b) - mb**2, smooth(a * b) - ma * mb
        contrast = (2 * cov + c2) / (va + vb + c2)
        light = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        last = scale == scales - 1
        product *= max((light * contrast if last else contrast).mean(), 0) ** beta
        h, w = (a.shape[0] // 2) * 2, (a.shape[1] // 2) * 2
        a, b = (i[:h, :w].reshape(h // 2, 2, w // 2, 2, 3).mean(axis=(1, 3)) for i in (a, b))
    return product


@pytest.mark.parametrize(("side", "scales"), [(176, 5), (90, 4), (45, 3), (22, 2), (11, 1)])
def test_ms_ssim_agrees_with_the_formula_written_out(side, scales):
    a, b = photographs((side, side), (side, side))
    mixed = (0.7 * a + 0.3 * b).astype(np.uint8)
    as_batch = [torch.from_numpy(image).permute(2, 0, 1)[None] for image in (a, mixed)]
    found = float(ms_ssim(*as_batch, scales=scales))
    assert 0.05 < found < 0.999
    assert found == pytest.approx(similarity_by_hand(a.astype(float), mixed.astype(float), scales), abs=1e-6)


def test_torchmetrics_agrees_where_it_mirrors_no_border():
    """Its map of one scale, without the ring of 5 px made of mirrored pixels, has our mean; with it not."""
    functional = pytest.importorskip("torchmetrics.functional.image.ssim")
    a, b = (torch.from_numpy(image).permute(2, 0, 1)[None].double() for image in photographs((40, 40), (40, 40)))
    b = 0.7 * a + 0.3 * b
    mean, whole = functional.structural_similarity_index_measure(a, b, data_range=255.0, return_full_image=True)
    ours = float(ms_ssim(a, b, scales=1))
    assert ours == pytest.approx(float(whole[..., 5:-5, 5:-5].mean()), abs=1e-9)
    assert abs(float(mean) - ours) > 1e-3


def test_copies_are_alike_and_the_interval_is_the_standard_error_of_the_pairs():
    copies = from_images(np.stack(photographs((64, 64)) * 6))
    assert ms_ssim_estimate(copies, side=64, scales=3).value == pytest.approx(1.0)
    shown = photographs(*[(64, 64)] * 14)
    found = ms_ssim_estimate(from_images(np.stack(shown)), side=64, scales=3, seed=5)
    order = torch.randperm(14, generator=torch.Generator().manual_seed(5)).tolist()
    each = [
        similarity_by_hand(shown[i].astype(float), shown[j].astype(float), 3)
        for i, j in zip(order[::2], order[1::2], strict=True)
    ]
    assert found.value == pytest.approx(np.mean(each), abs=1e-6)
    low, high = stats.t.interval(0.95, 6, loc=np.mean(each), scale=stats.sem(each))
    assert (found.low, found.high) == pytest.approx((max(low, 0), min(high, 1)), abs=1e-6)


def test_no_image_is_in_two_pairs_and_the_seed_deals_them():
    loads = []
    shown = from_images(np.stack(photographs(*[(22, 22)] * 12)))
    for sample in shown.samples:
        inner = sample.load
        object.__setattr__(sample, "load", lambda inner=inner, name=sample.id: (loads.append(name), inner())[1])
    first = ms_ssim_diversity(shown, pairs=4, side=22, scales=2)
    assert len(loads) == len(set(loads)) == 8
    assert ms_ssim_diversity(shown, pairs=4, side=22, scales=2) == first
    assert ms_ssim_diversity(shown, pairs=4, side=22, scales=2, seed=1).value != first.value
    assert ms_ssim_diversity(shown, pairs=99, side=22, scales=2) == ms_ssim_diversity(shown, pairs=6, side=22, scales=2)


def test_a_narrower_generator_is_more_alike():
    shown = photographs(*[(48, 48)] * 20)
    narrow = [(0.5 * image + 0.5 * shown[0]).astype(np.uint8) for image in shown]
    wide_set, narrow_set = from_images(np.stack(shown)), from_images(np.stack(narrow))
    assert ms_ssim_estimate(narrow_set, side=48, scales=3).low > ms_ssim_estimate(wide_set, side=48, scales=3).high
    assert ms_ssim_diversity.better == "lower"


def test_other_sizes_are_resized_and_too_small_ones_refused_with_words():
    shown = from_images(np.stack(photographs(*[(60, 80)] * 4)))
    assert 0 <= ms_ssim_estimate(shown, side=48, scales=3).value <= 1
    with pytest.raises(BadSetting, match=r"80 x 60 px; MS-SSIM at 5 scales needs 176 px"):
        ms_ssim_estimate(shown)
    with pytest.raises(BadSetting, match="side is 170"):
        ms_ssim_estimate(shown, side=170)
    for scales in (0, 6):
        with pytest.raises(BadSetting, match="1 to 5"):
            ms_ssim_estimate(shown, scales=scales)
    with pytest.raises(BadSetting, match="pairs is 0"):
        ms_ssim_estimate(shown, pairs=0, side=48, scales=3)
    with pytest.raises(TooFewSamples, match="2 pairs"):
        ms_ssim_estimate(from_images(np.zeros((3, 60, 60, 3), np.uint8)), side=48, scales=3)
    with pytest.raises(ModalityMismatch):
        ms_ssim_estimate(texts("a", "b", "c", "d"), side=48, scales=3)
