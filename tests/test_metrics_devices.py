"""Metrics stay on the device their rows lie on: every one is run where a mixture of devices is refused, and agrees."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import torch

from evalkit import registry
from evalkit.errors import BadSetting, DoesNotApply
from evalkit.estimating import estimated
from evalkit.planning import Task
from evalkit.samples import ListedSet
from evalkit.types import Estimate, Features, Moments, metric
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
    "kid": [{"subsets": 3, "subset_size": 30}, {"degree": 2}],
    "vendi": [{"wide": True}, {"kernel": "rbf"}, {"q": 0.5}],
    "prdc": [{"strict": True}],
    "inception_score": [{"splits": 2}],
    "clip_score": [{"scale": "x100"}],
    "ppl": [{"discard": 0.0}],
}


def names() -> list[str]:
    return [n for n in registry.metrics.names() if set(registry.metrics.get(n).asks) <= set(SIDES)]


CASES = [(name, case) for name in names() for case in ({}, *OTHERWISE.get(name, ()))]


def rows_for(made, side: str, wide: bool) -> torch.Tensor:
    g = torch.Generator().manual_seed(SIDES.index(side))
    n = N[side]
    if made.reads in ("p_fake", "p_toxic"):
        return torch.rand(n, 1, generator=g)
    if made.reads == "likelihood":
        return torch.randint(1, 50, (n, 3), generator=g).float()
    return torch.randn(n, 100 if wide else 6, generator=g) + 0.2 * (side == "fake")


def labelled(n: int) -> ListedSet:
    """Images with the number of a class as their label."""
    return ListedSet("toy", "image", tuple(replace(s, group=str(i % 6)) for i, s in enumerate(images(n))))


def told(value) -> dict[str, Estimate | float]:
    """Every part of a metric's answer, those made on demand too."""
    parts = value if isinstance(value, dict) or hasattr(value, "items") else {"": value}
    answers = {}
    for part, found in parts.items():
        # A part that asks for another instrument, or for prompts, says so whatever the device.
        with suppress(BadSetting, DoesNotApply):
            answers[part] = found() if callable(found) else found
    return answers


@pytest.mark.parametrize(("name", "case"), CASES, ids=[f"{n}-{'-'.join(map(str, c)) or 'default'}" for n, c in CASES])
def test_every_metric_of_rows_mixes_no_devices(name: str, case: dict) -> None:
    made = registry.metrics.get(name)
    settings = {**SETTINGS.get(name, {}), **{k: v for k, v in case.items() if k != "wide"}}
    sides = {
        word: Features(rows_for(made, word, case.get("wide", False)), "toy", labelled(N[word]))
        for word in made.asks
        if word in SIDES
    }
    expected = told(made(*sides.values(), **settings))
    with pretending():
        moved = {word: replace(f, rows=f.rows.to(DEVICE)) for word, f in sides.items()}
        assert all(f.rows.is_cuda for f in moved.values())
        found = told(made(*moved.values(), **settings))
    assert found.keys() == expected.keys()
    for part, estimate in found.items():
        if isinstance(estimate, Estimate):
            for end in ("value", "low", "high"):
                assert type(getattr(estimate, end)) is float
                assert getattr(estimate, end) == pytest.approx(getattr(expected[part], end), rel=1e-6, abs=1e-9), part
            shares = [e.per_sample for e in (estimate, expected[part])]
            assert (shares[0] is None) == (shares[1] is None)
            if shares[0] is not None:
                assert shares[0].tolist() == pytest.approx(shares[1].tolist(), rel=1e-6, abs=1e-9)
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


@metric(on="toy", better="lower", unit="none")
def lies(fake: Features) -> Mapping[str, float | Estimate]:
    """Whether the rows lie on a GPU, and their mean, by the caller's jackknife."""
    return {"away": Estimate(float(fake.rows.is_cuda), 0, 1, "seen"), "mean": float(fake.rows.mean())}


@metric(on="toy", better="lower", unit="none")
def greedy(fake: Features) -> Estimate:
    """Runs out of memory on a GPU."""
    if fake.rows.is_cuda:
        raise torch.OutOfMemoryError("CUDA out of memory")
    return Estimate(1.0, 1.0, 1.0, "seen")


def test_rows_go_to_the_gpu_where_they_leave_it_room(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = torch.rand(50, 8)
    inputs = {"fake": Features(rows, "toy", images(50))}
    on_cpu = estimated(Task(lies, "toy"), inputs, "cpu")
    assert on_cpu["away"].value == 0 and on_cpu["mean"].low < on_cpu["mean"].high
    # A quarter of what is free, and not a byte more.
    for free, away in ((4 * 50 * 8 * 4 + 4, 1), (4 * 50 * 8 * 4, 0)):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, 10**12))
        with pretending():
            found = estimated(Task(lies, "toy"), inputs, "cuda")
        assert found["away"].value == away
        for end in ("value", "low", "high"):
            assert getattr(found["mean"], end) == pytest.approx(getattr(on_cpu["mean"], end), rel=1e-9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**12, 10**12))
    with pretending():
        assert estimated(Task(greedy, "toy"), inputs, "cuda")[""].value == 1.0


def test_a_statistics_file_meets_the_rows_where_they_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10**12, 10**12))
    fid = registry.metrics.get("fid")
    for wide in (False, True):
        real, fake = (rows_for(fid, word, wide) for word in ("real", "fake"))
        known = Moments(real.double().mean(0), real.double().T.cov(), len(real))
        inputs = {
            "real": Features(real[:0], "toy", images(70), moments=known),
            "fake": Features(fake, "toy", images(60)),
        }
        [expected] = estimated(Task(fid, "toy", None, fid.params), inputs, "cpu").values()
        with pretending():
            [found] = estimated(Task(fid, "toy", None, fid.params), inputs, "cuda").values()
        assert found.value == pytest.approx(expected.value, rel=1e-9) and found.high == pytest.approx(expected.high)
        assert found.per_sample is not None and found.per_sample.is_cuda is False
