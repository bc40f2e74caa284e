"""What the authors' own run said of precision, recall, density and coverage, to set beside ours.

From `plotting/print_pass_fail_tables.ipynb` of vanderschaarlab/position-fidelity-diversity-metrics-flawed: k = 3 for
precision and recall, 5 for density and coverage, ten repetitions. P pass, F fail, H pass in the high sense.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from .curves import Verdict

METRICS = ("precision k=3", "recall k=3", "density", "coverage")
_WORDS: Mapping[str, Verdict] = MappingProxyType({"P": "pass", "F": "fail", "H": "high"})
_LETTERS: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("Gaussian mean difference", "D1b"): "PPPP",
        ("Gaussian mean difference", "D4"): "FFPP",
        ("Gaussian mean difference, one outlier", "D1b"): "FFPP",
        ("Gaussian mean difference, one outlier", "D4"): "FFFP",
        ("Gaussian mean difference beside a Pareto column", "D1b"): "PPPP",
        ("Gaussian mean difference beside a Pareto column", "D4"): "FPPP",
        ("Gaussian standard deviation difference", "D1b"): "PHPF",
        ("Gaussian standard deviation difference", "D4"): "FFFF",
        ("modes dropped together", "D1b"): "PFFP",
        ("modes dropped together", "D4"): "FFPP",
        ("modes dropped in turn", "D1b"): "PPPP",
        ("modes dropped in turn", "D4"): "FFPP",
        ("modes dropped, then invented", "D1b"): "PPPF",
        ("modes dropped, then invented", "D4"): "PPPF",
        ("one mode for two", "D1b"): "PFPF",
        ("one mode for two", "D4"): "FFPP",
        ("surface of a hypersphere", "D1b"): "FFFF",
        ("surface of a hypersphere", "D4"): "FFFF",
        ("hypercube, both sides growing", "D3"): "FFFF",
        ("hypercube, both sides growing", "D1b"): "FFFF",
        ("hypercube, generated side growing", "D2"): "PFPF",
        ("hypercube, generated side growing", "D1b"): "FFFF",
        ("sphere and torus", "D1b"): "PFPF",
        ("sphere and torus", "D4"): "PPPF",
        ("one column in other units", "D5"): "FFPP",
        ("one column in other units", "D4"): "FPPP",
        ("one disjoint column among many alike", "D1b"): "FFFF",
        ("one disjoint column among many alike", "D4"): "FFFF",
        ("whole numbers and continuous ones", "D1b"): "FFFF",
        ("whole numbers and continuous ones", "D4"): "FFFF",
    }
)


def published(scenario: str, desideratum: str) -> Mapping[str, Verdict]:
    """The authors' verdicts by metric; none where they had no such row."""
    letters = _LETTERS.get((scenario, desideratum), "")
    return {metric: _WORDS[letter] for metric, letter in zip(METRICS, letters, strict=False)}
