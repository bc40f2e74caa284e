"""Attacks on detectors: the known optimum is reached, no pixel moves further than epsilon, the judges see the rest."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from detectors._judge import Judge
from detectors.cnn import CNN
from evalkit import registry
from evalkit.errors import BadSetting, ModalityMismatch, RunFailed
from evalkit.measurement import Bench
from evalkit.samples import select
from evalkit.samples.arrays import from_images
from evalkit.samples.embedded import open_embedded
from evalkit.stressing.attack_suite import attacks
from evalkit.stressing.attacks import attacked, projected_gradient
from evalkit.stressing.bed import made_bed
from evalkit.types import Study

RNG = np.random.default_rng(0)
WEIGHTS = torch.from_numpy(np.where(RNG.random((3, 6, 6)) < 0.5, -1.0, 1.0) * RNG.uniform(0.2, 1, (3, 6, 6))).float()


class Linear(Judge):
    """Log-odds of fake: a weighted sum of grey levels."""

    name, modality, scale = "linear", "image", 0.02

    def __init__(self):
        super().__init__()
        self._learn({"w": WEIGHTS.clone()}, {}, "nothing")

    def prepare(self, sample):
        return torch.from_numpy(np.ascontiguousarray(sample.transpose(2, 0, 1))).float()

    def log_odds(self, images):
        return self.scale * ((images - 126) * self._fitted()["w"]).sum(dim=(1, 2, 3))

    def __call__(self, batch):
        return torch.sigmoid(self.log_odds(batch))[:, None]


class Wavy(Linear):
    """Log-odds with hills and valleys, so that where an attack starts matters."""

    name = "wavy"

    def log_odds(self, images):
        return (torch.sin(images * 1.7 + self._fitted()["w"] * 9)).sum(dim=(1, 2, 3))


class Flat(Linear):
    """Rounds before it looks: no gradient anywhere."""

    name = "flat"

    def log_odds(self, images):
        return super().log_odds((images / 4).round() * 4 + 0 * images)


class Deaf(Judge):
    """Judges by the same sum, without gradients."""

    name, modality = "deaf", "image"

    def __init__(self):
        super().__init__()
        self._learn({"w": WEIGHTS.clone()}, {}, "nothing")

    def prepare(self, sample):
        return Linear.prepare(self, sample)

    def __call__(self, batch):
        return torch.sigmoid(0.02 * ((batch - 126) * WEIGHTS).sum(dim=(1, 2, 3)))[:, None]


class Poles(Linear):
    """Log-odds that are no number."""

    name = "poles"

    def log_odds(self, images):
        return super().log_odds(images) * math.nan


def pixels(n, low=30, high=220, seed=0):
    return np.random.default_rng(seed).integers(low, high, (n, 6, 6, 3)).astype(np.uint8)


def moves(detector, images, epsilon, towards="real", seed=0):
    """What the attack adds to each image."""
    found, _ = projected_gradient(
        detector, list(images), epsilon=epsilon, towards=towards, seeds=[seed + i for i in range(len(images))]
    )
    return np.stack(found).astype(int) - images.astype(int)


@pytest.mark.parametrize("epsilon", [1, 4, 8])
@pytest.mark.parametrize(("towards", "sign"), [("real", -1), ("fake", 1)])
def test_on_a_linear_detector_the_known_optimum_is_reached(epsilon, towards, sign):
    best = sign * epsilon * np.sign(WEIGHTS.numpy()).transpose(1, 2, 0)
    assert (moves(Linear(), pixels(5), epsilon, towards) == best).all()


@pytest.mark.parametrize("epsilon", [0.4, 1, 2.7, 8, 200])
def test_never_further_than_epsilon_and_never_out_of_range(epsilon):
    images = np.concatenate([pixels(4, 0, 256), np.zeros((1, 6, 6, 3), np.uint8), np.full((1, 6, 6, 3), 255, np.uint8)])
    moved = moves(Wavy(), images, epsilon)
    assert np.abs(moved).max() <= epsilon
    # As uint8 a value under 0 or over 255 would have come out on the other side.
    assert np.abs(moved).max() == (math.floor(epsilon) if epsilon < 100 else np.abs(moved).max())
    assert (moved[-2] >= 0).all() and (moved[-1] <= 0).all()


def test_epsilon_zero_changes_nothing():
    assert not moves(Linear(), pixels(3), 0).any()


def test_the_detector_attacked_is_never_surer_of_the_truth():
    detector, images = Wavy(), pixels(12)
    for epsilon in (1, 2, 4):
        after = images + moves(detector, images, epsilon)
        before, now = (detector.log_odds(torch.from_numpy(x.transpose(0, 3, 1, 2)).float()) for x in (images, after))
        assert (now <= before).all() and (now < before).float().mean() > 0.9


def test_same_seed_same_images_whatever_the_batch():
    samples = from_images(pixels(9))

    def made(seed, batch_size):
        bench = Bench(batch_size=batch_size)
        return attacked(Wavy(), samples, epsilon=4, towards="real", seed=seed, bench=bench).samples

    assert made(1, 9).digest == made(1, 2).digest
    assert made(1, 9).digest != made(2, 9).digest
    assert [s.id for s in made(1, 9)] == [s.id for s in samples]


def test_images_of_several_sizes_keep_their_places():
    class Mean(Linear):
        def log_odds(self, images):
            return images.mean(dim=(1, 2, 3))

    both = [pixels(1)[0], np.full((9, 4, 3), 100, np.uint8), pixels(1, seed=3)[0]]
    samples = [next(iter(from_images(image[None], f"s{i}"))) for i, image in enumerate(both)]
    given = select(from_images(pixels(1)), [])
    given = type(given)("mixed", "image", tuple(samples))
    made = attacked(Mean(), given, epsilon=3, towards="real", seed=0, bench=Bench()).samples
    assert [s.load().astype(int).tolist() for s in made] == [(image.astype(int) - 3).tolist() for image in both]


def test_what_cannot_be_attacked():
    samples, bench = from_images(pixels(3)), Bench()
    with pytest.raises(BadSetting, match="no gradients"):
        attacked(Deaf(), samples, epsilon=1, towards="real", seed=0, bench=bench)
    with pytest.raises(RunFailed, match="not finite"):
        attacked(Poles(), samples, epsilon=1, towards="real", seed=0, bench=bench)
    with pytest.raises(BadSetting, match="epsilon"):
        attacked(Linear(), samples, epsilon=-1, towards="real", seed=0, bench=bench)
    with pytest.raises(ModalityMismatch):
        attacked(Linear(), open_embedded("embedded:prose"), epsilon=1, towards="real", seed=0, bench=bench)
    assert attacked(Flat(), samples, epsilon=1, towards="real", seed=0, bench=bench).flat == 3


# The suite ------------------------------------------------------------------------------------------------------------


def bed(*detectors):
    """Reals, and fakes whose every pixel is one grey level further along the weights of the linear judge."""
    towards = np.sign(WEIGHTS.numpy()).transpose(1, 2, 0)
    real = from_images(pixels(60, 120, 132, 1), "real")
    fakes = {
        name: from_images((pixels(40, 120, 132, seed) + towards).astype(np.uint8), name)
        for seed, name in ((2, "gan"), (3, "vae"))
    }
    return made_bed({d.name: d for d in detectors}, real, fakes, fpr=0.05, bench=Bench())[0]


def trials(part, judge, made_against, attack):
    found = [t for t in part.data["trials"] if (t["judged_by"], t["made_against"]) == (judge, made_against)]
    return sorted((t for t in found if t["attack"] == attack), key=lambda t: t["epsilon"])


def test_more_epsilon_is_a_lower_auroc_and_images_carry_over_to_a_judge_without_gradients():
    part = attacks(bed(Linear(), Deaf()))
    clean = part.data["clean"]["linear"]["auroc"]["value"]
    own = trials(part, "linear", "linear", "fakes made to look real")
    values = [clean, *(t["auroc"]["value"] for t in own)]
    assert values == sorted(values, reverse=True) and clean > 0.85 and values[-1] < 0.15
    assert own[-1]["auroc_change"]["high"] < 0 and own[-1]["tpr_change"]["high"] < 0
    assert own[-1]["fpr_change"]["value"] == 0, "the reals were not attacked"
    framed = trials(part, "linear", "linear", "reals made to look fake")
    assert framed[-1]["fpr_change"]["low"] > 0 and framed[-1]["tpr_change"]["value"] == 0
    # Both judge by the same sum: what fools one fools the other.
    passed = trials(part, "deaf", "linear", "fakes made to look real")
    assert [t["auroc"]["value"] for t in passed] == values[1:]
    assert not trials(part, "deaf", "deaf", "fakes made to look real")
    assert part.data["without_gradients"] == ["deaf"]
    assert any(words.startswith("deaf has no gradients") for words in part.findings)


def test_masked_gradients_are_said_and_the_transfer_goes_round_them():
    part = attacks(bed(Linear(), Flat()))
    assert any("flat: the gradient is exactly zero on" in words for words in part.warnings)
    own = trials(part, "flat", "flat", "fakes made to look real")[-1]["auroc"]["value"]
    passed = trials(part, "flat", "linear", "fakes made to look real")[-1]["auroc"]["value"]
    assert passed < own - 0.3


def test_a_detector_hardened_against_attacks_is_set_beside_the_same_one_that_is_not():
    class Hard(Linear):
        name = "linear:adversarial"

        def log_odds(self, images):
            # Sees half of the weights, so an attack moves it half as far.
            return self.scale * ((images - 126) * WEIGHTS)[:, :, :3].sum(dim=(1, 2, 3))

    part = attacks(bed(Linear(), Hard()))
    lines = [words for words in part.findings if words.startswith("White-box at")]
    assert len(lines) == 4 and "linear:adversarial keeps an AUROC of" in lines[0]


def test_without_any_gradient_nothing_is_claimed():
    part = attacks(bed(Deaf()))
    assert not part.findings and not part.exhibits and "attacks: deaf has no gradients" in part.warnings[0]


def test_the_suite_can_be_written():
    part = attacks(bed(Linear(), Deaf()))
    study = Study("evalkit.stress/1", "Attacks", part.findings, part.exhibits, {"attacks": part.data}, {})
    for name in ("study_html", "study_markdown", "study_csv"):
        assert "8/255" in registry.reports.get(name)(study)
    json.loads(registry.reports.get("study_json")(study))


def test_a_trained_network_falls_and_its_gradients_are_those_of_the_row():
    digits = select(open_embedded("embedded:digits/train"), range(64))
    rng = np.random.default_rng(0)
    noisy = np.stack([s.load() for s in digits]).astype(int) + rng.integers(-40, 41, (64, 8, 8, 1))
    fake = from_images(np.clip(noisy, 0, 255).astype(np.uint8), "noisy")
    judge = CNN()
    judge.fit(select(digits, range(24)), select(fake, range(24)), seed=0)
    real, made = select(digits, range(24, 64)), select(fake, range(24, 64))
    whole, _ = made_bed({"cnn": judge}, real, {"noisy": made}, fpr=0.05, bench=Bench())
    part = attacks(whole)
    own = trials(part, "cnn", "cnn", "fakes made to look real")
    assert part.data["clean"]["cnn"]["auroc"]["value"] > 0.8
    assert own[-1]["auroc_change"]["high"] < 0 and own[-1]["auroc"]["value"] < own[0]["auroc"]["value"]
