"""Floors and saboteurs: each is broken in its own way and in no other, and the metric that must catch it does."""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.covariance import ledoit_wolf_shrinkage

from evalkit import registry
from evalkit.errors import BadSetting, BadSource
from evalkit.exhibits import _class_row
from evalkit.measurement import Bench, measure
from evalkit.samples.arrays import from_images
from evalkit.samples.embedded import open_embedded
from evalkit.types import Features
from generators.label_noise import LabelNoise, class_gaussian, shrinkage
from generators.memorizer import Memorizer
from generators.mode_collapse import ModeCollapse

from .quick import data_for, drawn, fitted, image_set, make, make_from, one_line, pixels_of, text_set

IMAGES = ("shuffled_pixels", "class_mean", "memorizer", "mode_collapse", "label_noise")
N = 320


@lru_cache
def rows(name: str, instrument: str = "digits_net", **controls: Any) -> Features:
    """What an instrument sees of a fitted generator's samples, or of a split of the digits."""
    if name in ("train", "heldout"):
        samples = open_embedded(f"embedded:digits/{name}")
    else:
        generator = fitted(name) if not controls else make(name, **controls)
        if controls:
            generator.fit(data_for(name), seed=0)
        items, groups = drawn(generator, N)
        pixels = np.stack([np.frombuffer(i, np.uint8).reshape(8, 8, 3) for i in items])
        samples = from_images(pixels, name, groups, name)
    return measure(samples, [registry.extractors.get(instrument)()], Bench(workers=1)).features[instrument]


def features(name: str, **controls: Any) -> Features:
    return rows(name, **controls).head("features")


def score(metric: str, *given: Features) -> Any:
    return registry.metrics.get(metric).fn(*given)


def agreement(name: str, **controls: Any) -> float:
    """The column "agreement" of the report's table Per class."""
    return float(_class_row(rows(name, **controls))[1].rstrip("%")) / 100


def training() -> list[bytes]:
    return [s.load().tobytes() for s in data_for("gan")]


# ---------------------------------------------------------------------------------------------- floors


def test_shuffled_pixels_keep_the_histogram_of_an_image_of_their_label_and_nothing_else() -> None:
    items, groups = drawn(fitted("shuffled_pixels"), 100)
    known = {(bytes(sorted(s.load()[..., 0].ravel())), s.group) for s in data_for("shuffled_pixels")}
    assert all((bytes(sorted(i[::3])), g) in known for i, g in zip(items, groups, strict=True))
    assert not set(items) & set(training())

    def neighbours(x: np.ndarray) -> float:
        x = x[..., 0].astype(float) - x[..., 0].mean((1, 2), keepdims=True)
        return float((x[:, :, 1:] * x[:, :, :-1]).mean() / (x**2).mean())

    real = np.stack([s.load() for s in data_for("shuffled_pixels")])
    assert neighbours(real) > 0.3
    assert abs(neighbours(pixels_of(fitted("shuffled_pixels"), 1000))) < 0.03


def test_shuffling_moves_a_pixel_with_its_three_channels() -> None:
    colours = np.arange(9 * 4 * 4 * 3, dtype=np.uint8).reshape(9, 4, 4, 3)
    generator = make("shuffled_pixels")
    generator.fit(image_set(colours), seed=0)
    triples = {tuple(p) for p in colours.reshape(-1, 3)}
    made = pixels_of(generator, 20)
    assert {tuple(p) for p in made.reshape(-1, 3)} <= triples
    assert made.shape == (20, 4, 4, 3)


def test_class_means_have_the_mean_and_spread_of_their_class_and_no_correlation() -> None:
    """Two classes of two pixels that always agree, by hand: 100 +- 20 in the one, 180 +- 10 in the other."""
    sign = np.where(np.arange(40) % 4 < 2, 1, -1)
    value = np.where(np.arange(40) % 2 == 0, 100 + 20 * sign, 180 + 10 * sign)
    # An odd grey level each keeps the palette above 64 levels, so that nothing is snapped.
    palette = np.arange(256, dtype=np.uint8).reshape(16, 16, 1, 1)
    images = np.zeros((40, 16, 18, 3), np.uint8) + np.pad(palette[..., 0], ((0, 0), (0, 2), (0, 0)))
    images[:, 0, 16], images[:, 1, 16] = value[:, None], value[:, None]
    generator = make("class_mean")
    generator.fit(image_set(images, ["even" if i % 2 == 0 else "odd" for i in range(40)]), seed=0)
    made = pixels_of(generator, 4000)[..., 0].astype(float)
    for own, (mean, spread) in enumerate([(100, 20), (180, 10)]):
        pair = made[own::2][:, :2, 16]
        assert pair.mean(0) == pytest.approx([mean, mean], abs=1.5)
        assert pair.std(0) == pytest.approx([spread, spread], rel=0.05)
        assert abs(np.corrcoef(pair.T)[0, 1]) < 0.08


def test_floors_are_ordered_as_what_they_keep_of_the_data() -> None:
    """Nothing, the histogram, the class means, the correlations too: the Frechet distance falls at every step."""
    real = features("heldout")
    found = []
    for name in ("shuffled_pixels", "class_mean", "label_noise"):
        value = score("fid", real, features(name))
        found.append(value[""].value if isinstance(value, dict) else value.value)
    assert found[0] > 3 * found[1] and found[1] > 1.5 * found[2]


# ---------------------------------------------------------------------------------------------- memorizer


def test_the_memorizer_hands_out_training_samples_with_their_labels() -> None:
    label = {b: s.group for b, s in zip(training(), data_for("memorizer"), strict=True)}
    items, groups = drawn(fitted("memorizer"), 500)
    assert [label[i] for i in items] == groups
    assert len(set(items)) < 500


@pytest.mark.parametrize("noise", [1, 24, 64])
def test_a_near_copy_is_at_most_the_noise_away_and_stays_grey(noise: int) -> None:
    exact = pixels_of(make_from("memorizer"), 64).astype(int)
    near = pixels_of(make_from("memorizer", noise=noise), 64).astype(int)
    moved = np.abs(near - exact)
    assert moved.max() == noise
    assert (near == near[..., :1]).all()
    inner = exact[..., 0][(exact[..., 0] >= 64) & (exact[..., 0] <= 191)]
    jitter = near[..., 0][(exact[..., 0] >= 64) & (exact[..., 0] <= 191)] - inner
    # Uniform over 2 noise + 1 values, symmetric about 0.
    assert jitter.mean() == pytest.approx(0, abs=4 * noise / np.sqrt(len(jitter)))
    assert jitter.var() == pytest.approx(noise * (noise + 1) / 3, rel=0.2)


@pytest.mark.parametrize("noise", [0, 24])
def test_memorization_catches_the_memorizer_and_quality_metrics_do_not(noise: int) -> None:
    real, train = rows("heldout", "pixels"), rows("train", "pixels")
    copies, honest = rows("memorizer", "pixels", noise=noise), rows("label_noise", "pixels")
    assert score("memorization", real, copies, train).low > 0.95
    assert score("memorization", real, honest, train).high < 0.5
    assert score("memorization_p", real, copies, train).high < 0.01
    assert score("authenticity", copies, train).value == 0 < score("authenticity", honest, train).low
    seen = score("prdc", features("heldout"), features("memorizer", noise=noise))
    assert min(seen[k].value for k in ("precision", "recall", "coverage")) > 0.85


def test_the_memorizer_copies_texts_and_novelty_catches_it(tmp_path: Path) -> None:
    data = open_embedded("embedded:prose/train")
    generator = Memorizer()
    generator.fit(data, seed=0)
    assert generator.modality == "text"
    items, _ = drawn(generator, 100)
    assert set(items) <= {s.load().strip() for s in data}
    generator.save(tmp_path)
    again = Memorizer()
    again.load(tmp_path)
    assert drawn(again, 100)[0] == items
    train = measure(data, [registry.extractors.get("char_ngrams")()], Bench(workers=1)).features["char_ngrams"]
    assert score("novelty", train, text_set(items)).value == 0
    with pytest.raises(BadSetting, match="grey levels"):
        Memorizer(noise=3).fit(data, seed=0)


# ---------------------------------------------------------------------------------------------- mode collapse


def test_a_collapsed_model_makes_the_commonest_classes_equally_often_and_never_a_copy() -> None:
    sizes = Counter(s.group for s in data_for("mode_collapse"))
    for modes in (1, 3):
        generator = make("mode_collapse", modes=modes)
        generator.fit(data_for("mode_collapse"), seed=0)
        items, groups = drawn(generator, 300)
        made = Counter(groups)
        assert set(made.values()) == {300 // modes} and len(made) == modes
        assert min(sizes[g] for g in made) >= max(n for g, n in sizes.items() if g not in made)
        assert not set(items) & set(training())
        assert len(set(items)) == 300


def test_recall_and_coverage_catch_a_collapse_by_its_dose_and_precision_does_not() -> None:
    real = features("heldout")
    found = {m: score("prdc", real, features("mode_collapse", modes=m)) for m in (1, 3, 10)}
    for name in ("recall", "coverage"):
        assert found[1][name].high < found[3][name].low and found[3][name].high < found[10][name].low
    assert found[1]["precision"].value > found[10]["precision"].value - 0.1
    balance = [score("classes", rows("mode_collapse", modes=m).head("logits"))["balance"].value for m in (1, 3, 10)]
    assert balance[0] < balance[1] < balance[2] and balance[2] > 0.95
    train, held = rows("train", "pixels"), rows("heldout", "pixels")
    assert score("memorization", held, rows("mode_collapse", "pixels", modes=1), train).high < 0.5


def test_without_labels_the_modes_are_clusters() -> None:
    """Twelve dark and eight bright images: one mode is dark, two are both, more than the clusters are refused."""
    chance = np.random.default_rng(0)
    dark, bright = chance.integers(0, 60, (12, 6, 6, 3)), chance.integers(190, 250, (8, 6, 6, 3))
    data = image_set(np.concatenate([bright, dark]).astype(np.uint8))
    whole = ModeCollapse(modes=10)
    whole.fit(data, seed=0)
    # Ten clusters of two heaps: brightness still tells on which heap each one lies.
    assert {bool(x.mean() > 125) for x in pixels_of(whole, 40)} == {False, True}
    one = ModeCollapse()
    one.fit(data, seed=0)
    bright_share = {bool(x.mean() > 125) for x in pixels_of(one, 40)}
    assert len(bright_share) == 1
    assert next(one.sample(2, 0)).groups is None
    with pytest.raises(BadSetting, match="10 clusters"):
        ModeCollapse(modes=11).fit(data, seed=0)
    with pytest.raises(BadSetting, match="10 classes"):
        ModeCollapse(modes=11).fit(data_for("mode_collapse"), seed=0)


# ---------------------------------------------------------------------------------------------- label noise


def test_agreement_catches_wrong_labels_and_no_pixel_differs() -> None:
    right, wrong = make_from("label_noise", rate=0), make_from("label_noise", rate=0.5)
    assert drawn(right, 100)[0] == drawn(wrong, 100)[0]
    assert LabelNoise(rate=0.1).recipe == LabelNoise().recipe
    assert agreement("label_noise", rate=0.0) > 0.95
    # 320 labels, each right with chance one half: 4 standard errors.
    assert abs(agreement("label_noise", rate=0.5) - 0.5) < 0.12
    assert agreement("label_noise", rate=1.0) < 0.05
    quality = score("prdc", features("heldout"), features("label_noise"))
    assert min(quality[k].value for k in ("precision", "recall", "coverage")) > 0.75


def test_a_label_that_is_wrong_is_any_other() -> None:
    items, told = drawn(make_from("label_noise", rate=1), 4000)
    made = [str(i % 10) for i in range(4000)]
    assert not any(t == m for t, m in zip(told, made, strict=True))
    # 90 pairs of 4000: 44 expected of each, standard deviation 6.6.
    pairs = Counter(zip(made, told, strict=True))
    assert len(pairs) == 90 and min(pairs.values()) > 12 and max(pairs.values()) < 80
    assert len(items) == 4000


def test_images_without_classes_have_no_labels_to_confuse() -> None:
    with pytest.raises(BadSource) as error:
        LabelNoise().fit(image_set(np.random.default_rng(0).integers(0, 255, (9, 4, 4, 3)).astype(np.uint8)), seed=0)
    assert "labels" in one_line(error)


@pytest.mark.parametrize(("n", "D"), [(5, 40), (50, 8), (300, 20)])
def test_the_shrinkage_is_that_of_an_independent_implementation(n: int, D: int) -> None:
    x = torch.randn(n, D, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    x[:, 1] = x[:, 0] + 0.3 * x[:, 1]
    Z = (x - x.mean(0)) / x.std(0, correction=0)
    assert shrinkage(Z) == pytest.approx(ledoit_wolf_shrinkage(Z.numpy(), assume_centered=True), abs=1e-10)


def test_draws_have_the_shrunk_covariance_though_it_is_never_formed() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=rng) @ torch.tensor([[1.0, 2, 0, 0], [0, 1, 0, 0], [0, 0, 3, 0], [0, 0, 0, 0]])
    g = class_gaussian(x, torch.ones(4))
    made = g.draw(torch.randn(200_000, 50, generator=rng), torch.randn(200_000, 4, generator=rng)).double()
    S = torch.cov(x.T.double(), correction=0)
    wanted = (1 - g.a) * S + g.a * S.diag().diag()
    assert 0 < g.a < 1
    assert torch.allclose(torch.cov(made.T), wanted, atol=0.05)
    assert torch.allclose(made.mean(0), x.double().mean(0), atol=0.03)
    # The fourth pixel never varies, and no draw varies it.
    assert bool((made[:, 3] == 0).all())


def test_a_class_of_one_image_is_not_handed_out() -> None:
    images = np.random.default_rng(1).integers(0, 255, (12, 4, 4, 3)).astype(np.uint8)
    generator = LabelNoise()
    generator.fit(image_set(images, ["lonely"] + ["common"] * 11), seed=0)
    made = pixels_of(generator, 40)
    assert not {m.tobytes() for m in made} & {i.tobytes() for i in images}


# ---------------------------------------------------------------------------------------------- other images


@pytest.mark.parametrize("name", IMAGES)
def test_larger_images_in_colour_are_learnt_and_kept(name: str, tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    base = chance.integers(0, 200, (2, 20, 16, 3))
    images = (base[np.arange(30) % 2] + chance.integers(0, 50, (30, 20, 16, 3))).astype(np.uint8)
    data = image_set(images, ["even" if i % 2 == 0 else "odd" for i in range(30)])
    generator = make(name)
    generator.fit(data, seed=0)
    made, groups = pixels_of(generator, 10), drawn(generator, 10)[1]
    assert made.shape == (10, 20, 16, 3) and made.dtype == np.uint8
    assert not (made == made[..., :1]).all()
    assert set(groups) <= {"even", "odd"}
    if name in ("class_mean", "memorizer", "mode_collapse"):
        own = base[[0 if g == "even" else 1 for g in groups]] + 25
        other = base[[1 if g == "even" else 0 for g in groups]] + 25
        assert np.abs(made - own).mean() < 30 < np.abs(made - other).mean()
    generator.save(tmp_path)
    again = make(name)
    again.load(tmp_path)
    assert drawn(again, 10) == drawn(generator, 10)
