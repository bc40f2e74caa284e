"""Which files of a batch are flagged together, so that at most a share q of the flagged is expected to be real.

A p-value at or under 5 % happens to one real in twenty: among a million reals that is fifty thousand files. The
false-discovery rate is the expected share of reals among what is flagged, 0 where nothing is (Benjamini & Hochberg
1995). Two step-up procedures keep it at or under q:

- "bh" (Benjamini & Hochberg 1995, eq. 1), where p-values are independent or positively dependent on each one of the
  nulls (PRDS; Benjamini & Yekutieli 2001, theorem 1.2). Conformal p-values that share one calibration set are PRDS
  (Bates et al. 2023), so for one detector it holds; copies within the batch do not break it.
- "by" (Benjamini & Yekutieli 2001, theorem 1.3), under any dependence, at the price of a factor 1 + 1/2 + ... + 1/m.

Both are promises on average over calibration sets and batches, of files that are exchangeable with the calibration
reals; docs/false-discovery.md shows by simulation where they end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import BadRows, BadSetting

Array: TypeAlias = "npt.NDArray[np.float64]"
Flags: TypeAlias = "npt.NDArray[np.bool_]"

METHODS = ("bh", "by")
COMBINATIONS = ("bonferroni", "unanimous")
# A conformal p-value k / (n + 1) can meet its bound rank * q / m exactly; binary fractions then miss it by an ulp.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Discovered:
    """A batch of M files decided together: p-values of all detectors together [M], q-values [M], flags [M].

    NaN and False where a file has no p-value: it is no part of the family.
    """

    p_values: Array
    q_values: Array
    flagged: Flags


def discover(p_values: npt.ArrayLike, q: float, *, method: str = "bh", how: str = "bonferroni") -> Discovered:
    """Combine p-values [K, M] of K detectors and flag, at a false-discovery rate q in (0, 1); NaN where there is none.

    Raises BadSetting for an unknown method or a q out of range, BadRows for what is no table of p-values.
    """
    together = combined(p_values, how)
    return Discovered(together, q_values(together, method), discoveries(together, q, method))


def discoveries(p_values: npt.ArrayLike, q: float, method: str = "bh") -> Flags:
    """Which of p-values [M] are flagged at a false-discovery rate q in (0, 1): those with a q-value of at most q.

    Raises BadSetting and BadRows.
    """
    _check_rate(q)
    with np.errstate(invalid="ignore"):  # NaN <= q is False: what is not in the family is not flagged.
        return np.asarray(q_values(p_values, method) <= q * (1 + ROUNDING))


def q_values(p_values: npt.ArrayLike, method: str = "bh") -> Array:
    """The smallest false-discovery rate in [0, 1] at which each of p-values [M] would be flagged; NaN stays NaN.

    min over ranks j >= i of p_(j) m c / j, at most 1, where m counts the p-values there are and c is 1 for "bh" and the
    m-th harmonic number for "by". Raises BadSetting for another method, BadRows for a p outside [0, 1].
    """
    p = _checked(p_values, 1)
    there = ~np.isnan(p)
    m = int(there.sum())
    order = np.argsort(p[there], kind="stable")
    adjusted = p[there][order] * _factor(m, method) / np.arange(1, m + 1)
    found = np.empty(m)
    # From the largest p downwards: a file is flagged with all whose p is no larger.
    found[order] = np.minimum(np.minimum.accumulate(adjusted[::-1])[::-1], 1.0)
    everywhere = np.full(p.shape, np.nan)
    everywhere[there] = found
    return everywhere


def combined(p_values: npt.ArrayLike, how: str = "bonferroni") -> Array:
    """One p-value [M] a file of the p-values [K, M] of K detectors, under any dependence between them.

    "bonferroni": min(1, K min p), small where any detector's is. "unanimous": max p, small where all are. K is the
    number of detectors asked, also for a file that some of them could not score, and an absent p-value counts as 1:
    with the number that scored it, p would hold only if being scored said nothing of the score. NaN where all are
    absent. Raises BadSetting and BadRows.
    """
    if how not in COMBINATIONS:
        raise BadSetting(f"combination {how!r}; expected one of {', '.join(COMBINATIONS)}")
    p = _checked(p_values, 2)
    if not len(p):
        raise BadRows("p-values of no detector; give one row for each")
    filled = np.where(np.isnan(p), 1.0, p)
    found = np.minimum(1.0, len(p) * filled.min(0)) if how == "bonferroni" else filled.max(0)
    return np.asarray(np.where(np.isnan(p).all(0), np.nan, found))


def least_flagged(n_calibration: int, files: int, q: float, *, method: str = "bh", detectors: int = 1) -> int | None:
    """How many of `files` must outscore all calibration reals at once before any of them can be flagged at rate q.

    A conformal p-value is at least 1 / (n + 1), or `detectors` times that after Bonferroni; k files at that value are
    flagged once k q / m reaches it. None: not even when all of them do. Raises BadSetting.
    """
    _check_rate(q)
    _check_counts(n_calibration, files, detectors)
    smallest = detectors / (n_calibration + 1)
    if smallest > 1:
        return None
    least = math.ceil(smallest * _factor(files, method) / (q * (1 + ROUNDING)))
    return least if least <= files else None


def least_calibration(files: int, flagged: int, q: float, *, method: str = "bh", detectors: int = 1) -> int:
    """How many calibration reals it takes to be able to flag `flagged` of `files`, 1 <= flagged <= files, at rate q.

    The smallest n with least_flagged(n, files, q) <= flagged. Raises BadSetting.
    """
    _check_rate(q)
    _check_counts(1, files, detectors)
    if not 1 <= flagged <= files:
        raise BadSetting(f"{flagged} of {files} files flagged; expected 1 to {files}")
    return max(1, math.ceil(detectors * _factor(files, method) / (q * (1 + ROUNDING) * flagged)) - 1)


# ---------------------------------------------------------------------------------------------- checks


def _factor(m: int, method: str) -> float:
    """m c: what a p-value is multiplied by before it is divided by its rank."""
    if method not in METHODS:
        raise BadSetting(f"method {method!r}; expected one of {', '.join(METHODS)}")
    return m * float((1 / np.arange(1, m + 1)).sum()) if method == "by" else float(m)


def _check_rate(q: float) -> None:
    if not 0 < q < 1:
        raise BadSetting(f"--fdr {q}; expected a false-discovery rate between 0 and 1, such as 0.05")


def _check_counts(n_calibration: int, files: int, detectors: int) -> None:
    if min(n_calibration, files, detectors) < 1:
        raise BadSetting(
            f"{n_calibration} calibration reals, {files} files, {detectors} detectors; expected at least one of each"
        )


def _checked(p_values: npt.ArrayLike, dimensions: int) -> Array:
    p = np.asarray(p_values, dtype=np.float64)
    if p.ndim != dimensions:
        expected = "[files]" if dimensions == 1 else "[detectors, files]"
        raise BadRows(f"p-values of shape {list(p.shape)}; expected {expected}")
    if ((p < 0) | (p > 1)).any():
        raise BadRows("a p-value lies outside 0 to 1; check the detector and its calibration")
    return p
