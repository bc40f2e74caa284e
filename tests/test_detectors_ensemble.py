"""Judges of several judges: their weights by hand, what they prepare in one tensor, rows, folders and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from detectors.ensemble import SURE, Ensemble, averaged, log_odds_of, stacked
from detectors.panel import Panel, packed, unpacked
from detectors.residual import Residual
from detectors.spectrum import Spectrum
from evalkit.detection import pooled
from evalkit.errors import BadRecord, BadSetting, TooFewSamples, UnknownName, UnreadableSample
from evalkit.measurement import Bench, measure
from evalkit.types import Detector, Resumable
from tests.test_detectors import blurred, listed, p_fake
from tests.test_detectors_features import auroc, noisy

RNG = np.random.RandomState(0)
MEMBERS = "spectrum+residual+clip_probe:random_conv"
REAL, SOFT = noisy(120, 0), [blurred(image) for image in noisy(80, 1)]


@pytest.fixture(scope="module")
def fitted():
    judges = {"ensemble": Ensemble(MEMBERS), "panel": Panel(MEMBERS)}
    for judge in judges.values():
        judge.fit(listed(REAL[:40]), listed(SOFT[:40]), seed=0)
    return judges


def rows(judge, images):
    return judge(torch.stack([judge.prepare(image) for image in images]))


# ---------------------------------------------------------------------------------------------- the weights


def told(n, *worth):
    """Truth, and log-odds of members that are each worth so many standard deviations, and otherwise noise."""
    is_fake = np.repeat([0, 1], n)
    return is_fake, np.stack([(is_fake * 2 - 1) * w + RNG.randn(2 * n) for w in worth], axis=1)


def test_the_weights_are_those_of_logistic_regression_where_all_members_are_of_worth():
    is_fake, log_odds = told(20_000, 1.0, 0.5)
    weights, offset = stacked(log_odds, is_fake)
    found = LogisticRegression(C=1e6).fit(log_odds, is_fake)
    # Log-odds of two normals a distance of 2 w apart are 2 w x: 2 and 1. The ridge draws them a little together.
    assert weights == pytest.approx([2, 1], rel=0.15) and weights == pytest.approx(found.coef_[0], rel=0.15)
    assert offset == pytest.approx(0, abs=0.1)


def test_a_member_that_is_wrong_is_left_out_and_never_turned_round():
    is_fake, log_odds = told(2_000, 1.0, -1.0)
    weights, _ = stacked(log_odds, is_fake)
    assert weights[0] > 1 and weights[1] == 0


def test_members_of_no_worth_give_about_one_half_and_no_ties():
    for worth in ((0.0, 0.0), (-1.0, -1.0)):
        is_fake, log_odds = told(500, *worth)
        weights, offset = stacked(log_odds, is_fake)
        p = 1 / (1 + np.exp(-(log_odds @ weights + offset)))
        assert np.abs(p - 0.5).max() < 0.2 and len(np.unique(p)) > 900


def test_fakes_of_three_origins_make_all_members_count_the_same():
    is_fake, log_odds = told(20_000, 1.0, 0.5)
    weights, offset = averaged(log_odds, is_fake)
    # The mean of the two is normal about 0.75 either way with a variance of one half: log-odds 2 * 0.75 / 0.5 of it.
    assert weights == pytest.approx([1.5, 1.5], rel=0.05) and offset == pytest.approx(0, abs=0.05)
    for sets in (3, 2):
        judge = Ensemble("spectrum+residual")
        parts = [listed(SOFT[20 * k : 20 * k + 20], f"g{k}") for k in range(sets)]
        judge.fit(listed(REAL[:40]), pooled(parts), seed=0)
        shares = list(judge.weights.values())
        assert (shares[0] == pytest.approx(shares[1])) is (sets == 3)
        assert auroc(judge, REAL[60:90], SOFT[60:]) > 0.9


def test_log_odds_are_cut_off_where_float32_ends():
    p = torch.tensor([0.0, 0.5, 0.75, 1.0])
    assert log_odds_of(p).tolist() == pytest.approx([-SURE, 0, np.log(3), SURE], abs=1e-6)


# ---------------------------------------------------------------------------------------------- one tensor of many


def test_what_members_prepared_comes_back_by_shape_and_dtype():
    samples = [
        [torch.randn(3, side, side), torch.randint(0, 255, (5,), dtype=torch.uint8), torch.tensor([side, -7])]
        for side in (4, 4, 4)
    ]
    # The same bytes in all, laid out in another way.
    samples[1][0] = samples[1][0].reshape(3, 2, 8)
    batch = torch.stack([packed(sample) for sample in samples])
    seen = []
    for where, parts in unpacked(batch, 3):
        for j, i in enumerate(where.tolist()):
            seen.append(i)
            for part, original in zip(parts, samples[i], strict=True):
                assert part.dtype == original.dtype and torch.equal(part[j], original)
    assert sorted(seen) == [0, 1, 2]


def test_images_of_several_sizes_are_measured_each_with_its_own(fitted):
    mixed = [REAL[0], REAL[1][:16], REAL[2], REAL[3][:, :16]]
    found = measure(listed(mixed), [fitted["panel"]], Bench(workers=1)).features[fitted["panel"].name].rows
    for row, image in zip(found, mixed, strict=True):
        torch.testing.assert_close(row, rows(fitted["panel"], [image])[0], rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------- the judges


def test_a_panel_says_what_its_members_say_alone(fitted):
    panel = fitted["panel"]
    assert panel.heads == {"panel": slice(0, 3)}
    found = rows(panel, REAL[40:60])
    for k, cls in enumerate((Spectrum, Residual)):
        alone = cls()
        alone.fit(listed(REAL[:40]), listed(SOFT[:40]), seed=0)
        np.testing.assert_allclose(found[:, k], p_fake(alone, REAL[40:60]), rtol=1e-5)


def test_an_ensembles_row_is_its_members_weighed(fitted):
    ensemble = fitted["ensemble"]
    assert isinstance(ensemble, Detector) and isinstance(ensemble, Resumable)
    assert ensemble.heads == {"p_fake": slice(0, 1), "members": slice(1, 4)} and ensemble.threshold == (0.2, 0.8)
    found = rows(ensemble, REAL[40:60] + SOFT[40:60]).double()
    assert found.shape == (40, 4)
    # The members are fitted on everything, as those of a panel are.
    torch.testing.assert_close(found[:20, 1:].float(), rows(fitted["panel"], REAL[40:60]))
    weights = torch.tensor([ensemble.weights[name] for name in ensemble.members]).double()
    score = torch.logit(found[:, 1:]).clamp(-SURE, SURE) @ weights + ensemble._tensors["offset"].double()
    torch.testing.assert_close(found[:, 0], torch.sigmoid(score), rtol=1e-5, atol=1e-6)
    assert auroc(ensemble, REAL[40:80], SOFT[40:]) > 0.95


def test_real_against_real_stays_at_chance():
    judge = Ensemble("spectrum+residual")
    judge.fit(listed(REAL[:30]), listed(REAL[30:60]), seed=0)
    # 30 against 30 at chance has a standard error of sqrt(61 / (12 * 30 * 30)) = 0.075.
    assert auroc(judge, REAL[60:90], REAL[90:]) == pytest.approx(0.5, abs=3.3 * 0.075)
    p = p_fake(judge, REAL[60:])
    assert np.abs(p - 0.5).mean() < 0.3


@pytest.mark.parametrize("name", ["ensemble", "panel"])
def test_rows_are_those_of_one_sample_repeat_with_the_seed_and_survive_a_folder(name, fitted, tmp_path):
    judge = fitted[name]
    together = rows(judge, REAL[40:50])
    torch.testing.assert_close(
        together, torch.cat([rows(judge, [image]) for image in REAL[40:50]]), rtol=1e-4, atol=1e-5
    )
    again = type(judge)(MEMBERS)
    again.fit(listed(REAL[:40]), listed(SOFT[:40]), seed=0)
    assert again.digest == judge.digest
    judge.save(tmp_path)
    back = type(judge)(MEMBERS)
    back.load(tmp_path)
    assert (back.name, back.digest, back.trained_on) == (judge.name, judge.digest, judge.trained_on)
    assert torch.equal(rows(back, REAL[40:50]), together)
    with pytest.raises(BadRecord):
        type(judge)("spectrum+residual").load(tmp_path)
    with pytest.raises((KeyError, ValueError)):
        back._learn({k: t for k, t in back._tensors.items() if not k.startswith("residual/")}, back._facts, "")
    assert torch.equal(rows(back, REAL[40:50]), together)


def test_copies_of_a_sample_never_stand_on_both_sides_of_a_fold(monkeypatch):
    seen = []

    def watched(self, data, which, seed, device, part):
        seen.append((part, {data.digests[i] for i in which}, set(data.digests)))
        return original(self, data, which, seed, device, part)

    original = Ensemble._trained
    monkeypatch.setattr(Ensemble, "_trained", watched)
    judge = Ensemble("spectrum+residual")
    judge.fit(listed(REAL[:20] * 2), listed(SOFT[:20] * 2), seed=0)
    assert [part for part, _, _ in seen] == ["part0", "part1", "part2", "whole"]
    held = [everything - learnt for _, learnt, everything in seen[:3]]
    # Every content is held out in exactly one fold, so no copy of it was learnt from in that fold.
    assert not held[0] & held[1] and not held[0] & held[2] and len(set.union(*held)) == 40


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("cls", [Ensemble, Panel])
def test_what_cannot_be_a_member_is_refused(cls):
    for variant, said in (
        ("spectrum", "two or more different"),
        ("spectrum+spectrum", "two or more different"),
        ("spectrum+ngram_lr", "judges texts"),
        ("spectrum+reconstruction", "cannot be a member"),
        ("spectrum+ensemble:spectrum+residual", "cannot be a member|two or more"),
    ):
        with pytest.raises((BadSetting, UnknownName), match=said):
            cls(variant)
    with pytest.raises(UnknownName, match="residua'"):
        cls("spectrum+residua")
    assert cls("spectrum+residual").recipe != cls("residual+spectrum").recipe


def test_small_sets_and_images_that_a_member_cannot_read_are_refused(fitted):
    with pytest.raises(TooFewSamples, match="at least 15 fake samples"):
        Ensemble("spectrum+residual").fit(listed(REAL[:20]), listed(SOFT[:14]), seed=0)
    tiny = [image[:6, :6] for image in REAL[:20]]
    with pytest.raises(TooFewSamples, match="residual"):
        Ensemble("spectrum+residual").fit(listed(REAL[:20]), listed(tiny), seed=0)
    with pytest.raises(UnreadableSample, match="6 x 6"):
        fitted["ensemble"].prepare(tiny[0])
