"""What a matrix says of detectors that are given as they are, of chance, of sizes, and of rules with the same rows."""

from __future__ import annotations

import numpy as np
import pytest

from evalkit.detection import fitted, pooled
from evalkit.errors import UsageError
from evalkit.matrices.crossing import cross_matrix
from evalkit.matrices.regimes import Regime, cut, without_doubles
from evalkit.measurement import Bench
from evalkit.publishing import publish_model
from evalkit.samples.arrays import from_images

from .test_matrices import grey, judges, three

__all__ = ["judges"]


def test_a_fitted_folder_is_scored_as_it_is(judges, tmp_path):
    judge = fitted("brightness", grey(30, 100, 8), grey(30, 200, 9), seed=0, bench=Bench())
    publish_model(judge, tmp_path / "mine")
    study = cross_matrix(
        ["brightness", tmp_path / "mine"], real=grey(40, 115, 0), fakes=three(), rules=["leave-one-out"]
    )
    given = [e for e in study.data["lessons"] if e["detector"] == "mine"]
    assert [e["rule"] for e in given] == ["as given"] and given[0]["seen"] == []
    (mean,) = (m for m in study.data["means"] if m["detector"] == "mine")
    assert mean["unseen"] is None and mean["cells"] == 3 and not study.data["differences"]
    # It is set beside the ranking, not into it, and nothing says that it never saw these.
    assert "brightness reaches a mean AUROC" in study.findings[0] and "does best" not in " ".join(study.findings)
    assert any(words.startswith("mine, as given: mean AUROC") for words in study.findings)
    mine = [
        e for e in study.exhibits if "unseen" in e.title.lower() and any("mine" in r for r in getattr(e, "rows", ()))
    ]
    assert not mine
    assert any("mine was trained elsewhere (30 and 30 samples)" in w for w in study.warnings)


def test_a_folder_that_was_trained_on_one_of_the_sets_is_said_to_be(judges, tmp_path):
    real, fakes = grey(40, 115, 0), three()
    lessons = {
        "whole": (real, fakes["dark"]),
        "half": (cut(real, "real").fit, cut(fakes["dark"], "dark").fit),
        "pool": (grey(30, 115, 7), pooled(list(fakes.values()))),
        "none": (grey(30, 115, 7), grey(30, 150, 8)),
    }
    for name, (r, f) in lessons.items():
        judge = fitted("brightness", r, f, seed=0, bench=Bench())
        # As the detectors of this house do: both sides by digest.
        judge._learn(judge._tensors, {}, f"real {r.digest} n={len(r)}; fake {f.digest} n={len(f)}")
        publish_model(judge, tmp_path / name)
    study = cross_matrix([tmp_path / name for name in lessons], real=real, fakes=fakes)
    assert {e["detector"]: e["seen"] for e in study.data["lessons"]} == {
        "whole": ["dark"], "half": ["dark"], "pool": list(fakes), "none": [],
    }  # fmt: skip
    said = {w.partition(" was trained")[0]: w for w in study.warnings if " was trained" in w}
    assert "on samples of the reals, dark: its scores there" in said["whole"] and "the reals, dark" in said["half"]
    assert "on samples of bright, brighter, dark" in said["pool"] and "cannot be told" in said["none"]


def test_a_name_that_is_a_folder_too_is_refused(judges, tmp_path, monkeypatch):
    publish_model(
        fitted("brightness", grey(30, 100, 8), grey(30, 200, 9), seed=0, bench=Bench()), tmp_path / "brightness"
    )
    monkeypatch.chdir(tmp_path)
    given = {"real": grey(40, 115, 0), "fakes": three(), "rules": ["all"]}
    with pytest.raises(UsageError, match=r"write \./brightness for the folder"):
        cross_matrix(["brightness"], **given)
    study = cross_matrix(["./brightness"], **given)
    assert [(e["detector"], e["rule"]) for e in study.data["lessons"]] == [("brightness", "as given")]


def test_one_that_ranks_the_wrong_way_round_is_said_to_be_below_chance(judges):
    wrong = {"dark": grey(40, 80, 3), "darker": grey(40, 40, 4)}
    study = cross_matrix(
        ["brightness"], real=grey(40, 115, 0), fakes={"bright": grey(40, 150, 1), "dark": wrong["dark"]}
    )
    assert ", below chance." in study.findings[0] and "does best" not in study.findings[0]
    right = cross_matrix(["brightness", "constant"], real=grey(40, 115, 0), fakes=wrong)
    assert "brightness does best" in right.findings[0] and "chance" not in right.findings[0]


def test_sets_of_unlike_size_are_said_once_and_not_where_they_are_normalised(judges):
    large = from_images(np.random.default_rng(5).integers(100, 160, (40, 16, 12, 3)).astype(np.uint8), "large")
    given = {"real": grey(40, 115, 0), "fakes": {"small": grey(40, 150, 1), "large": large}, "rules": ["all"]}
    (words,) = (w for w in cross_matrix(["brightness"], **given).warnings if "differ in size" in w)
    assert "(real 8 x 8, small 8 x 8, large 12 x 16)" in words
    assert not any("differ in size" in w for w in cross_matrix(["brightness"], **given, normalise=True).warnings)
    assert not any("differ" in w for w in cross_matrix(["brightness"], real=given["real"], fakes=three()).warnings)


def test_rules_with_the_same_rows_are_shown_once():
    rows = [Regime("pairs", "a + b", ("a", "b")), Regime("leave-one-out", "all but c", ("b", "a"))]
    kept, said = without_doubles(rows)
    assert kept == (rows[1],) and said[0].startswith("pairs is the same as leave-one-out")
    other = Regime("each", "a", ("a",))
    assert without_doubles([rows[0], other]) == ((rows[0], other), ())
