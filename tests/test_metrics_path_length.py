"""Perceptual path length: a linear generator's is known in closed form; trimmed as torch-fidelity trims."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from evalkit.board import Wishes, score_all
from evalkit.errors import BadRows, BadSetting, RunFailed, TooFewSamples, UsageError
from evalkit.extractors.lpips import Lpips
from evalkit.extractors.pixels import Pixels
from evalkit.measurement import Bench, measure_unrounded
from evalkit.metrics.path_length import path_length, ppl, step_distances
from evalkit.paths import Walk, lerp, measure_paths, slerp, steps
from evalkit.planning import Task, instruments, plan
from evalkit.subjects import Entrant
from evalkit.types import Estimate, Features
from tests.networks import photographs, scaled, written
from tests.quick import fitted
from tests.toys import Mean, images

BENCH = Bench()
SIZE, SIDE = 6, 4


class Seen:
    """Row = the pixels as they are, in grey levels: squared distances of rows are squared distances of images."""

    name, modality, digest = "seen", "image", "toy:seen"
    heads = {"features": slice(0, 3 * SIDE * SIDE)}  # noqa: RUF012

    def __init__(self, limit: int = 10**9) -> None:
        self.limit, self.batches = limit, []

    def prepare(self, sample):
        return torch.from_numpy(sample).permute(2, 0, 1).float()

    def batch_of(self, images):
        return images

    def to(self, device):
        pass

    def __call__(self, batch):
        if len(batch) > self.limit:
            raise torch.OutOfMemoryError("out of memory")
        self.batches.append(len(batch))
        return batch.flatten(1)


class Linear:
    """G(z) = 128 + W z: its path length is a mean of |W v|^2 over the velocities v of the way."""

    name, modality, role, recipe, trained_on = "linear", "image", "candidate", "toy:linear", "toy"
    latent_size = SIZE

    def __init__(self, slope: float = 2.0, rounded: bool = False) -> None:
        drawn = torch.randn(SIZE, 3 * SIDE * SIDE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        self.weights, self.rounded = slope * drawn, rounded

    def decode(self, z):
        image = (128 + z.double() @ self.weights).float().view(-1, 3, SIDE, SIDE)
        return image.round() if self.rounded else image


def asked(**settings) -> Task:
    return Task(ppl, "seen", None, {**ppl.params, **settings})


def measured(generator, **settings) -> Estimate:
    task = asked(**settings)
    rows = measure_paths([task], {"seen": Seen()}, generator, "linear", seed=0, bench=BENCH)[task.label]
    assert isinstance(rows, Features), rows
    return ppl(rows, **task.settings)


def test_a_linear_generator_has_the_length_that_algebra_gives_it() -> None:
    linear = Linear()
    size = float(linear.weights.square().sum())
    straight = measured(linear, pairs=3000, along="ends", between="lerp", discard=0.0)
    # E |W (b - a)|^2 = 2 |W|^2 for independent codes a, b ~ N(0, I), wherever on the way.
    assert straight.low < 2 * size < straight.high
    assert straight.high - straight.low < 0.1 * straight.value
    assert straight.method == "standard error"
    for epsilon in (1e-2, 1e-3):
        again = measured(linear, pairs=3000, along="ends", between="lerp", discard=0.0, epsilon=epsilon)
        assert again.value == pytest.approx(straight.value, rel=1e-3)


def test_a_quarter_turn_has_the_speed_of_a_quarter_turn() -> None:
    walk = Walk(2, 1e-4, "full", "slerp")
    a, b = torch.tensor([[3.0, 0.0], [1.0, 1.0]]), torch.tensor([[0.0, 3.0], [-1.0, -1.0]])
    before, after = steps(a, b, torch.tensor([[0.25], [0.25]]), walk)
    assert before[0].tolist() == pytest.approx([3 * math.cos(math.pi / 8), 3 * math.sin(math.pi / 8)])
    assert float((after - before)[0].norm()) / 1e-4 == pytest.approx(3 * math.pi / 2, rel=1e-6)
    # Opposite codes span no plane: the way between them is straight.
    assert before[1].tolist() == pytest.approx([0.5, 0.5])


def test_the_ways_between_codes_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.image.perceptual_path_length import _interpolate

    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 50, SIZE, generator=g, dtype=torch.float64)
    b[0] = 2 * a[0]
    for t in (0.0, 1e-4, 0.3, 1.0):
        share = torch.full((50, 1), t, dtype=torch.float64)
        torch.testing.assert_close(slerp(a, b, share), _interpolate(a, b, t, "slerp_any"), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(lerp(a, b, share), _interpolate(a, b, t, "lerp"), rtol=1e-12, atol=1e-14)


@given(st.integers(2, 400), st.sampled_from([0.0, 0.01, 0.05, 0.2, 0.25]), st.integers(0, 5))
def test_steps_are_trimmed_as_torch_fidelity_trims(n: int, discard: float, seed: int) -> None:
    # Whole numbers: ties with the limits are kept on both sides.
    distances = np.random.default_rng(seed).integers(0, 50, n).astype(np.float64)
    low = np.percentile(distances, 100 * discard, method="lower")
    high = np.percentile(distances, 100 - 100 * discard, method="higher")
    kept = distances[(distances >= low) & (distances <= high)]
    found = path_length(torch.from_numpy(distances), 0.1, discard)
    assert found.value == pytest.approx(kept.mean() / 0.01)
    assert 0 <= found.low <= found.value <= found.high


def test_the_straight_dialect_is_torchmetrics_but_for_one_step() -> None:
    from torchmetrics.functional.image import perceptual_path_length

    class Module(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.drawn = Linear(), []

        def sample(self, n):
            self.drawn.append(torch.randn(n, SIZE))
            return self.drawn[-1]

        def forward(self, z):
            return self.linear.decode(z)

    class Squared(torch.nn.Module):
        def forward(self, first, second):
            return ((first - second) * 127.5).square().flatten(1).sum(dim=1)

    torch.manual_seed(0)
    module = Module()
    theirs, _, kept = perceptual_path_length(module, num_samples=500, epsilon=0.01, sim_net=Squared())
    a, b = module.drawn
    ends = [Linear().decode(z.float()).flatten(1) for z in steps(a, b, torch.zeros(500, 1), WALK)]
    rows = torch.stack(ends, dim=1).flatten(0, 1)
    ours = path_length(step_distances(rows), epsilon=0.01)
    ordered = step_distances(rows).sort().values / 0.01**2
    assert float(theirs) == pytest.approx(float(ordered[4:495].mean()), rel=1e-4) and len(kept) == 491
    assert ours.value == pytest.approx(float(ordered[4:496].mean()), rel=1e-9)


WALK = Walk(500, 0.01, "ends", "lerp")


def test_whole_grey_levels_make_the_length_explode() -> None:
    exact, rounded = measured(Linear(), pairs=500), measured(Linear(rounded=True), pairs=500)
    # A step moves a pixel by some thousandths of a grey level: rounding turns few of them into whole ones.
    assert rounded.value > 20 * exact.value
    # Steps that span grey levels are not in the same danger.
    coarse = measured(Linear(rounded=True, slope=15), pairs=500, epsilon=0.5, between="lerp")
    assert coarse.value == pytest.approx(
        measured(Linear(slope=15), pairs=500, epsilon=0.5, between="lerp").value, rel=0.02
    )


def test_a_generator_that_changes_faster_has_the_longer_path() -> None:
    smooth, rough = measured(Linear(1.0), pairs=300), measured(Linear(2.0), pairs=300)
    assert rough.value == pytest.approx(4 * smooth.value, rel=1e-3)
    assert rough.low > smooth.high
    assert ppl.better == "lower"


@pytest.mark.parametrize("discard", [0.0, 0.01, 0.1])
def test_intervals_hold_the_expected_value_as_often_as_they_say(discard: float) -> None:
    # The distances of trained generators are log-normal, of width 0.5 for a GAN; the truth is the mean at this n.
    rng = np.random.default_rng(5)
    drawn = torch.from_numpy(np.exp(0.5 * rng.normal(size=(1000, 300))))
    truth = np.mean([path_length(row, 1.0, discard).value for row in drawn[:500]])
    held = np.mean([e.low <= truth <= e.high for e in (path_length(row, 1.0, discard) for row in drawn[500:])])
    assert 0.915 <= held <= 0.98


def test_rows_that_make_no_path_are_refused() -> None:
    samples = images(4)
    features = Features(torch.rand(4, 3), "toy", samples)
    with pytest.raises(BadRows, match="4 rows; 3 pairs make 6"):
        ppl(features, pairs=3)
    with pytest.raises(BadRows, match="ends of a step"):
        step_distances(torch.rand(3, 2))
    with pytest.raises(BadRows, match="NaN"):
        step_distances(torch.tensor([[0.0], [math.nan]]))
    with pytest.raises(TooFewSamples):
        path_length(torch.ones(1))
    for epsilon, discard in ((0.0, 0.01), (1e-4, 0.5), (1e-4, -0.1)):
        with pytest.raises(BadSetting):
            path_length(torch.ones(9), epsilon, discard)
    for wrong in ({"pairs": 1}, {"epsilon": 2.0}, {"along": "middle"}, {"between": "nlerp"}):
        with pytest.raises(BadSetting, match=next(iter(wrong))):
            Walk.of({**ppl.params, **wrong})


def test_rows_stand_in_order_whatever_the_batches_and_the_memory() -> None:
    task = asked(pairs=150)
    seen = Seen(limit=9)
    small = measure_paths([task], {"seen": seen}, Linear(), "l", seed=0, bench=replace(BENCH, batch_size=32))
    whole = measure_paths([task], {"seen": Seen()}, Linear(), "l", seed=0, bench=BENCH)
    rows, expected = small[task.label].rows, whole[task.label].rows
    assert torch.equal(rows, expected) and max(seen.batches) <= 9 and len(rows) == 300
    other = measure_paths([task], {"seen": Seen()}, Linear(), "l", seed=1, bench=BENCH)[task.label]
    assert not torch.equal(other.rows, expected)


def test_nan_images_and_instruments_of_whole_grey_levels_are_refused() -> None:
    broken = torch.full((4, 3, SIDE, SIDE), math.nan)
    with pytest.raises(BadRows, match="4 samples"):
        measure_unrounded(images(4), [broken], Seen(), BENCH)
    with pytest.raises(UsageError, match="whole grey levels"):
        measure_unrounded(images(4), [broken], Mean(), BENCH)
    with pytest.raises(RunFailed, match="gave 2 rows for 4 samples"):
        measure_unrounded(images(4), [torch.zeros(2, 3, SIDE, SIDE)], Seen(), BENCH)
    with pytest.raises(UsageError, match="whole grey levels only"):
        instruments(plan(["ppl@pixels"], "image", with_train=False, with_timing=True), "image")
    with pytest.raises(UsageError, match="latent space"):
        plan(["ppl"], "image", with_train=False, with_timing=False)


def test_the_line_scores_generators_and_says_who_has_no_latent_space(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pixels, "batch_of", lambda self, x: x.flatten(1) / 255, raising=False)
    tasks = plan(["ppl@pixels"], "image", with_train=False, with_timing=True, settings={"ppl": {"pairs": 60}})
    samples, records = images(20, size=8), []
    entrants = [
        Entrant("vae", samples, "generator:vae", generator=fitted("vae")),
        Entrant("noise", samples, "generator:noise", generator=fitted("noise")),
    ]
    score_all(
        entrants, tasks, real=images(20, 1, size=8), train=None, seed=0, bench=BENCH, done=records.append,
        wishes=Wishes(per_group=True),
    )  # fmt: skip
    [number] = records[0].results
    assert number.name == "ppl@pixels" and 0 < number.low < number.value < number.high
    assert number.n == {"paths": 60} and number.terms["settings"]["epsilon"] == 1e-4
    assert number.terms["about"]["paths"] == "60 steps of 0.0001, anywhere on the way, slerp between codes"
    assert records[1].results == () and "ppl@pixels is missing: noise has no latent space" in records[1].warnings


def test_lpips_sees_whole_grey_levels_and_fractions_alike(tmp_path) -> None:
    from evalkit.extractors._lpips_stacks import STACKS

    weights = written(scaled(STACKS["alex"].build().state_dict()), tmp_path / "alex.safetensors")
    lpips = Lpips(weights=weights, path=tmp_path / "alex.safetensors")
    photos = photographs((64, 64), (64, 64))
    exact = torch.stack([torch.from_numpy(p).permute(2, 0, 1).float() for p in photos])
    torch.testing.assert_close(lpips.batch_of(exact), torch.stack([lpips.prepare(p) for p in photos]))
    nearly = torch.stack([exact[0], exact[0] + 0.01])
    rows = measure_unrounded(images(2), [nearly], lpips, BENCH).rows
    assert 0 < float(step_distances(rows)) < 1e-5
