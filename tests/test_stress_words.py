"""What a stress study says: the damage that matters first, every reason, detectors that know the samples."""

from __future__ import annotations

import pytest

from evalkit.errors import BadSource
from evalkit.samples import ListedSet
from evalkit.stressing.bed import Numbers, _reasons
from evalkit.stressing.chains import _worst
from evalkit.stressing.suites import stress
from evalkit.types import Estimate, Excluded

from .test_stress import Rough, grainy


def test_every_reason_is_told_with_how_often_it_holds() -> None:
    reasons = ["under 4 pixels", "truncated", "under 4 pixels"]
    assert _reasons([Excluded(str(i), why) for i, why in enumerate(reasons)]) == "2: under 4 pixels; 1: truncated"
    assert _reasons([Excluded("a", "truncated")]) == "truncated"


def estimate(value: float, low: float, high: float) -> Estimate:
    return Estimate(value, low, high, "bootstrap")


def numbers(auroc: float, change: tuple[float, float], fpr: tuple[float, float, float]) -> Numbers:
    moved = estimate(sum(change) / 2, *change)
    return Numbers(estimate(auroc, auroc, auroc), estimate(0.5, 0.4, 0.6), estimate(*fpr), 40, 40, moved, moved, moved)


def test_the_first_sentence_is_the_damage_that_matters() -> None:
    mild, falls = numbers(0.8, (-0.1, 0.02), (0.05, 0.01, 0.2)), numbers(0.6, (-0.3, -0.2), (0.04, 0.01, 0.1))
    alarms = numbers(0.9, (-0.01, 0.01), (0.5, 0.4, 0.6))
    first = {
        "lost": _worst("d", {"a": mild, "b": falls, "c": alarms}, 0.05),
        "falls": _worst("d", {"a": mild, "b": falls}, 0.05),
        "stands": _worst("d", {"a": mild}, 0.05),
    }
    assert (
        first["lost"].says[0] == "d: most false alarms behind c: FPR 0.500 [0.400, 0.600] at a threshold set for 5.0%"
    )
    assert first["falls"].says[0].startswith("d: AUROC falls most behind b: AUROC 0.600")
    assert first["stands"].says[0].startswith("d: AUROC is lower than clean behind none beyond its interval")
    assert "not beyond it by its interval" in first["falls"].says[1]
    assert sorted(first, key=lambda k: first[k].rank) == ["lost", "falls", "stands"]
    # The lowest by value is not the one that is surely lower.
    wide = _worst("d", {"wide": numbers(0.5, (-0.9, 0.1), (0.0, 0.0, 0.1)), "b": falls}, 0.05)
    assert "lowest behind wide, whose change includes zero" in wide.says[0] and "most behind b" in wide.says[0]


def test_a_detector_that_was_trained_on_a_set_is_told_of() -> None:
    real, fakes = grainy(40, 2.0, 0), {"a": grainy(40, 3.0, 1), "b": grainy(30, 3.0, 2)}
    pool = ListedSet("a+b", "image", (*fakes["a"].samples, *fakes["b"].samples))
    words = {"reals": real.digest, "one": fakes["b"].digest, "pool": pool.digest, "other": grainy(30, 2.0, 9).digest}
    judges = {name: Rough(name) for name in words}
    for name, judge in judges.items():
        judge.trained_on = f"real x; fake {words[name]} n=1"
    # --n leaves other samples than those it learnt from, and still it learnt from them.
    study = stress(judges, real, fakes, chains=["blur"], n=25)
    said = [w.partition(": its scores there")[0] for w in study.warnings if "these very samples" in w]
    assert said == [
        "reals was trained on these very samples (the reals)",
        "one was trained on these very samples (b)",
        "pool was trained on these very samples (a, b)",
    ]


def test_sets_that_share_samples_are_refused() -> None:
    real, fake = grainy(40, 2.0, 0), grainy(40, 3.0, 1)
    mixed = ListedSet("mixed", "image", (*fake.samples[:30], *real.samples[:3]))
    with pytest.raises(BadSource, match="3 of the 33 samples of 'f' are also samples of the reals"):
        stress({"d": Rough()}, real, {"f": mixed})
    with pytest.raises(BadSource, match="30 of the 33 samples of 'g' are also samples of generator 'f'"):
        stress({"d": Rough()}, grainy(40, 2.0, 5), {"f": fake, "g": mixed})
