"""Metrics stay on the device their rows lie on: every one is run where a mixture of devices is refused, and agrees."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from evalkit import registry
from evalkit.types import Estimate, Features
from tests.devices import DEVICE, MixedDevices, pretending
from tests.toys import images

SIDES = ("real", "fake", "train", "prompts", "paths")
N = {"real": 70, "fake": 60, "train": 80, "prompts": 60, "paths": 40}
SETTINGS = {"ppl": {"pairs": 20}, "mind": {"directions": 50}, "c2st": {}}
# What a metric does by another way when its settings, or the sizes of its sides, are others.
OTHERWISE = {
    "fid": [{"wide": True}],
    "sfid": [{"wide": True}],
    "cmmd": [{"bandwidth": "median"}],
    "kid": [{"subsets": 3, "subset_size": 30}],
    "vendi": [{"wide": True}, {"kernel": "rbf"}, {"q": 0.5}],
    "prdc": [{"strict": True}],
    "inception_score": [{"splits": 2}],
    "clip_score": [{"scale": "x100"}],
    "ppl": [{"discard": 0.0}],
}


def names() -> list[str]:
    return [n for n in registry.metrics.names() if set(registry.metrics.get(n).asks) <= set(SIDES)]


CASES = [(name, case) for name in names() for case in ({}, *OTHERWISE.get(name, ()))]


def rows_for(metric, side: str, wide: bool) -> torch.Tensor:
    g = torch.Generator().manual_seed(SIDES.index(side))
    n = N[side]
    if metric.reads == "p_fake":
        return torch.rand(n, 1, generator=g)
    if metric.reads == "likelihood":
        return torch.randint(1, 50, (n, 3), generator=g).float()
    return torch.randn(n, 100 if wide else 6, generator=g) + 0.2 * (side == "fake")


def told(value) -> dict[str, Estimate | float]:
    """Every part of a metric's answer, those made on demand too."""
    parts = value if isinstance(value, dict) or hasattr(value, "items") else {"": value}
    return {part: found() if callable(found) else found for part, found in parts.items()}


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{'-'.join(map(str, c)) or 'default'}" for n, c in CASES])
def test_every_metric_of_rows_mixes_no_devices(name: str, case: dict) -> None:
    metric = registry.metrics.get(name)
    settings = {**SETTINGS.get(name, {}), **{k: v for k, v in case.items() if k != "wide"}}
    sides = {
        word: Features(rows_for(metric, word, case.get("wide", False)), "toy", images(N[word]))
        for word in metric.asks
        if word in SIDES
    }
    expected = told(metric(*sides.values(), **settings))
    with pretending():
        moved = {word: replace(f, rows=f.rows.to(DEVICE)) for word, f in sides.items()}
        assert all(f.rows.is_cuda for f in moved.values())
        found = told(metric(*moved.values(), **settings))
    assert found.keys() == expected.keys()
    for part, estimate in found.items():
        if isinstance(estimate, Estimate):
            for end in ("value", "low", "high"):
                assert type(getattr(estimate, end)) is float
                assert getattr(estimate, end) == pytest.approx(getattr(expected[part], end), rel=1e-6, abs=1e-9), part
            assert (estimate.per_sample is None) == (expected[part].per_sample is None)
        else:
            assert estimate == pytest.approx(expected[part], rel=1e-6)


def test_the_pretended_device_refuses_what_a_gpu_refuses() -> None:
    near, index = torch.arange(6.0).view(3, 2), torch.tensor([0, 2])
    with pretending():
        far = near.to("cuda")
        mask = far > 2
        assert far.device.type == "cuda" and near.device.type == "cpu" and not far.cpu().is_cuda
        assert (far * 2 + torch.tensor(1.0)).sum().is_cuda and far[index].is_cuda
        assert torch.zeros(3, device=far.device).is_cuda and torch.full_like(near, 2).to(far).is_cuda
        assert float(far.max()) == 5 and far.tolist() == near.tolist() and bool(mask.any())
        refused = [
            lambda: far + near,
            lambda: near @ far.T,
            lambda: torch.cat([near, far]),
            lambda: near.sum() + near * far.sum(),
            lambda: near[far[:, 0].long()],
            lambda: near.scatter_(0, far.long(), 1.0),
            lambda: far.__setitem__(index, near[index]),
            lambda: far.numpy(),
            lambda: np.asarray(far),
            lambda: torch.randn(3, generator=torch.Generator(), device=far.device),
        ]
        for call in refused:
            with pytest.raises(MixedDevices):
                call()
