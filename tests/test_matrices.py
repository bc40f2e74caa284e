"""The cross-generator matrix: nothing tested was learnt from, cells that share samples, numbers known by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from sklearn.metrics import average_precision_score, roc_auc_score

from detectors._judge import Judge
from evalkit import registry
from evalkit.commands.matrix import matrix, named
from evalkit.errors import BadRows, BadSetting, BadSource, TooFewSamples, UnknownName
from evalkit.matrices.crossing import cross_matrix
from evalkit.matrices.readings import drawings, estimated, mean_again, read
from evalkit.matrices.regimes import cut, expanded, regimes
from evalkit.metrics.calibration import accuracy, oracle_accuracy
from evalkit.metrics.detection import equal_error_rate, true_positive_rate
from evalkit.samples import ListedSet, select
from evalkit.samples._set import check_apart
from evalkit.samples.arrays import from_images


class Brightness(Judge):
    """How bright an image is, on the side where the fakes it learnt from were."""

    name, modality, seen = "brightness", "image", {}

    def prepare(self, sample):
        return torch.tensor([float(sample.mean())])

    def __call__(self, batch):
        t = self._fitted()
        return torch.sigmoid((batch - t["middle"]) * t["slope"])

    def fit(self, real, fake, *, seed, device="cpu"):
        Brightness.seen[fake.digest] = {s.digest for side in (real, fake) for s in side}
        means = [torch.tensor([float(s.load().mean()) for s in side]).mean() for side in (real, fake)]
        middle, slope = (means[0] + means[1]) / 2, (means[1] - means[0]).sign() / 4
        self._learn({"middle": middle[None], "slope": slope[None]}, {}, f"{len(real)} and {len(fake)} samples")


class Constant(Brightness):
    """One score for all."""

    name, score = "constant", 0.3

    def __call__(self, batch):
        return torch.full((len(batch), 1), self.score)


class Broken(Constant):
    """No score at all."""

    name, score = "broken", math.nan


@pytest.fixture
def judges(monkeypatch):
    for judge in (Brightness, Constant, Broken):
        monkeypatch.setitem(registry.detectors._added, judge.name, judge)
    monkeypatch.setattr(Brightness, "seen", {})


def grey(n, level, seed, name="set"):
    """n flat images around a grey level; 8 x 8 with noise, so that no two are equal."""
    rng = np.random.default_rng(seed)
    base = rng.normal(level, 8, (n, 1, 1, 1)) + rng.normal(0, 2, (n, 8, 8, 3))
    return from_images(np.clip(np.rint(base), 0, 255).astype(np.uint8), name)


def three(n=40):
    return {"bright": grey(n, 150, 1), "brighter": grey(n, 180, 2), "dark": grey(n, 80, 3)}


# Readings -------------------------------------------------------------------------------------------------------------


def once(real, fake):
    """Readings of undisturbed samples."""
    places = [torch.arange(len(side))[None] for side in (real, fake)]
    return read(real, fake, *places)


def test_readings_of_four_scores_known_by_hand():
    found = once(torch.tensor([0.1, 0.6]), torch.tensor([0.4, 0.9]))
    values = {name: float(v[0]) for name, v in found.again.items()}
    # Pairs in order: (.4 > .1), (.9 > .1), (.9 > .6) of four. Fake > .5: one of two right on each side.
    assert values["auroc"] == found.auroc.value == 0.75
    assert values["accuracy"] == 0.5 and values["oracle_accuracy"] == 0.75
    assert values["average_precision"] == pytest.approx((1 + 2 / 3) / 2)
    assert values["eer"] == 0.5
    assert found.missing == {"tpr_at_0.05": "n < 59", "tpr_at_0.01": "n < 299"}


def test_a_score_of_one_half_is_not_called_fake():
    found = once(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.7]))
    assert float(found.again["accuracy"][0]) == 0.75


@pytest.mark.parametrize("levels", [0, 7])
def test_readings_agree_with_the_functions_that_read_one_pair_at_a_time(levels):
    rng = np.random.default_rng(levels)
    real, fake = rng.beta(2, 3, 301), rng.beta(3, 2, 170)
    if levels:  # ties
        real, fake = np.rint(real * levels) / levels, np.rint(fake * levels) / levels
    found = once(torch.from_numpy(real), torch.from_numpy(fake))
    truth, scores = np.repeat([0, 1], [301, 170]), np.concatenate([real, fake])
    a, b = torch.from_numpy(real), torch.from_numpy(fake)
    expected = {
        "auroc": roc_auc_score(truth, scores),
        "average_precision": average_precision_score(truth, scores),
        "accuracy": accuracy(a, b).value,
        "oracle_accuracy": oracle_accuracy(a, b)[0],
        "eer": equal_error_rate(a, b).value,
        "tpr_at_0.05": true_positive_rate(a, b, fpr=0.05).value,
        "tpr_at_0.01": true_positive_rate(a, b, fpr=0.01).value,
    }
    assert {k: float(v[0]) for k, v in found.again.items()} == pytest.approx(expected, abs=1e-12)


def delong(cells, weights):
    """Variance of a weighted sum of AUROCs that share samples: DeLong et al. 1988, eq. 5, sides known by name."""
    parts = {}
    for (real, fake, real_name, fake_name), w in zip(cells, weights, strict=True):
        psi = (fake[:, None] > real).double() + 0.5 * (fake[:, None] == real).double()
        for name, component in ((real_name, psi.mean(0)), (fake_name, psi.mean(1))):
            parts[name] = parts.get(name, 0) + w * component
    return sum(float(c.var() / len(c)) for c in parts.values())


def test_intervals_of_means_and_differences_know_that_cells_share_their_samples():
    g = torch.Generator().manual_seed(0)
    n = {"real": 150, "a": 120, "b": 90}
    common = {name: torch.randn(k, generator=g).double() for name, k in n.items()}
    shift = {"real": 0.0, "a": 1.0, "b": 0.6}
    # Two detectors that read much of the same.
    scores = [
        {name: torch.sigmoid(shift[name] + z + 0.5 * torch.randn(len(z), generator=g)) for name, z in common.items()}
        for _ in range(2)
    ]
    draws = drawings(n, seed=0, draws=4000)
    cells = [[read(s["real"], s[f], draws["real"], draws[f]) for f in "ab"] for s in scores]
    means = [mean_again(of_one, "auroc") for of_one in cells]
    given = [[(s["real"], s[f], "real", f) for f in "ab"] for s in scores]
    assert float(means[0][1:].std()) == pytest.approx(math.sqrt(delong(given[0], [0.5, 0.5])), rel=0.06)
    difference = means[0] - means[1]
    expected = math.sqrt(delong([*given[0], *given[1]], [0.5, 0.5, -0.5, -0.5]))
    # Taken as independent, the difference would look much less certain.
    assert float(difference[1:].std()) == pytest.approx(expected, rel=0.06)
    assert expected < 0.75 * math.sqrt(sum(delong(x, [0.5, 0.5]) for x in given))


def test_draws_of_a_set_do_not_depend_on_the_others():
    alone, beside = drawings({"a": 30}, 5, 10), drawings({"b": 7, "a": 30}, 5, 10)
    assert torch.equal(alone["a"], beside["a"])
    assert alone["a"][0].tolist() == list(range(30))
    assert not torch.equal(alone["a"], drawings({"a": 30}, 6, 10)["a"])


def test_perfect_separation_still_has_an_interval_and_the_oracle_has_none():
    draws = drawings({"r": 40, "f": 40}, 0, 200)
    found = read(torch.linspace(0, 0.2, 40), torch.linspace(0.8, 1, 40), draws["r"], draws["f"])
    sure = estimated("auroc", found.again["auroc"], 40)
    assert sure.value == sure.high == 1 and 0.85 < sure.low < 0.95
    assert found.estimate("oracle_accuracy").method == "none"


@pytest.mark.parametrize(("n", "measured"), [(58, False), (59, True)])
def test_tpr_needs_reals_enough_to_bound_the_fpr(n, measured):
    found = once(torch.rand(n), torch.rand(30))
    assert ("tpr_at_0.05" in found.again) is measured and "tpr_at_0.01" not in found.again


# Who learns from what -------------------------------------------------------------------------------------------------


def test_rows_of_every_rule():
    cuts = [cut(grey(20, 100, i), name, fam) for i, (name, fam) in enumerate([("a", "x"), ("b", "x"), ("c", "y")])]
    found = {
        (r.rule, r.label): r.seen for r in regimes(expanded(["all-rules"], {c.name: c.family for c in cuts}), cuts)
    }
    assert found == {
        **{("each", n): (n,) for n in "abc"},
        **{("pairs", f"{p} + {q}"): (p, q) for p, q in ("ab", "ac", "bc")},
        ("leave-one-out", "all but a"): ("b", "c"),
        ("leave-one-out", "all but b"): ("a", "c"),
        ("leave-one-out", "all but c"): ("a", "b"),
        ("leave-family-out", "all but family x"): ("c",),
        ("leave-family-out", "all but family y"): ("a", "b"),
        ("all", "all"): ("a", "b", "c"),
    }


def test_families_of_one_are_no_families():
    assert "leave-family-out" not in expanded(["all-rules"], {"a": "a", "b": "b"})
    with pytest.raises(BadSetting, match="--family"):
        expanded(["leave-family-out"], {"a": "a", "b": "b"})
    with pytest.raises(BadSetting, match="expected one of"):
        expanded(["some"], {})


def test_sets_that_share_a_sample_are_refused():
    real, a, b = grey(30, 100, 0), grey(30, 150, 1), grey(30, 200, 2)
    check_apart(real, {"a": a, "b": b})
    mixed = ListedSet("mixed", "image", (*select(b, range(25)), *select(a, range(3))))
    with pytest.raises(BadSource, match="3 of the 28 samples of 'mixed' are also samples of generator 'a'"):
        check_apart(real, {"a": a, "mixed": mixed})
    with pytest.raises(BadSource, match="of the reals"):
        check_apart(mixed, {"b": b})


def test_a_set_of_copies_cannot_be_cut():
    one = grey(1, 100, 0)
    copies = ListedSet("copies", "image", tuple(one) * 40)
    with pytest.raises(TooFewSamples, match="40 samples but 1 different"):
        cut(copies, "copies")


# The matrix -----------------------------------------------------------------------------------------------------------


def test_no_cell_tests_what_any_cell_learnt_from(judges):
    fakes, real = three(), grey(40, 115, 0)
    # Copies inside a set must not straddle the cut either.
    fakes["dark"] = ListedSet("dark", "image", (*fakes["dark"], *select(fakes["dark"], range(5))))
    study = cross_matrix(["brightness"], real=real, fakes=fakes, rules=["each", "leave-one-out", "all"])
    learnt = set.union(*Brightness.seen.values())
    for name, samples in {"real": real, **fakes}.items():
        parts = cut(samples, name)
        assert not {s.digest for s in parts.test} & learnt
        entry = next(e for e in study.data["sets"] if e["name"] == name)
        assert entry["test"] == {"n": len(parts.test), "digest": parts.test.digest}
    assert len(study.data["lessons"]) == 7 and len(study.data["cells"]) == 21


def test_what_was_learnt_of_bright_fakes_fails_on_dark_ones(judges, tmp_path):
    study = cross_matrix(["brightness"], real=grey(40, 115, 0), fakes=three(), out=tmp_path / "out")
    lessons = {e["lesson"]: e for e in study.data["lessons"]}
    auroc = {
        (lessons[c["lesson"]]["label"], c["tested_on"]): c["auroc"]["value"]
        for c in study.data["cells"]
        if lessons[c["lesson"]]["rule"] == "each"
    }
    assert auroc["bright", "bright"] > 0.95 and auroc["bright", "brighter"] > 0.95
    assert auroc["bright", "dark"] < 0.05 and auroc["dark", "dark"] > 0.95
    means = {(m["rule"], m["unseen"]): m["auroc"] for m in study.data["means"]}
    own = np.mean([auroc[name, name] for name in three()])
    others = np.mean([v for (row, column), v in auroc.items() if row != column])
    assert means["each", False]["value"] == pytest.approx(own) and means["each", True]["value"] == pytest.approx(others)
    assert "Hardest when unseen is dark" in " ".join(study.findings)
    assert f"a gap of {own - others:+.3f}" in " ".join(study.findings)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["index.html", "study.csv", "study.json", "study.md"]
    document = json.loads((tmp_path / "out" / "study.json").read_text("utf-8"))
    assert document["schema"] == "evalkit.matrix/1" and len(document["cells"]) == 18


def test_detectors_are_compared_on_the_same_draws(judges):
    study = cross_matrix(["brightness", "constant"], real=grey(40, 115, 0), fakes=three(), rules=["each"])
    (difference,) = study.data["differences"]
    means = {m["detector"]: m["auroc"]["value"] for m in study.data["means"] if m["unseen"]}
    assert means["constant"] == 0.5
    assert difference["auroc"]["value"] == pytest.approx(means["brightness"] - 0.5)
    assert any("constant (bright) gives every real sample" in w for w in study.warnings)
    again = cross_matrix(["brightness", "constant"], real=grey(40, 115, 0), fakes=three(), rules=["each"])
    assert again.data == study.data


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"fakes": {"a": grey(30, 150, 1)}}, BadSetting, "at least 2"),
        ({"fakes": {"a": grey(30, 150, 1), "b": grey(19, 80, 2)}}, TooFewSamples, "'b' has 19"),
        ({"fakes": {"a": grey(30, 150, 1), "b": grey(30, 150, 1)}}, BadSource, "30 of the 30"),
        ({"real": grey(10, 100, 0)}, TooFewSamples, "'real' has 10"),
        ({"n": 10}, TooFewSamples, "--n 10"),
        ({"detectors": ["brightness", "brightness"]}, BadSetting, "twice"),
        ({"detectors": []}, BadSetting, "no detector"),
        ({"detectors": ["brightnes"]}, UnknownName, "brightness"),
        ({"detectors": ["broken"]}, BadRows, "broken"),
        ({"families": {"a": "x", "z": "y"}}, BadSetting, "z"),
        ({"outputs": [Path("m.pdf")]}, BadSetting, "suffix"),
    ],
)
def test_what_is_refused(judges, change, error, words):
    given = {"detectors": ["brightness"], "real": grey(30, 110, 0)}
    given["fakes"] = {"a": grey(30, 150, 1), "b": grey(30, 80, 2)}
    given.update(change)
    with pytest.raises(error, match=words):
        cross_matrix(given.pop("detectors"), **given)


# The command ----------------------------------------------------------------------------------------------------------


def test_names_of_sources(tmp_path):
    folder = tmp_path / "a=b"
    folder.mkdir()
    assert named((f"gan={tmp_path}", str(folder))) == {"gan": str(tmp_path), "a=b": str(folder)}
    with pytest.raises(BadSetting, match="twice"):
        named(("gan=x", "gan=y"))
    with pytest.raises(BadSetting, match="NAME=SOURCE"):
        named(("gan=",))


def test_the_command_writes_what_it_is_asked_for(judges, tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    sets = {"real": grey(30, 110, 0), "a": grey(30, 150, 1), "b": grey(30, 80, 2)}
    for name, samples in sets.items():
        np.save(tmp_path / f"{name}.npy", np.stack([s.load() for s in samples]))
    paths = {name: str(tmp_path / f"{name}.npy") for name in sets}
    arguments = [
        "brightness",
        "--real",
        paths["real"],
        "--fake",
        f"x={paths['a']}",
        "--fake",
        paths["b"],
        "--normalise",
    ]
    arguments += ["--rule", "all-rules", "-o", str(tmp_path / "m.json"), "-q"]
    done = CliRunner().invoke(matrix, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "mean AUROC" in done.stdout
    document = json.loads((tmp_path / "m.json").read_text("utf-8"))
    assert [s["name"] for s in document["sets"]] == ["real", "x", "b"]
    assert document["preparation"].startswith("normalised/")
    # Of two generators each is all but the other, and their pair is all.
    assert {e["rule"] for e in document["lessons"]} == {"leave-one-out", "all"}
    for words in ("each is the same as leave-one-out", "pairs is the same as all", "leave-family-out was left out"):
        assert words in done.stdout
