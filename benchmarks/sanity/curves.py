"""A metric followed through a situation, and what its curve should look like: the thresholds are the paper's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

# None: the question does not apply. low, high: passed, by a metric that calls very wide samples not, or all, diverse.
Verdict: TypeAlias = Literal["pass", "low", "high", "fail"] | None
Numbers: TypeAlias = npt.NDArray[np.float64]

NEAR = 0.05  # what counts as one and the same value
SHARE = 0.2  # of a distance, which has no scale of its own: what counts as one and the same there
REACH = 0.1  # how far the best or worst point may lie from where it belongs
DROP = 0.2  # the least difference between best and worst


class Curve:
    """The setting x [P], in rising order, and the score y [P] of a metric there, 1 where the samples are right."""

    def __init__(self, x: Numbers, y: Numbers) -> None:
        order = np.argsort(x)
        self.x, self.y = np.asarray(x, dtype=np.float64)[order], np.asarray(y, dtype=np.float64)[order]

    def at(self, x: float) -> float:
        """The score at the point nearest to x; inf and -inf are the ends."""
        ends = {np.inf: len(self.x) - 1, -np.inf: 0}
        return float(self.y[ends[x] if x in ends else int(np.abs(self.x - x).argmin())])

    def closeness(self, centre: float | None = None) -> Curve:
        """A distance as a score: 1 less its share of the largest one, on each side of the centre by itself."""
        sides = [self.x <= self.x[-1]] if centre is None else [self.x <= centre, self.x >= centre]
        y = np.ones_like(self.y)
        for side in sides:
            y = np.where(side, 1 - self.y / np.abs(self.y[side]).max().clip(1e-300), y)
        return Curve(self.x, y)

    def relative(self) -> Curve:
        """A distance in shares of its value at the largest setting, such that SHARE of it is NEAR."""
        return Curve(self.x, self.y / max(abs(self.y[-1]), 1e-300) * NEAR / SHARE)


Test: TypeAlias = Callable[[Curve], Verdict]


def _said(passes: bool) -> Verdict:
    return "pass" if passes else "fail"


def value(x: float, wanted: float) -> Test:
    """The score at x is the one wanted."""
    return lambda curve: _said(abs(curve.at(x) - wanted) <= NEAR)


def wide(x: float) -> Test:
    """Samples wider than the real ones are diverse or not, but nothing between."""

    def test(curve: Curve) -> Verdict:
        score = curve.at(x)
        return "high" if abs(score - 1) <= NEAR else "low" if abs(score) <= NEAR else "fail"

    return test


def bell(centre: float) -> Test:
    """Best at the centre, clearly worse at both ends."""

    def test(curve: Curve) -> Verdict:
        best, ends = curve.at(centre), (curve.at(-np.inf), curve.at(np.inf))
        return _said(best - max(ends) >= DROP and curve.y.max() - best <= REACH and min(ends) - curve.y.min() <= REACH)

    return test


def falls(by: float | None = None) -> Test:
    """Best at the first setting and worst at the last; with `by`, already worse by 0.1 there."""

    def test(curve: Curve) -> Verdict:
        first, last = curve.at(-np.inf), curve.at(np.inf)
        ordered = first - last >= DROP and last - curve.y.min() <= REACH and curve.y.max() - first <= REACH
        return _said(ordered and (by is None or first - curve.at(by) >= REACH))

    return test


def rises() -> Test:
    """Worst at the first setting and best at the last."""
    return lambda curve: falls()(Curve(-curve.x, curve.y))


def flat() -> Test:
    """The same score at every setting."""
    return lambda curve: _said(float(np.ptp(curve.y)) <= NEAR)


def settles() -> Test:
    """The same score from the middle setting on."""
    return lambda curve: _said(float(np.ptp(curve.y[curve.x >= np.median(curve.x)])) <= NEAR)


def low_or_high(low: Test, high: Test) -> Test:
    """Either shape will do, and which one says what kind of diversity it is."""
    return lambda curve: "low" if low(curve) == "pass" else "high" if high(curve) == "pass" else "fail"


def worst(verdicts: list[Verdict]) -> Verdict:
    """The verdict on several curves together: all passed, all in the same sense of diversity, or failed."""
    given = {verdict for verdict in verdicts if verdict is not None}
    if not given:
        return None
    if "fail" in given or {"low", "high"} <= given:
        return "fail"
    return "low" if "low" in given else "high" if "high" in given else "pass"
