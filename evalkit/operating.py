"""A detector's curves for a board: ROC with a logarithmic axis of false alarms, DET, reliability, points to work at.

False alarms matter where they are rare: a linear ROC hides everything below 1 %. A rate of 0.1 % cannot be read off a
thousand reals: with no false alarm among n of them the rate may still be 3/n (rule of three; Hanley & Lippman-Hand
1983), so a rate is called resolvable from 3 / rate reals on.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from .metrics.calibration import expected_calibration_error
from .metrics.curves import roc_points
from .metrics.detection import area_under_roc, true_positive_rate
from .types import Curves, Estimate, Exhibit, Features, Line, Table

if TYPE_CHECKING:
    from .detection import Judge

RATES = (0.01, 0.001)
THREE = 3.0
BINS = 10


def auroc_of(real: Features, fake: Features) -> Estimate:
    """The area under the ROC of the P(fake) of both sides, with its interval."""
    return area_under_roc(real.head("p_fake").rows, fake.head("p_fake").rows)


def operating_exhibits(name: str, judges: Mapping[str, Judge], says: str) -> Iterator[Exhibit]:
    """ROC, DET, reliability and the true positive rates at low false alarms of one detector, a line a subject."""
    areas = {subject: auroc_of(own.real, own.fake) for subject, own in judges.items()}
    roc = {s: roc_points(own.real.rows[:, 0], own.fake.rows[:, 0]) for s, own in judges.items()}
    yield Curves(
        f"ROC of {name}",
        f"{says} The dotted line is guessing: a subject on it cannot be told from real. The axis of false alarms counts"
        " in powers of ten; its left edge is no false alarm at all.",
        "false positive rate (real called fake)",
        "true positive rate (fake called fake)",
        tuple(Line(s, tuple(points), _area(areas[s])) for s, points in roc.items()),
        diagonal=True,
        x_scale="log",
    )
    lines = [(s, [(x, 1 - y) for x, y in points if 0 < x < 1 and 0 < y < 1]) for s, points in roc.items()]
    if any(points for _, points in lines):
        yield Curves(
            f"DET of {name}",
            "Misses against false alarms, both axes in standard deviations: normal scores give a straight line, and"
            " lower left is a better detector. A subject without a line is told apart without an error.",
            "false positive rate (real called fake)",
            "miss rate (fake called real)",
            tuple(Line(s, tuple(points), "" if points else "no error to draw") for s, points in lines),
            x_scale="probit",
            y_scale="probit",
        )
    yield _reliability(name, judges)
    yield _points(name, judges)


def _area(value: Estimate) -> str:
    return f"AUROC {value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _reliability(name: str, judges: Mapping[str, Judge]) -> Curves:
    lines = []
    for subject, own in judges.items():
        found = expected_calibration_error(own.real.head("p_fake").rows, own.fake.head("p_fake").rows, bins=BINS)
        points = tuple((b.said, b.share) for b in found.bins)
        counts = tuple(b.n_real + b.n_fake for b in found.bins)
        listed = ", ".join(map(str, counts))
        lines.append(Line(subject, points, f"calibration error {found.ece:.3f}; n in its bins {listed}", counts))
    return Curves(
        f"Reliability of {name}",
        f"On the dotted line P(fake) means what it says. {BINS} bins of equal width, empty ones left out; both sides"
        " weigh half; a larger mark stands for more samples.",
        "mean P(fake) in the bin",
        "share of fakes",
        tuple(lines),
        diagonal=True,
    )


def _points(name: str, judges: Mapping[str, Judge]) -> Table:
    """What is caught at false positive rates of 1 % and 0.1 %, or that so few reals cannot tell."""
    rows = []
    for subject, own in judges.items():
        real, fake = own.real.head("p_fake").rows, own.fake.head("p_fake").rows
        cells = [
            _rate(true_positive_rate(real, fake, fpr=rate)) if resolves(len(real), rate) else _lacks(len(real), rate)
            for rate in RATES
        ]
        rows.append((subject, f"{len(real)} + {len(fake)}", *cells))
    note = (
        "Share of the generated samples caught at a threshold that flags so few real ones, with its 95 % interval. A"
        " rate needs about 3 / rate real samples (rule of three)."
    )
    header = (
        "subject",
        "real + generated",
        *(f"TPR at {rate:.1%} FPR".replace(".0%", "%").replace("%", " %") for rate in RATES),
    )
    return Table(f"Catches of {name} at few false alarms", note, header, tuple(rows))


def resolves(n: int, rate: float) -> bool:
    """Whether n real samples can tell a false positive rate: with none flagged the true rate may still be 3 / n."""
    return n * rate >= THREE - 1e-9


def _rate(value: Estimate) -> str:
    return f"{value.value:.3f} [{value.low:.3f}, {value.high:.3f}]"


def _lacks(n: int, rate: float) -> str:
    return f"not resolvable with n = {n} ({math.ceil(THREE / rate - 1e-9):,} needed)".replace(",", " ")
