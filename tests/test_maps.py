"""Maps of detectors whose important region is known, and a deletion test that believes true maps and no others."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from evalkit.errors import BadSetting, ModalityMismatch, TooFewSamples
from evalkit.maps.deleting import (
    FAITHFUL,
    Asked,
    blurred,
    cell_numbers,
    deletion,
    elsewhere,
    explain,
    integrated_gradients,
    mapped,
    over_all,
    to_cells,
)
from evalkit.maps.pictures import VIRIDIS, coloured, drawn
from evalkit.measurement import Bench
from evalkit.samples.arrays import from_images, from_texts

RNG = np.random.RandomState(0)
SIDE = 32
BENCH = Bench(workers=1)


def checkered(n=1, seed=0):
    """Noise: blurring it anywhere changes it there."""
    return np.random.RandomState(seed).randint(0, 256, (n, SIDE, SIDE, 3)).astype(np.uint8)


class Textured:
    """P(fake) = sigmoid(4 (mean |difference of neighbours| / 40 - 1)) of rows 8..16, columns 20..28 alone."""

    name, modality, digest, trained_on, threshold = "textured", "image", "toy:textured", "", (0.2, 0.8)
    heads: Mapping[str, slice] = {"p_fake": slice(0, 1)}
    where = (slice(8, 16), slice(20, 28))
    region = np.zeros((SIDE, SIDE), bool)
    region[where] = True

    def prepare(self, sample):
        return torch.from_numpy(sample.transpose(2, 0, 1).astype(np.float32))

    def to(self, device):
        pass

    def odds(self, images):
        part = images[:, :, self.where[0], self.where[1]]
        return 4 * ((part[..., 1:] - part[..., :-1]).abs().mean(dim=(1, 2, 3)) / 40 - 1)

    def __call__(self, batch):
        return torch.sigmoid(self.odds(batch))[:, None]


class Linear(Textured):
    """Log-odds linear in the pixels of the region: the weights are known."""

    name, digest = "linear", "toy:linear"
    weights = torch.from_numpy(np.random.RandomState(1).randn(3, SIDE, SIDE) * Textured.region / 200).float()

    def log_odds(self, images):
        return (images * self.weights).sum(dim=(1, 2, 3))

    def odds(self, images):
        return self.log_odds(images)


class Scored(Textured):
    """A detector that draws its own map."""

    name, digest, localises = "scored", "toy:scored", False

    def score_map(self, batch):
        found = torch.zeros(len(batch), 8, 8)
        found[:, 2:4, 5:7] = 1.0
        return found


def share_inside(fine):
    """Of the positive part of a map, what lies in the region."""
    cells = to_cells(fine, (8, 8)).clip(0)
    return cells[2:4, 5:7].sum() / cells.sum()


# ---------------------------------------------------------------------------------------------- the maps


def test_integrated_gradients_of_a_linear_score_are_weight_times_change_and_add_up():
    image = checkered()[0]
    fine = integrated_gradients(Linear().log_odds, image)
    change = (image.astype(float) - blurred(image)).transpose(2, 0, 1)
    np.testing.assert_allclose(fine, (Linear.weights.double().numpy() * change).sum(0), atol=1e-5)
    both = Linear().log_odds(torch.stack([Linear().prepare(x) for x in (image, blurred(image))]))
    assert fine.sum() == pytest.approx(float(both[0] - both[1]), abs=1e-4)


def test_the_path_integral_adds_up_for_a_curved_score_too():
    image = checkered()[0]

    def log_odds(x):
        return torch.sin(x.mean(dim=1) / 50).sum(dim=(1, 2)) / 10

    fine = integrated_gradients(log_odds, image)
    both = log_odds(torch.from_numpy(np.stack([image, blurred(image)]).transpose(0, 3, 1, 2).astype(np.float32)))
    assert fine.sum() == pytest.approx(float(both[0] - both[1]), rel=0.01)


def test_occlusion_finds_the_region_of_a_detector_without_gradients():
    image = checkered()[0]
    judge = Asked(Textured(), BENCH)
    kind, _, fine = mapped(Textured(), image, judge, "cpu")
    assert kind == "occlusion map" and fine.shape == (8, 8) and judge.calls == 1 + 7 * 7
    # Windows of two cells smear what they find by one cell on every side.
    assert to_cells(fine, (8, 8))[2:4, 5:7].min() > fine[np.r_[0, 5:8]].max()
    assert fine[5:].max() == 0


def test_the_first_way_a_detector_has_is_taken():
    judge = Asked(Textured(), BENCH)
    image = checkered()[0]
    assert [mapped(d, image, judge, "cpu")[0] for d in (Scored(), Linear(), Textured())] == [
        "score map",
        "gradient map",
        "occlusion map",
    ]


def test_cells_are_means_by_area_of_what_lies_in_them():
    assert to_cells(np.arange(16.0).reshape(4, 4), (2, 2)).tolist() == [[2.5, 4.5], [10.5, 12.5]]
    # Three values over two cells: the middle one is shared.
    np.testing.assert_allclose(to_cells(np.array([[3.0, 6.0, 0.0]]), (1, 2)), [[4.0, 2.0]])
    np.testing.assert_allclose(to_cells(np.array([[1.0]]), (3, 3)), 1.0)
    assert np.bincount(cell_numbers(checkered()[0]).ravel()).tolist() == [16] * 64
    assert cell_numbers(np.zeros((5, 20, 3), np.uint8)).max() == 39


# ---------------------------------------------------------------------------------------------- the test


def test_deletion_believes_the_true_map_and_its_area_is_the_one_computed_by_hand():
    image = checkered()[0]
    cells = np.zeros((8, 8))
    cells[2:4, 5:7] = [[4, 3], [2, 1]]
    found = deletion(Asked(Textured(), BENCH), image, cells, seed=0)
    half, gone = image.copy(), image.copy()
    # The first cut takes 2 of 64 cells, which are the upper half of the region; the second the whole region.
    half[8:12, 20:28], gone[8:16, 20:28] = blurred(image)[8:12, 20:28], blurred(image)[8:16, 20:28]
    p = Asked(Textured(), BENCH)([image, half, gone, blurred(image)])
    by_hand = (p[0] + p[1]) / 2 / 32 + (p[1] + p[2]) / 2 / 32 + p[2] * (3 / 4 - 1 / 16) + (p[2] + p[3]) / 2 / 4
    assert found.auc == pytest.approx(by_hand)
    assert found.faithful and found.p_value == pytest.approx(1 / 40)
    assert found.auc < found.random_low < found.random_auc < found.random_high
    worst = deletion(Asked(Textured(), BENCH), image, -cells, seed=0)
    assert not worst.faithful and worst.auc > found.random_high


@pytest.mark.parametrize("smooth", [False, True], ids=["scattered", "coherent"])
def test_random_maps_are_called_faithful_no_more_often_than_one_in_twenty(smooth):
    image, hits = checkered()[0], []
    region = Textured.region

    def judge(images):
        return np.array(
            [1 / (1 + np.exp(3 - np.abs(np.diff(x[8:16, 20:28, 0].astype(int))).mean() / 20)) for x in images]
        )

    assert region.sum() == 64
    for seed in range(60):
        rng = np.random.RandomState(1000 + seed)
        cells = rng.randn(8, 8)
        if smooth:
            cells = sum(np.roll(cells, (y, x), (0, 1)) for y in range(3) for x in range(3))
        hits.append(deletion(judge, image, cells, seed=seed).faithful)
    # Binomial(60, 0.05) is above 8 with probability 0.003.
    assert sum(hits) <= 8


def test_a_detector_that_deletion_does_not_move_has_no_faithful_map():
    found = deletion(lambda images: np.full(len(images), 1.0), checkered()[0], RNG.randn(8, 8), seed=0)
    assert (found.auc, found.p_value, found.faithful) == (pytest.approx(1.0), 1.0, False)


def test_a_random_order_is_the_same_map_elsewhere():
    cells = np.arange(64).reshape(8, 8)
    moved = elsewhere(cells, RNG)
    assert sorted(moved.ravel()) == list(range(64))
    # Neighbours on the torus stay neighbours.
    y, x = np.argwhere(moved == 9)[0]
    around = {int(moved[(y + dy) % 8, (x + dx) % 8]) for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))}
    assert around == {8, 10, 1, 17}
    assert elsewhere(np.zeros((3, 8)), RNG).shape == (3, 8)


# ---------------------------------------------------------------------------------------------- facts and pictures


@pytest.mark.parametrize("detector", [Textured(), Linear(), Scored()], ids=lambda d: d.name)
def test_explain_writes_one_picture_a_sample_and_says_what_it_is(detector, tmp_path):
    samples = from_images(checkered(3), "../evil/name")
    found = explain(detector, samples, [0, 2], tmp_path / "maps", seed=0, bench=BENCH)
    again = explain(detector, samples, [0, 2], tmp_path / "maps", seed=0, bench=BENCH)
    assert found == again and [one["id"] for one in found] == [list(samples)[i].id for i in (0, 2)]
    assert sorted(p.name for p in (tmp_path / "maps").iterdir()) == sorted(one["file"] for one in found)
    for one in found:
        assert not one["location"] and one["orders"] == 39 and 0 <= one["deletion_auc"] <= 1
        with Image.open(tmp_path / "maps" / one["file"]) as picture:
            assert picture.width > 512
    if detector.name != "linear":
        assert all(one["verdict"] == FAITHFUL for one in found)


def test_over_a_set_the_gain_has_an_interval():
    def fact(auc, faithful):
        return {"deletion_auc": auc, "random_auc": {"value": 0.8}, "faithful": faithful}

    found = over_all([fact(0.5, True), fact(0.6, True), fact(0.7, False)])
    # Mean 0.2, standard error 0.1 / sqrt(3), t(2) = 4.303.
    assert found["gain"]["low"] == pytest.approx(0.2 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert (found["faithful"], found["n"], found["verdict"]) == (2, 3, "not distinguishable from random order")
    with pytest.raises(TooFewSamples):
        over_all([fact(0.5, True)])


def test_wrong_samples_are_refused_in_one_line(tmp_path):
    with pytest.raises(ModalityMismatch):
        explain(Textured(), from_texts(["a text"]), [0], tmp_path, seed=0, bench=BENCH)
    with pytest.raises(BadSetting, match="sample number 3"):
        explain(Textured(), from_images(checkered(3)), [3], tmp_path, seed=0, bench=BENCH)


def test_colours_run_from_dark_to_light_and_the_highest_value_is_where_it_belongs():
    assert (coloured(np.array([0.0, 1.0])) == VIRIDIS[[0, -1]]).all()
    light = coloured(np.linspace(0, 1, 50)) @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(light) > -1e-9).all() and light[-1] - light[0] > 150
    fine = np.zeros((2, 2))
    fine[0, 1] = 1.0
    page = np.asarray(drawn(np.zeros((8, 8, 3), np.uint8), fine, ["words"]))
    left = 12 + 256 + 12
    assert page[20, left + 200].sum() > page[200, left + 200].sum() == page[20, left + 20].sum()


def test_a_location_is_claimed_only_by_a_detector_that_localises(tmp_path):
    detector = Scored()
    detector.localises = True  # type: ignore[misc]
    found = explain(detector, from_images(checkered(1)), [0], tmp_path, seed=0, bench=BENCH)
    assert SimpleNamespace(**found[0]).location
