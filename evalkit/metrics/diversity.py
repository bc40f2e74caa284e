"""How different generated images are from one another, whatever the real ones are like: LPIPS and MS-SSIM diversity."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import BadRows, BadSetting, ModalityMismatch, TooFewSamples
from ..resample import around, jackknife, moves_of_mean
from ..types import Estimate, Features, Sample, SampleSet, metric
from ._guards import at_least_one

# Values of float64 held at once: 128 MB. A row of LPIPS has tens of thousands of columns.
AT_ONCE = 16_000_000
# Exponents of the five scales (Wang et al. 2003, section 3.2).
BETAS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
WINDOW = 11
PAIRS_AT_ONCE = 8


@metric(on={"image": "lpips", "text": None}, better="higher", unit="LPIPS", min_n=3)
def lpips_diversity(fake: Features) -> Estimate:
    """Mean LPIPS distance over all pairs of generated images, at least 0; 0 when all are the same image.

    Zhu et al. 2017 (BicycleGAN), section 5, there over random pairs. Interval: leave-one-out jackknife in closed form.
    """
    return mean_pair_distance(fake.rows)


@metric(on={"image": None, "text": None}, better="lower", unit="MS-SSIM", min_n=4)
def ms_ssim_diversity(
    samples: SampleSet, *, pairs: int = 200, side: int = 256, scales: int = 5, seed: int = 0
) -> Estimate:
    """Mean MS-SSIM of random pairs of generated images, in [0, 1]; 1 when all are the same image, so lower is diverser.

    Odena et al. 2017, section 4.2. Each image is in one pair at most, so that the interval is the standard error.
    """
    return ms_ssim_estimate(samples, pairs=pairs, side=side, scales=scales, seed=seed)


def mean_pair_distance(rows: Tensor) -> Estimate:
    """Mean squared Euclidean distance over all pairs of rows [N, D], exact, with its 95 % interval; N >= 3.

    In O(N D), with the identity: mean over i < j of |x_i - x_j|^2 = 2 / (N - 1) * sum of |x_i - mean|^2.
    `per_sample` [N]: each row's mean distance to the others, of which the value is the mean.
    Raises TooFewSamples, BadRows.
    """
    if rows.ndim != 2:
        raise BadRows(f"fake rows have shape {tuple(rows.shape)}; expected [N, D]")
    n = len(rows)
    if n < 3:
        raise TooFewSamples(f"{n} fake samples; this metric needs at least 3")
    centre = sum((block.sum(dim=0) for block in _blocks(rows)), torch.zeros(())) / n
    spread = torch.cat([(block - centre).square().sum(dim=1) for block in _blocks(rows)])
    if not bool(spread.isfinite().all()):
        raise BadRows("a fake row holds NaN or infinity; check the instrument and the sample")
    total = spread.sum()
    # The sum over j of |x_i - x_j|^2 is n * spread_i + total; the sum over all unordered pairs is n * total.
    to_others = n * spread + total
    value = float(2 * total / (n - 1))
    without = (n * total - to_others) * 2 / ((n - 1) * (n - 2))
    found = jackknife(value, [without], low=0.0, sides=("fake",))
    return replace(found, per_sample=(to_others / (n - 1)).cpu())


def _blocks(rows: Tensor) -> Iterator[Tensor]:
    """The rows in float64, some at a time: all at once would be twice the rows again."""
    for block in torch.split(rows, max(1, AT_ONCE // max(1, rows.shape[1]))):
        yield block.double()


def ms_ssim_estimate(
    samples: SampleSet, *, pairs: int = 200, side: int = 256, scales: int = 5, seed: int = 0
) -> Estimate:
    """Mean MS-SSIM over disjoint random pairs of images, in [0, 1], with its 95 % interval.

    pairs: how many at most (N / 2 when there are fewer images), dealt by `seed`. side: all images are resized to
    side x side px (bicubic, antialiased; aspect ratio not kept). scales: 1 to 5; each next one halves the image, and
    the exponents of those taken are scaled to add up to 1. Raises TooFewSamples under 4 images, BadSetting when `side`
    or an image has fewer pixels than the scales need (176 for 5), ModalityMismatch. Wang et al. 2003.
    """
    needed = _least_side(scales)
    if side < needed:
        raise BadSetting(f"side is {side}; MS-SSIM at {scales} scales needs {needed} px or more, or take fewer scales")
    listed = list(samples)
    count = min(at_least_one("pairs", pairs), len(listed) // 2)
    if count < 2:
        raise TooFewSamples(
            f"{count} pairs of images; MS-SSIM diversity needs 2 pairs or more, each of images of its own"
        )
    order = torch.randperm(len(listed), generator=torch.Generator().manual_seed(seed)).tolist()
    found = []
    for start in range(0, count, PAIRS_AT_ONCE):
        dealt = order[2 * start : 2 * min(start + PAIRS_AT_ONCE, count)]
        images = torch.stack([_sized(listed[i], side, scales, needed) for i in dealt])
        found.append(ms_ssim(images[0::2], images[1::2], scales=scales))
    each = torch.cat(found)
    error = float(each.std()) / math.sqrt(count)
    interval = around(float(each.mean()), error, "standard error", df=count - 1, low=0.0, high=1.0)
    # By pair: which samples make one depends on the seed and on how many there are.
    return replace(interval, moves={"fake": moves_of_mean(each)})


def ms_ssim(images: Tensor, others: Tensor, *, scales: int = 5) -> Tensor:
    """Multi-scale structural similarity of image i and other i, in [0, 1], float64 [B].

    images, others [B, 3, H, W] in grey levels 0..255, at least 11 * 2^(scales - 1) px a side. Gaussian window of 11 px
    and sigma 1.5 wherever it lies wholly inside, mean of the channels at each scale, contrasts below 0 count as 0.
    Wang et al. 2003, eq. 7. torchmetrics (1.9) takes the coarsest scale over mirrored borders too, which at 256 px are
    six sevenths of it, and so gives other values.
    """
    a, b = images.double(), others.double()
    found = torch.ones(len(a), dtype=torch.float64, device=a.device)
    betas = BETAS[:scales]
    for scale, beta in enumerate(betas):
        light, contrast = _similarities(a, b)
        part = light * contrast if scale == len(betas) - 1 else contrast
        found = found * part.mean(dim=(1, 2, 3)).clamp_min(0) ** (beta / sum(betas))
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return found.clamp(0, 1)


def _similarities(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Maps of luminance, and of contrast times structure (Wang et al. 2004, eq. 6 and 9 with 10), of [B, 3, H, W]."""
    C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b, square_a, square_b, product = _smooth(torch.stack([a, b, a * a, b * b, a * b]))
    covariance = product - mean_a * mean_b
    # Rounding must not make a variance negative.
    spread = (square_a - mean_a**2).clamp_min(0) + (square_b - mean_b**2).clamp_min(0)
    light = (2 * mean_a * mean_b + C1) / (mean_a**2 + mean_b**2 + C1)
    return light, (2 * covariance + C2) / (spread + C2)


def _smooth(maps: Tensor) -> Tensor:
    """Each map [..., H, W] under the Gaussian window, down and then across, only where the window lies inside.

    As products with banded matrices: eight times as fast on a CPU as convolutions of one channel.
    """
    down, across = (_band(length).to(maps) for length in maps.shape[-2:])
    return down @ maps @ across.T


def _band(length: int) -> Tensor:
    """float64 [length - 10, length]: row i is the window laid on the places i to i + 10."""
    along = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    window = torch.softmax(-(along**2) / (2 * 1.5**2), dim=0)
    band = torch.zeros(length - WINDOW + 1, length, dtype=torch.float64)
    for i in range(len(band)):
        band[i, i : i + WINDOW] = window
    return band


def _least_side(scales: int) -> int:
    """The fewest pixels a side that still hold the window at the coarsest scale: 176 for 5."""
    if not 1 <= scales <= len(BETAS):
        raise BadSetting(f"scales is {scales}; MS-SSIM has 1 to {len(BETAS)}")
    return WINDOW << (scales - 1)


def _sized(sample: Sample, side: int, scales: int, needed: int) -> Tensor:
    """float32 [3, side, side] in grey levels."""
    image = sample.load()
    if isinstance(image, str):
        raise ModalityMismatch(f"{sample.id} is a text; MS-SSIM compares images")
    height, width = image.shape[:2]
    if min(height, width) < needed:
        raise BadSetting(
            f"{sample.id} is {width} x {height} px; MS-SSIM at {scales} scales needs {needed} px a side: an enlarged"
            " image has nothing at the fine ones. Take fewer scales (`scales`)"
        )
    pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].float()
    if (height, width) != (side, side):
        pixels = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True).clamp(0, 255)
    return pixels[0]
