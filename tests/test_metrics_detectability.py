"""The best of several detectors, without the luck of picking it: by hand, without bias, oriented, with its interval."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from evalkit import registry
from evalkit.errors import BadRows, TooFewSamples
from evalkit.metrics.detectability import selected_area
from evalkit.metrics.detection import area_under_roc, areas_with_errors


def drawn(areas: list[float], n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scores of detectors whose true AUROCs are `areas`: unit Gaussians, the fakes' shifted."""
    g = torch.Generator().manual_seed(seed)
    shift = torch.tensor([math.sqrt(2) * stats.norm.ppf(a) for a in areas])
    return torch.randn(n, len(areas), generator=g), torch.randn(n, len(areas), generator=g) + shift


def test_errors_of_columns_are_those_of_one_column_alone() -> None:
    real, fake = drawn([0.6, 0.9], 50, 0)
    areas, errors = areas_with_errors(real, fake)
    for k in (0, 1):
        alone = area_under_roc(real[:, k], fake[:, k])
        assert float(areas[k]) == pytest.approx(alone.value)
        centre = math.log(alone.value / (1 - alone.value))
        reach = stats.norm.ppf(0.975) * float(errors[k]) / (alone.value * (1 - alone.value))
        assert alone.low == pytest.approx(1 / (1 + math.exp(reach - centre)), abs=1e-9)


def test_one_detector_is_its_own_auroc() -> None:
    real, fake = drawn([0.8], 40, 1)
    assert selected_area(real, fake) == area_under_roc(real[:, 0], fake[:, 0])


def test_a_panel_that_guesses_is_not_praised_for_luck() -> None:
    found = [selected_area(*drawn([0.5] * 6, 60, seed), seed=seed) for seed in range(60)]
    luck = [max(areas_with_errors(*drawn([0.5] * 6, 60, seed))[0].tolist()) for seed in range(60)]
    mean = sum(e.value for e in found) / 60
    spread = (sum((e.value - mean) ** 2 for e in found) / 59) ** 0.5
    # The largest of six is far above one half; the selected one is at it, within three standard errors.
    assert sum(luck) / 60 > 0.54
    assert abs(mean - 0.5) < 3 * spread / 60**0.5
    assert sum(e.low <= 0.5 <= e.high for e in found) >= 54


def test_a_clear_best_is_found_whatever_its_place() -> None:
    for place in range(3):
        areas = [0.55, 0.55, 0.55]
        areas[place] = 0.95
        real, fake = drawn(areas, 100, place)
        alone = area_under_roc(real[:, place], fake[:, place])
        found = selected_area(real, fake)
        assert found.value == pytest.approx(alone.value, abs=0.01)
        assert found.low < 0.95 < found.high


def test_easier_fakes_score_higher() -> None:
    values = [selected_area(*drawn([a, a - 0.05], 200, 3)).value for a in (0.55, 0.7, 0.85, 0.97)]
    assert values == sorted(values) and values[-1] - values[0] > 0.3


def test_a_perfect_panel_has_an_interval_below_one() -> None:
    real = torch.zeros(30, 2) + torch.linspace(0, 0.1, 30)[:, None]
    found = selected_area(real, real + 1)
    assert found.value == 1 and found.high == 1 and 0.8 < found.low < 1


def test_what_cannot_be_scored_is_refused() -> None:
    real, fake = drawn([0.6, 0.6], 19, 0)
    with pytest.raises(TooFewSamples, match="19 real"):
        selected_area(real, fake)
    real, fake = drawn([0.6, 0.6], 30, 0)
    with pytest.raises(BadRows, match="NaN"):
        selected_area(real, torch.where(fake == fake[0, 0], math.nan, fake))


def test_it_is_a_metric_of_a_panel() -> None:
    metric = registry.metrics.get("detectability")
    assert (metric.on["image"], metric.reads, metric.better) == ("panel", "panel", "lower")
