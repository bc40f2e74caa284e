"""Which source an image comes from: attributors on sources whose marks are known, and the numbers around them."""

from __future__ import annotations

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from detectors._sources import threshold_for
from detectors.fingerprint import Fingerprint, autocorrelation_peaks, central, in_words, residual
from detectors.source_probe import SourceProbe
from evalkit import registry
from evalkit.commands.sources import attribute as command
from evalkit.errors import (
    BadRecord,
    BadSetting,
    BadSource,
    ModalityMismatch,
    TooFewSamples,
    UnknownName,
    UnreadableSample,
    UsageError,
)
from evalkit.measurement import Bench
from evalkit.samples import halves, select
from evalkit.samples.arrays import from_images, from_texts
from evalkit.sourcing.attributing import attribute, trained
from evalkit.sourcing.tables import Named, confusion, results
from evalkit.types import Attributor, Detector

BENCH = Bench(workers=1)
BOTH = [Fingerprint, SourceProbe]
SIDE = 16


def scenes(n, rng):
    """Smooth images with a little noise."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    slopes = rng.uniform(-60, 60, (n, 2, 1, 1, 1))
    base = 120 + slopes[:, 0] * y[:, :, None] + slopes[:, 1] * x[:, :, None]
    return base + rng.normal(0, 2, (n, SIDE, SIDE, 3))


def marked(name, n=60, seed=0, strength=4.0):
    """Images of the source `name`: its own fixed pattern added to fresh scenes; "plain" has none."""
    rng = np.random.RandomState(sum(map(ord, name)) * 1000 + seed)
    own = np.random.RandomState(sum(map(ord, name))).choice([-1.0, 1.0], (SIDE, SIDE, 3))
    images = scenes(n, rng) + (0 if name == "plain" else strength * own)
    return from_images(np.clip(np.rint(images), 0, 255).astype(np.uint8), name)


def rows_of(model, samples):
    return model(torch.stack([model.prepare(s.load()) for s in samples]))


@pytest.fixture(scope="module")
def fitted():
    """Each attributor fitted on three sources."""
    found = {}
    for cls in BOTH:
        found[cls] = cls()
        found[cls].fit_sources({name: marked(name) for name in ("ada", "bob", "cyd")}, seed=0)
    return found


# ---------------------------------------------------------------------------------------------- both attributors


@pytest.mark.parametrize("cls", BOTH)
def test_an_attributor_keeps_its_protocol_and_is_no_detector(cls, fitted):
    for model in (cls(), fitted[cls]):
        assert isinstance(model, Attributor) and not isinstance(model, Detector)
    assert fitted[cls].heads == {"sources": slice(0, 3), "typicality": slice(3, 6)}
    assert fitted[cls].sources == tuple(fitted[cls].evidence) == ("ada", "bob", "cyd")
    assert 0 < fitted[cls].reject < 0.2 and cls().recipe == fitted[cls].recipe


def test_fingerprints_name_the_source_of_fresh_images_and_turn_away_the_others(fitted):
    model = fitted[Fingerprint]
    for k, name in enumerate(model.sources):
        rows = rows_of(model, marked(name, 100, seed=1))
        assert (rows[:, :3].argmax(1) == k).float().mean() > 0.97
        assert (rows[:, 3 + k] < model.reject).float().mean() < 0.15
    for other in ("zoe", "plain"):
        rows = rows_of(model, marked(other, 100, seed=1))
        usual = rows[:, 3:].gather(1, rows[:, :3].argmax(1, keepdim=True))
        assert (usual < model.reject).float().mean() > 0.95


def test_the_probe_tells_statistics_apart_and_turns_away_what_is_like_none():
    def made(spread, seed):
        rng = np.random.RandomState(seed)
        return from_images(
            np.clip(scenes(80, rng) + rng.normal(0, spread, (80, SIDE, SIDE, 3)), 0, 255).astype(np.uint8)
        )

    model = SourceProbe()
    model.fit_sources({"calm": made(1, 0), "rough": made(6, 1)}, seed=0)
    rows = torch.cat([rows_of(model, made(1, 2)), rows_of(model, made(6, 3))])
    truth = torch.arange(2).repeat_interleave(80)
    assert (rows[:, :2].argmax(1) == truth).float().mean() > 0.97
    torch.testing.assert_close(rows[:, :2].sum(1), torch.ones(160))
    strange = rows_of(model, made(25, 4))
    # The regression is sure of it all the same: only the distance tells.
    assert strange[:, :2].max(1).values.mean() > 0.9
    assert (strange[:, 2:].gather(1, strange[:, :2].argmax(1, keepdim=True)) < model.reject).float().mean() > 0.95


def test_fresh_samples_of_known_sources_are_turned_away_one_time_in_twenty():
    shares = []
    for seed in range(12):
        model = Fingerprint()
        # A weak mark: scores of the sources overlap, and not every best source is the true one.
        model.fit_sources({name: marked(name, 40, seed=seed, strength=0.6) for name in ("ada", "bob")}, seed=seed)
        fresh = torch.cat([rows_of(model, marked(n, 100, seed=500 + seed, strength=0.6)) for n in ("ada", "bob")])
        usual = fresh[:, 2:].gather(1, fresh[:, :2].argmax(1, keepdim=True))
        shares.append(float((usual < model.reject).float().mean()))
    # Each is Beta(4, 77), deviation 0.024, and 200 draws of it: the mean of 12 has a standard error of 0.008.
    assert 0.01 < np.mean(shares) < 0.05 + 3 * 0.008


@pytest.mark.parametrize("cls", BOTH)
def test_same_seed_same_rows_alone_or_together_saved_or_not(cls, fitted, tmp_path):
    asked = marked("bob", 12, seed=3)
    before = np.random.get_state()[1].tolist()
    again = cls()
    again.fit_sources({name: marked(name) for name in ("ada", "bob", "cyd")}, seed=0)
    assert again.digest == fitted[cls].digest and np.random.get_state()[1].tolist() == before
    again.save(tmp_path)
    back = cls()
    back.load(tmp_path)
    together = rows_of(back, asked)
    assert torch.equal(together, rows_of(fitted[cls], asked))
    torch.testing.assert_close(together, torch.cat([rows_of(back, select(asked, [i])) for i in range(12)]))
    assert back.has_seen(next(iter(marked("ada"))).digest) and not back.has_seen(next(iter(asked)).digest)
    with pytest.raises(BadRecord):
        next(other for other in BOTH if other is not cls)().load(tmp_path)


@pytest.mark.parametrize("cls", BOTH)
def test_bad_sources_are_refused_in_one_line(cls):
    def fit(**sources):
        cls().fit_sources(sources, seed=0)

    with pytest.raises(BadSetting, match="two or more"):
        fit(ada=marked("ada"))
    with pytest.raises(TooFewSamples, match="'bob' has 19"):
        fit(ada=marked("ada"), bob=marked("bob", 19))
    with pytest.raises(BadSource, match="in common"):
        fit(ada=marked("ada"), bob=select(marked("ada"), range(30, 60)))
    with pytest.raises(ModalityMismatch):
        fit(ada=marked("ada"), bob=from_texts(["a"] * 30))
    small = from_images(np.random.RandomState(0).randint(0, 256, (30, 7, 9, 3)).astype(np.uint8))
    with pytest.raises(TooFewSamples, match="'bob' has 0"):
        fit(ada=marked("ada"), bob=small)


# ---------------------------------------------------------------------------------------------- the parts


def test_the_threshold_is_the_order_statistic_of_typicalities_by_hand():
    # One source against a hopeless other: typicalities of its 100 samples are 0.01, 0.02, ... of themselves.
    usual = np.stack([np.arange(100.0), np.full(100, -1.0)], axis=1)
    scores, truth = np.tile([1.0, 0.0], (100, 1)), np.zeros(100, dtype=np.int64)
    # floor(0.05 * 101) = 5: the fifth smallest.
    assert threshold_for(scores, usual, truth) == pytest.approx(0.05)
    assert threshold_for(scores[:10], usual[:10], truth[:10]) == 0.0


def test_the_residual_of_weak_noise_is_the_local_mean_taken_out_and_of_an_edge_is_damped():
    x = np.random.RandomState(0).normal(0, 1, (1, 20, 20))
    padded = np.pad(x[0], 1, mode="symmetric")
    mean = sum(padded[i : i + 20, j : j + 20] for i in range(3) for j in range(3)) / 9
    np.testing.assert_allclose(residual(x)[0], x[0] - mean, atol=1e-12)
    step = np.zeros((1, 6, 6))
    step[..., 3:] = 90.0
    # Beside the edge: 30 off the mean, variance 90^2 * 2 / 9 = 1800, so 30 * 9 / 1800.
    assert residual(step)[0, 3].tolist() == pytest.approx([0, 0, -0.15, 0.15, 0, 0])


def test_the_cut_is_central_and_keeps_the_phase_of_a_grid():
    image = np.zeros((100, 70, 3), np.uint8)
    image[32, 16] = 1
    part = central(image, [32, 32])
    assert part.shape == (32, 32, 3) and part[0, 0, 0] == 1
    with pytest.raises(UnreadableSample, match="70 x 100"):
        central(image, [32, 80])


def test_the_peaks_of_an_upsampling_grid_are_found_at_its_period():
    rng = np.random.RandomState(0)
    grid = np.tile(rng.randn(3, 8, 8), (1, 8, 8)) + 0.5 * rng.randn(3, 64, 64)
    assert {(abs(down) % 8, abs(across) % 8) for _, down, across in autocorrelation_peaks(grid)} == {(0, 0)}
    assert autocorrelation_peaks(rng.randn(3, 64, 64)) == []
    assert "no peak" in in_words(rng.randn(3, 64, 64))


def test_variants_of_the_probe_read_an_extractor():
    model = SourceProbe("random_conv")
    assert model.name == "source_probe:random_conv" and model.recipe != SourceProbe().recipe
    model.fit_sources({name: marked(name, 30, strength=20) for name in ("ada", "bob")}, seed=0)
    rows = rows_of(model, marked("bob", 40, seed=1, strength=20))
    assert (rows[:, 1] > rows[:, 0]).float().mean() > 0.9
    with pytest.raises(UnknownName):
        SourceProbe("random_comb")
    with pytest.raises(BadSetting, match="reads texts"):
        SourceProbe("char_ngrams")


# ---------------------------------------------------------------------------------------------- the numbers


def placed(truth, verdict, best=None, typicality=0.5):
    return Named(SimpleNamespace(id="x", digest="0"), best or verdict, 0.0, typicality, verdict, truth)


def test_confusion_and_accuracies_by_hand():
    found = [placed("a", "a")] * 6 + [placed("a", "b")] * 2 + [placed("a", "unknown", "a", 0.01)] * 2
    found += [placed("b", "b")] * 5 + [placed("new", "unknown", "b", 0.01)] * 3 + [placed("new", "a")]
    found += [placed(None, "a")]
    rows, counts = confusion(found, ("a", "b"))
    assert rows == ("a", "b", "new") and counts == ((6, 2, 2), (0, 5, 0), (1, 0, 3))
    value = {x["name"]: x["value"] for x in results(found, ("a", "b"))}
    assert value["closed_accuracy"] == pytest.approx(13 / 15)
    assert [x["name"] for x in results(found, ("a", "b", "c", "d")) if x.get("chance") == 0.25] == ["closed_accuracy"]
    assert value["accuracy"] == pytest.approx(14 / 19)
    assert value["balanced_accuracy"] == pytest.approx((0.6 + 1 + 0.75) / 3)
    assert (value["rejected_known"], value["rejected_unknown"]) == (pytest.approx(2 / 15), pytest.approx(3 / 4))
    # 3 of 4 new against 13 + 2 known: (3 (13 + 2 / 2) + 1 * 13 / 2) / (4 * 15).
    assert value["open_auroc"] == pytest.approx((3 * 14 + 6.5) / 60)


# ---------------------------------------------------------------------------------------------- the verb


def test_the_other_halves_are_judged_and_each_source_left_out(tmp_path):
    sets = [(name, marked(name)) for name in ("ada", "bob", "cyd")]
    outputs = [tmp_path / f"a.{suffix}" for suffix in ("json", "csv", "md", "html")]
    study = attribute(among=sets, leave_out=True, outputs=outputs, bench=BENCH)
    assert study.data["confusion"]["rows"] == ["ada", "bob", "cyd"] and len(study.data["samples"]) == 90
    value = {x["name"]: x["value"] for x in study.data["results"]}
    assert value["closed_accuracy"] > 0.95
    for left in study.data["leave_out"]:
        found = {x["name"]: x["value"] for x in left["results"]}
        assert found["rejected_unknown"] > 0.9 and found["open_auroc"] > 0.95 and found["rejected_known"] < 0.25
    fit = {s.digest for _, samples in sets for s in halves(samples)[0]}
    assert not fit & {one["sha256"] for one in study.data["samples"]}
    assert json.loads(outputs[0].read_text())["schema"] == "evalkit.attribute/1"
    assert sum(row[0] == "Samples" for row in csv.reader(outputs[1].open())) == 90 * 5


def test_a_kept_attributor_judges_others_and_refuses_what_it_learnt_from(tmp_path):
    sets = [(name, marked(name)) for name in ("ada", "bob")]
    fresh = marked("bob", 20, seed=9)
    first = attribute(fresh, sets, truth="bob", keep=tmp_path / "kept", bench=BENCH)
    truth = tmp_path / "truth.csv"
    truth.write_text("id,label\n" + "".join(f"{s.id},bob\n" for s in fresh))
    again = attribute(fresh, by=tmp_path / "kept", truth=str(truth), bench=BENCH)
    assert again.data == first.data and again.data["confusion"]["rows"] == ["bob"]
    with pytest.raises(BadSource, match="was fitted on"):
        attribute(marked("ada"), by=tmp_path / "kept", bench=BENCH)
    strange = attribute(marked("zoe", 20), by=tmp_path / "kept", truth="zoe", bench=BENCH)
    assert {x["name"]: x["value"] for x in strange.data["results"]}["accuracy"] > 0.8


def test_what_cannot_be_judged_is_refused_in_one_line(tmp_path):
    ada, bob = ("ada", marked("ada")), ("bob", marked("bob"))
    wrong = {
        "two or more": {"among": [ada]},
        "named twice": {"among": [ada, ada]},
        "cannot be called": {"among": [ada, ("unknown", marked("bob"))]},
        "are among those to judge": {"source": select(marked("ada"), range(20)), "among": [ada, bob]},
        "leaves one": {"among": [ada, bob], "leave_out": True},
        "give no SOURCE": {"source": marked("cyd"), "among": [ada, bob], "leave_out": True},
        "no more; attribute with": {"among": [ada, bob], "by": "spectrum"},
        "no labels": {"source": marked("cyd"), "among": [ada, bob], "truth": "group"},
        "names none": {"source": marked("cyd"), "among": [ada, bob], "truth": str(tmp_path / "t.csv")},
        "is no attributor folder": {"source": marked("cyd"), "by": tmp_path},
    }
    (tmp_path / "t.csv").write_text("id,label\nnobody,ada\n")
    for words, given in wrong.items():
        with pytest.raises(UsageError, match=words) as caught:
            attribute(**given, bench=BENCH)
        assert "\n" not in str(caught.value)


def test_a_fitted_attributor_is_found_again_by_content(tmp_path, monkeypatch):
    from evalkit.cache import Cache

    bench = Bench(workers=1, cache=Cache(tmp_path))
    sets = {name: marked(name, 24) for name in ("ada", "bob")}
    first = trained("fingerprint", sets, seed=0, bench=bench)
    monkeypatch.setattr(Fingerprint, "_learn_sources", None)
    assert trained("fingerprint", sets, seed=0, bench=bench).digest == first.digest


def test_the_listing_says_which_detectors_are_attributors():
    said = {x.name for x in registry.detectors.listings() if x.summary.startswith("Attributor: ")}
    assert said == {"fingerprint", "source_probe"}


def test_the_command_prints_the_matrix(tmp_path, monkeypatch):
    monkeypatch.setenv("EVALKIT_CACHE", str(tmp_path / "cache"))
    for name in ("ada", "bob"):
        np.save(tmp_path / f"{name}.npy", np.stack([s.load() for s in marked(name, 48)]))
    pairs = [word for name in ("ada", "bob") for word in ("--among", f"{name}={tmp_path / name}.npy")]
    done = CliRunner().invoke(command, [*pairs, "-q"], catch_exceptions=False)
    lines = done.output.splitlines()
    assert lines[0].startswith("48 samples: ada ") and lines[2].startswith("true | verdict")
    assert [sum(map(int, line.split()[1:])) for line in lines[3:5]] == [24, 24]
    # What marks a source is numbered statistics: for the files.
    assert "(chance 0.500); accuracy" in lines[1] and len(lines) == 5
    with pytest.raises(BadSetting, match="NAME=SOURCE"):
        CliRunner().invoke(command, ["--among", "ada"], catch_exceptions=False)
