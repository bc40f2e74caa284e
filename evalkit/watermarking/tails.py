"""Exact upper tails of what a watermark's score is under the null: binomial, gamma, and sums of lattice variables.

A sum of n independent lattice variables is convolved by Fourier transform after exponential tilting (Esscher 1932) to
the observed value. Plain convolution has an absolute error near 1e-16 and so no digit of a p-value below that; tilted,
the observed value is the middle of the distribution, and the relative error stays near 1e-12 in any tail.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy import special

Array = npt.NDArray[np.float64]

# No p-value is called less than this, so that its logarithm is finite.
LEAST = 1e-300
# Half the width of the convolution's window in standard deviations: what is beyond weighs less than 1e-22.
WINDOW = 10.0
# Frequencies whose power is below e^-60 add nothing.
FAINT = -60.0
# Newton steps towards the tilt, each at most this much over the length of the lattice.
NEWTON_STEPS, STEEPEST = 8, 20.0


def binomial_tail(successes: int, n: int, share: float) -> float:
    """P(X >= successes) for X ~ Binomial(n, share), in [1e-300, 1]."""
    if successes <= 0:
        return 1.0
    return max(float(special.betainc(successes, n - successes + 1, share)), LEAST)


def normal_tail(z: float) -> float:
    """P(Z >= z) for a standard normal Z: what the references report."""
    return max(float(special.ndtr(-z)), LEAST)


def gamma_tail(total: float, n: int) -> float:
    """P(S >= total) for a sum S of n standard exponential variables, in [1e-300, 1]."""
    return max(float(special.gammaincc(n, total)), LEAST)


def lattice_tail(pmf: Array, n: int, observed: int) -> float:
    """P(S >= observed) for a sum S of n independent variables with P(k) = pmf[k], k = 0, 1, ..., in [1e-300, 1]."""
    support = np.nonzero(pmf)[0]
    if observed <= n * support[0]:
        return 1.0
    if observed > n * support[-1]:
        return LEAST
    theta = _tilt(pmf, observed / n)
    log_mass, tilted = _tilted(pmf, theta)
    k = np.arange(len(pmf))
    mean = float(tilted @ k)
    # The tilted sum's own spread, and how far its mean still is from what was observed.
    deviation = math.sqrt(max(float(tilted @ (k - mean) ** 2) * n, 0.0))
    # A window around the observed value, on a circle: what wraps around is beyond the window.
    size = 1 << max(6, math.ceil(math.log2(2 * (WINDOW * deviation + abs(n * mean - observed) + len(pmf)))))
    wave = np.fft.rfft(tilted, size)
    heard = np.abs(wave) > math.exp(FAINT / n)
    mass = np.fft.irfft(np.where(heard, np.power(wave, n, where=heard, out=np.zeros_like(wave)), 0), size)
    above = np.arange(size // 2)
    q = np.clip(mass[(observed + above) % size], 0.0, None)
    log_weights = n * log_mass - theta * observed - theta * above
    found = float(np.sum(q * np.exp(np.minimum(log_weights - log_weights[0], 0.0))))
    if found <= 0:
        return LEAST
    return min(1.0, max(math.exp(max(log_weights[0] + math.log(found), -690.0)), LEAST))


def _tilted(pmf: Array, theta: float) -> tuple[float, Array]:
    """ln of the sum of pmf * e^(theta k), and the normalised terms."""
    highest = theta * float(np.nonzero(pmf)[0][-1])
    terms = pmf * np.exp(theta * np.arange(len(pmf)) - highest)
    mass = float(terms.sum())
    return math.log(mass) + highest, terms / mass


def _tilt(pmf: Array, target: float) -> float:
    """The tilt under which the mean is `target`, nearly; 0 where the target is no more than the mean.

    The tail is exact under any tilt: this one only has to bring the observed value near the middle of the window.
    """
    k, theta = np.arange(len(pmf)), 0.0
    for _ in range(NEWTON_STEPS):
        _, tilted = _tilted(pmf, theta)
        mean = float(tilted @ k)
        variance = float(tilted @ (k - mean) ** 2)
        if mean >= target - 1e-3 * math.sqrt(max(variance, 0.0)) or variance <= 0:
            break
        theta += min((target - mean) / variance, STEEPEST / len(pmf))
    return theta
